"""The cache of statistics: hits, damage, other processes, and folders that refuse."""

import hashlib
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inr_gan_jax.metrics.cache import cached, keep, lookup
from inr_gan_jax.metrics.statistics import Moments, frechet_distance
from inr_gan_jax.storage import paths

KEY = {"data": "abc", "detector": "pixel", "options": {"size": [32, 16], "eps": 1e-4, "x": None}}
ARRAYS = {
    "mean": np.linspace(0, 1, 7),
    "scatter": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "count": np.array(5),
    "empty": np.zeros((0, 3), np.int8),
    "file": np.array([True, False]),  # np.savez has an argument of this name
}


class Maker:
    """Counts how often it was asked."""

    def __init__(self, arrays=ARRAYS):
        self.arrays, self.count = arrays, 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.count += 1
        return self.arrays


def assert_same(found: dict, expected: dict = ARRAYS) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, strict=True)


def only_file(directory: Path) -> Path:
    (path,) = (directory / "statistics").iterdir()
    return path


def test_computed_once(tmp_path, caplog):
    make = Maker()
    assert_same(cached(KEY, make, tmp_path))
    assert_same(cached(KEY, make, tmp_path))
    assert make.count == 1
    text = '{"data":"abc","detector":"pixel","options":{"eps":0.0001,"size":[32,16],"x":null}}'
    assert only_file(tmp_path).name == hashlib.sha256(text.encode()).hexdigest() + ".npz"
    reordered = dict(reversed(KEY.items()))
    assert_same(cached(reordered, make, str(tmp_path)))
    assert make.count == 1
    other = Maker({"mean": np.ones(2)})
    assert_same(cached(KEY | {"detector": "vgg16"}, other, tmp_path), other.arrays)
    assert_same(cached(KEY, make, tmp_path))
    assert (make.count, other.count, caplog.records) == (1, 1, [])


def test_looking_up_and_keeping_are_what_cached_does(tmp_path):
    assert lookup(KEY, tmp_path) is None
    keep(KEY, ARRAYS, tmp_path)
    never = Maker()
    assert_same(cached(KEY, never, tmp_path))
    assert_same(lookup(KEY, tmp_path))
    assert lookup(KEY | {"detector": "vgg16"}, tmp_path) is None and never.count == 0


def test_the_default_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("INR_GAN_JAX_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert str(paths.cache_root()) == str(tmp_path / ".cache" / "inr_gan_jax")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert str(paths.cache_root()) == str(tmp_path / "xdg" / "inr_gan_jax")
    monkeypatch.setenv("INR_GAN_JAX_CACHE", "~/here")
    make = Maker()
    for _ in range(2):
        assert_same(cached(KEY, make))
    assert make.count == 1 and only_file(tmp_path / "here").suffix == ".npz"


def test_moments_come_back_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    moments, other = Moments(5), Moments(5)
    moments.add(rng.standard_normal((9, 5)))
    other.add(rng.standard_normal((8, 5)))
    expected = frechet_distance(moments, other)
    for _ in range(2):
        found = Moments.from_arrays(cached(KEY, moments.to_arrays, tmp_path))
        assert frechet_distance(found, other) == expected
        np.testing.assert_array_equal(found.covariance, moments.covariance)


def damages(whole: bytes) -> dict[str, bytes]:
    """Files that are not what was written."""
    at = whole.index(np.float64(1 / 6).tobytes())  # within an array
    return {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "short": whole[:-1],
        "text": b"<html>404</html>",
        "one number": whole[:at] + b"\x01" + whole[at + 1 :],
        "pickle": pickle.dumps(ARRAYS),
    }


@pytest.mark.parametrize(
    "name",
    ["empty", "half", "short", "text", "one number", "pickle", "array", "key", "sum", "less"],
)
def test_a_damaged_file_is_made_anew(name, tmp_path, caplog):
    make = Maker()
    cached(KEY, make, tmp_path)
    path = only_file(tmp_path)
    with np.load(path) as file:
        entries = dict(file)
    if name == "array":  # sound as a file, but not what was written
        np.savez(path, **entries | {"arrays/mean": entries["arrays/mean"] + 1e-9})
    elif name == "key":
        np.savez(path, **entries | {"key": np.array("{}")})
    elif name == "sum":
        np.savez(path, **entries | {"sha256": np.array("0" * 64)})
    elif name == "less":
        del entries["arrays/mean"]
        np.savez(path, **entries)
    else:
        path.write_bytes(damages(path.read_bytes())[name])
    assert_same(cached(KEY, make, tmp_path))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert str(path) in message and "cannot be used and is made anew" in message
    assert "\n" not in message and len(message) < len(str(path)) + 300
    assert_same(cached(KEY, make, tmp_path))
    assert make.count == 2 and len(caplog.records) == 1


def test_every_flipped_byte_of_an_array_is_seen(tmp_path):
    """Bits that zip's own sum covers, and those that it does not: nothing wrong is returned."""
    cached(KEY, Maker(), tmp_path)
    path = only_file(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(whole), 60):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        assert_same(cached(KEY, Maker(), tmp_path))


def test_no_pickle_is_ever_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    cached(KEY, Maker(), tmp_path)
    path = only_file(tmp_path)
    with np.load(path) as file:
        entries = dict(file)
    np.savez(path, **entries | {"arrays/mean": np.array([Trap()], object)})
    make = Maker()
    assert_same(cached(KEY, make, tmp_path))
    assert make.count == 1 and not (tmp_path / "sprung").exists()


def test_what_cannot_be_kept_is_refused(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        cached({"data": Path("x")}, Maker(), tmp_path)
    for array in (np.array([{}]), np.array(["a"]), np.zeros(2, [("a", "f4")])):
        with pytest.raises(ValueError, match="bad is an array of .*, not of numbers"):
            cached(KEY, Maker({"bad": array}), tmp_path)

    def fail():
        raise RuntimeError("no such data")

    with pytest.raises(RuntimeError, match="no such data"):
        cached(KEY, fail, tmp_path)
    assert not (tmp_path / "statistics").exists()


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path):
    """In a process of its own: only the first time is worth a line."""
    (tmp_path / "file").write_text("not a folder")
    code = (
        "import sys, numpy as np\n"
        "from inr_gan_jax.metrics.cache import cached\n"
        "for k in range(3):\n"
        "    made = cached({'k': k}, lambda: {'x': np.arange(3)}, sys.argv[1])\n"
        "    assert list(made['x']) == [0, 1, 2]\n"
        "assert 'jax' not in sys.modules\n"
    )
    folder = str(tmp_path / "file" / "cache")
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"{folder}/statistics cannot be written (Not a directory)" in line


def test_a_folder_without_permission(tmp_path):
    (tmp_path / "statistics").mkdir(mode=0o555)
    if os.access(tmp_path / "statistics", os.W_OK):
        pytest.skip("root may write anywhere")
    make = Maker()
    for _ in range(2):
        assert_same(cached(KEY, make, tmp_path))
    assert make.count == 2


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(file, **_):
        file.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert_same(cached(KEY, Maker(), tmp_path))
    assert not list((tmp_path / "statistics").iterdir())


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from inr_gan_jax.metrics.cache import cached

folder, number = Path(sys.argv[1]), sys.argv[2]
(folder / f"ready{number}").touch()
while len(list(folder.glob("ready*"))) < 3:
    time.sleep(0.001)
for k in range(25):
    def make():
        time.sleep(0.002)
        return {"x": np.full(200_000, k), "made": np.array(1)}
    for _ in range(2):
        assert (cached({"k": k}, make, folder)["x"] == k).all()
print("done")
"""


def test_processes_that_write_at_once_all_find_whole_files(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(3)
    ]
    for writer in writers:
        assert writer.communicate(timeout=60)[0] == "done\n"  # without a warning, either
    files = list((tmp_path / "statistics").iterdir())
    assert len(files) == 25 and all(file.suffix == ".npz" for file in files)
    never = Maker()
    for k in range(25):
        assert (cached({"k": k}, never, tmp_path)["x"] == k).all()
    assert never.count == 0


def test_a_cache_in_a_cloud(monkeypatch):
    from etils.epath import backend
    from fsspec.implementations.memory import MemoryFileSystem

    class Bucket(MemoryFileSystem):
        store, pseudo_dirs = {}, [""]  # its own, not all memory's

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(str(path).removeprefix("gs://"))

    cloud = Bucket()
    monkeypatch.setattr(backend.fsspec_backend, "fs", lambda path: cloud)
    monkeypatch.setenv("INR_GAN_JAX_CACHE", "gs://bucket/cache")
    make = Maker()
    for _ in range(2):
        assert_same(cached(KEY, make))
    assert make.count == 1
    (name,) = cloud.store
    assert name.startswith("/bucket/cache/statistics/") and name.endswith(".npz")
