"""Hostile and damaged files: refused by name, in one line, and nothing is ever run."""

import io
import os
import pickle
import pickletools
import struct
import zipfile

import numpy as np
import pytest
from helpers import released
from helpers.audit import read
from helpers.environment import GOLDEN
from helpers.released import Call, Global, New, dump, load_from_bytes, storage_bytes, tensor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inr_gan_jax.errors import UserError


class Hostile:
    """An object whose pickle calls something."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


OS_SYSTEM = Call(Global("os", "system"), ("touch owned",))
OS_RMTREE = Call(Global("shutil", "rmtree"), ("x",))
GETATTR = Call(Global("builtins", "getattr"), (Global("torch", "FloatStorage"), "__class__"))
HOSTILE = {
    "os.system": lambda: dump(OS_SYSTEM),
    "posix.system": lambda: pickle.dumps(Hostile(os.system, "touch owned")),
    "builtins.exec": lambda: pickle.dumps({"G": [Hostile(exec, "raise SystemExit")]}),
    "builtins.eval": lambda: dump(Call(Global("builtins", "eval"), ("exit()",)), 2),
    "builtins.getattr": lambda: dump(Call(GETATTR, ())),
    "builtins.__import__": lambda: dump(Call(Global("builtins", "__import__"), ("os",))),
    "subprocess.Popen": lambda: dump(New(Global("subprocess", "Popen"), {"args": "ls"})),
    "pickle.loads": lambda: dump(Call(Global("pickle", "loads"), (b"",))),
    "torch.load": lambda: dump(Call(Global("torch", "load"), ("x",))),
    "torch.storage.os.system": lambda: dump(Call(Global("torch.storage", "os.system"), ("ls",))),
    "dnnlib.util.call_func_by_name": lambda: dump(Global("dnnlib.util", "call_func_by_name")),
    "os.execv": lambda: b"(S'/bin/ls'\nios\nexecv\n.",  # INST
    "os.popen": lambda: b"(cos\npopen\nS'ls'\no.",  # OBJ
    "shutil.rmtree": lambda: dump({"a": tensor(np.ones(2, np.float32)), "b": [OS_RMTREE]}),
    # Within a storage, as its object, and within one that is itself in a storage.
    "nt.system": lambda: dump(load_from_bytes(_hidden(Call(Global("nt", "system"), ("ls",))))),
    "os.remove": lambda: dump(
        tensor(np.ones(1, np.float32), storage=load_from_bytes(_hidden(_nested_remove())))
    ),
    "os.rmdir": lambda: dump(load_from_bytes(dump(Call(Global("os", "rmdir"), ("x",))))),
    "os.unlink": lambda: dump(
        Call(Global("torch._utils", "_rebuild_parameter"), (Call(Global("os", "unlink"), ("x",)),))
    ),
    "os.kill": lambda: dump(
        Call(
            Global("torch_utils.persistence", "_reconstruct_persistent_obj"),
            ({"type": "class", "class_name": "G", "state": Call(Global("os", "kill"), (1, 9))},),
        )
    ),
}


def _hidden(inner) -> bytes:
    return storage_bytes(np.ones(1, np.float32), inner)


def _nested_remove():
    return load_from_bytes(_hidden(Call(Global("os", "remove"), ("x",))))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_by_name(write, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(HOSTILE[name]())
    with pytest.raises(UserError) as refused:
        read(path)
    assert f"asks for {name}," in str(refused.value) and "\n" not in str(refused.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pkl"]


def test_hostile_pickle_in_a_zip(write):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", dump(OS_SYSTEM, 2))
    with pytest.raises(UserError, match=r"asks for os\.system,"):
        read(write(file.getvalue(), "x.pth"))


MISUSES = {
    "call of data": Call("os.system", ("ls",)),
    "attributes of a list": Call(Global("torch", "Size"), ([1],), {"x": 1}),
    "persistent id": released.Storage("1", np.ones(1, np.float32)),
    "tensor without storage": tensor(np.ones(1, np.float32), storage=None),
    "more elements than bytes": tensor(np.ones(2, np.float32), size=(3,)),
    "repeated elements": tensor(np.ones(2, np.float32), size=(1 << 40,), stride=(0,)),
    "huge tensor": tensor(np.ones(2, np.float32), size=(1 << 62, 1 << 62), stride=(1, 1)),
    "offset": tensor(np.ones(2, np.float32), offset=1),
    "negative stride": tensor(np.ones(2, np.float32), size=(2,), stride=(-1,)),
    "no numbers": tensor(np.ones(2, np.float32), size=("a",), stride=(1,)),
    "too many dimensions": tensor(np.ones(1, np.float32), size=(1,) * 99, stride=(1,) * 99),
    "storage of text": tensor(np.ones(1, np.float32), storage=load_from_bytes("x")),
    "list as a key": Call(Global("builtins", "set"), (1,)),
    "a network that is no class": Call(
        Global("torch_utils.persistence", "_reconstruct_persistent_obj"), ({"type": "module"},)
    ),
    "another encoding": Call(Global("_codecs", "encode"), ("x", "rot13")),
}


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_of_what_is_allowed(write, name):
    with pytest.raises(UserError, match="no whole PyTorch checkpoint"):
        read(write(dump({"x": MISUSES[name]})))


def test_state_cannot_be_set_on_classes(write):
    build = pickle.GLOBAL + b"torch\nFloatStorage\n" + pickle.EMPTY_DICT + pickle.BUILD
    with pytest.raises(UserError, match="sets the state of a Name"):
        read(write(b"\x80\x02" + build + b"."))


def test_claimed_sizes_are_checked_first(write):
    """Gigabytes that a few bytes claim are never allocated: one line comes at once."""
    lies = [
        storage_bytes(np.ones(1, np.float32)).replace(b"K\x01N", b"\x8a\x06\0\0\0\0\0\x01N"),
        storage_bytes(np.ones(1, np.float32))[:-12] + struct.pack("<q", 1 << 50) + b"\0" * 4,
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"abc",  # BINBYTES8
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",  # BYTEARRAY8
        b"\x80\x02Nr\xff\xff\xff\xff.",  # LONG_BINPUT: C's unpickler makes a memo of 64 GB
    ]
    for data in lies[:-1]:
        with pytest.raises(UserError):
            read(write(data))
        with pytest.raises(UserError):
            read(write(dump(load_from_bytes(data))))
    assert read(write(lies[-1])) is None
    once = load_from_bytes(storage_bytes(np.ones(1000, np.float32)))
    again = [Call(once.function, once.args) for _ in range(5)]
    with pytest.raises(UserError, match="more storages than it has bytes"):
        read(write(dump(again)))


def test_cyclic_and_deep_files(write):
    circle = released.configuration({"a": 1})
    circle.state["_content"] = circle
    deep = b"\x80\x02" + pickle.EMPTY_TUPLE + pickle.TUPLE1 * 200_000 + b"."
    nested = storage_bytes(np.ones(1, np.float32))
    for _ in range(5):
        nested = dump(load_from_bytes(nested))
    loop = "${a}"
    for data in (dump(circle), deep, nested, dump(released.configuration({"a": loop}))):
        with pytest.raises(UserError):
            read(write(data))
    inner: list = []
    inner.append(inner)
    assert read(write(pickle.dumps(inner)))[0] is not None


def test_numpy_objects_are_refused(write):
    for array in (np.array([{}, None], object), np.array(["text"]), np.zeros(1, [("a", "f4")])):
        for protocol in (2, 4):
            with pytest.raises(UserError, match="plain numbers only"):
                read(write(pickle.dumps({"a": array}, protocol)))


WHOLE = {
    "pickle": dump(
        {
            "net": released.network("N", {"a.w": np.ones((2, 3), np.float32)}),
            "cfg": released.configuration({"rank": 3, "res": {"8": 1.5}}),
        }
    ),
    "zip": (GOLDEN / "weights-zip.pth").read_bytes(),
    "legacy": (GOLDEN / "weights-legacy.pth").read_bytes(),
}


@pytest.mark.parametrize("kind", WHOLE)
@settings(
    max_examples=150,
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.data())
def test_flipped_bytes_never_run_anything(write, kind, data):
    damaged = bytearray(WHOLE[kind])
    flips = st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(flips, min_size=1, max_size=5)):
        damaged[place] = value
    try:
        read(write(bytes(damaged)))
    except UserError as error:
        assert "\n" not in str(error)


@settings(
    max_examples=150,
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    st.lists(
        st.sampled_from(
            [code.code.encode("latin1") for code in pickletools.opcodes]
            + [b"ctorch\nFloatStorage\n", b"ctorch.storage\n_load_from_bytes\n", b"cos\nsystem\n"]
            + [b"ctorch._utils\n_rebuild_tensor_v2\n", b"cnumpy\ndtype\n", b"K\x01", b"C\x02ab"]
        ),
        max_size=40,
    )
)
def test_random_programs_never_run_anything(write, opcodes):
    try:
        read(write(b"\x80\x04" + b"".join(opcodes) + b"."))
    except UserError as error:
        assert "\n" not in str(error)
