"""The reader: what PyTorch wrote comes out as data."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from helpers import released
from helpers.audit import read
from helpers.environment import GOLDEN
from helpers.released import Call, Global, New, dump, ordered, tensor

from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.opcodes import Inert
from inr_gan_jax.foreign.unpickle import read_weights, state_dict


@pytest.mark.parametrize("name", ["weights-zip.pth", "weights-legacy.pth"])
def test_files_that_pytorch_wrote(name):
    weights = read_weights(GOLDEN / name)
    base = np.arange(24.0).reshape(4, 6)
    assert list(weights)[:2] == ["0.weight", "0.bias"] and len(weights) == 15
    for i, (key, array) in enumerate(list(weights.items())[:7]):
        assert not array.flags.writeable
        np.testing.assert_array_equal(array.ravel(), np.arange(array.size) + i, key)
    assert weights["0.weight"].shape == (3, 2, 1, 1)
    expected = {
        "half": np.arange(3, dtype=np.float16),
        "flag": np.array([True, False]),
        "part": base[1:3, 2:5].astype(np.float32),
        "turned": base.T.astype(np.float32),
        "parameter": np.ones(2, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "count": np.array(7),
    }
    for key, array in expected.items():
        assert weights[key].dtype == array.dtype
        np.testing.assert_array_equal(weights[key], array, key)
    assert weights["bf16"].dtype.name == "bfloat16"
    np.testing.assert_array_equal(weights["bf16"].astype(np.float32), [0, 1, 2])


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_both_dialects(write, protocol):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    settings_ = {"rank": 3, "res": {"8": {"scale": 0.5}}, "same": "${res}", "list": [1, None]}
    content = {
        "net": released.network("Net", {"a.weight": array, "a.resample_filter": array[0]}),
        "cfg": released.configuration(settings_),
        "easy": New(Global("dnnlib.util", "EasyDict")),
        "turned": tensor(array, size=(3, 2), stride=(1, 3)),
        "tail": tensor(array, offset=4, size=(2,), stride=(1,)),
        "number": Call(
            Global("numpy.core.multiarray", "scalar"),
            (Call(Global("numpy", "dtype"), ("f8", False, True)), struct.pack("<d", 2.5)),
        ),
    }
    got = read(write(dump(content, protocol)))
    assert isinstance(got["net"], Inert) and got["net"].name == "Net"
    arrays = state_dict(got["net"])
    assert list(arrays) == ["a.weight", "a.resample_filter"]
    np.testing.assert_array_equal(arrays["a.weight"], array)
    assert got["cfg"] == {**settings_, "same": {"8": {"scale": 0.5}}}
    assert got["easy"] == {} and got["number"] == 2.5
    np.testing.assert_array_equal(got["turned"], array.T)
    np.testing.assert_array_equal(got["tail"], [4, 5])


def test_numpy_arrays(write):
    arrays = {
        "a": np.arange(6).reshape(2, 3),
        "b": np.asfortranarray(np.eye(2)),
        "c": np.float32(3),
    }
    for protocol in (2, 3, 4):
        got = read(write(pickle.dumps(arrays, protocol)))
        for key, array in arrays.items():
            np.testing.assert_array_equal(got[key], array)


def test_truncated_and_foreign_files(write, tmp_path):
    data = {
        "x.pkl": dump({"net": released.network("N", {"w": np.ones(3, np.float32)})}),
        "x.pth": (GOLDEN / "weights-zip.pth").read_bytes(),
        "y.pth": (GOLDEN / "weights-legacy.pth").read_bytes(),
    }
    for name, whole in data.items():
        for size in [*range(0, len(whole), 97), len(whole) - 1]:
            with pytest.raises(UserError) as error:
                read(write(whole[:size], name))
            assert "\n" not in str(error.value)
    for foreign in (b"", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"<html>", b"PK\x03\x04junk"):
        with pytest.raises(UserError, match="no whole PyTorch checkpoint"):
            read(write(foreign))
    for missing in (tmp_path, tmp_path / "absent.pkl"):
        with pytest.raises(UserError, match="cannot be read"):
            read(missing)
    compressed = io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"a": "x" * 1000}, 2))
    with pytest.raises(UserError, match="compressed"):
        read(write(compressed.getvalue()))
    with pytest.raises(UserError, match="no dictionary"):
        read_weights(write(pickle.dumps([1])))
    with pytest.raises(UserError, match="is no tensor"):
        read_weights(write(pickle.dumps({"a": 1})))


def test_ordered_dictionaries_drop_their_attributes(write):
    weights = Call(Global("collections", "OrderedDict"), (), {"_metadata": ordered()})
    assert read(write(dump({"w": weights}))) == {"w": {}}
