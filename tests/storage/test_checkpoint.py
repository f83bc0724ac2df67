"""Checkpoints: exact round trips, every kind of damage, killed and failing saves."""

import contextlib
import json
import logging
import os
import resource
import subprocess
import sys
import textwrap
from hashlib import sha256
from pathlib import Path

import absl.logging
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.environment import ROOT, environment

from inr_gan_jax.errors import UserError
from inr_gan_jax.storage import checkpoint
from inr_gan_jax.storage.checkpoint import Checkpoints, locate


def make_state(seed: int = 0) -> dict:
    """A state with every kind of leaf that training has; incompressible, so files have a size."""
    key = jax.random.key(seed)
    model = {
        "params": {"dense": {"w": jax.random.normal(key, (64, 100)), "b": jnp.zeros((100,))}},
        "half": jax.random.normal(key, (33, 7), jnp.bfloat16),
        "empty": {},
    }
    training = {
        "count": jnp.int32(2**31 - 1 - seed),
        "key": jax.random.key_data(key),
        "flag": jnp.array(True),
        "special": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-45], jnp.float32),
    }
    return {"model": model, "training": training}


def parts(w) -> dict:
    """A state of one array in each part."""
    return {"model": {"w": w}, "training": {"n": jnp.int32(0)}}


def abstract(state) -> dict:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)


def assert_same_bits(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def save_steps(directory, steps, **options) -> None:
    with Checkpoints(directory, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step), {"kimg": step})


def tree_hash(directory: Path) -> dict[str, str | None]:
    """The SHA-256 of every file under `directory`; None for a folder."""
    return {
        str(p.relative_to(directory)): None if p.is_dir() else sha256(p.read_bytes()).hexdigest()
        for p in sorted(Path(directory).rglob("*"))
    }


def largest_array_file(folder: Path) -> Path:
    return max((p for p in (folder / "model").rglob("d/*")), key=lambda p: p.stat().st_size)


@contextlib.contextmanager
def captured_log(level: str):
    """The messages of one level; absl's logger may or may not propagate to pytest's."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    handler.setLevel(level)
    absl.logging.get_absl_logger().addHandler(handler)
    try:
        yield messages
    finally:
        absl.logging.get_absl_logger().removeHandler(handler)


def start(code: str, *args, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        cwd=ROOT,
        env=environment(**options),
        stdout=subprocess.PIPE,
        text=True,
    )


def test_round_trip_is_bit_exact(tmp_path):
    metadata = {"config": {"a": [1, 2.5, None, "x"]}, "images": 10**12}
    with Checkpoints(tmp_path / "new" / "checkpoints") as checkpoints:
        assert checkpoints.steps() == []
        assert checkpoints.restore(abstract(make_state())) is None
        checkpoints.save(7, make_state(), metadata)
        state, restored_metadata, step = checkpoints.restore(abstract(make_state()))
    assert step == 7 and restored_metadata == metadata
    assert_same_bits(state, make_state())
    files = tree_hash(checkpoints.directory / "7")
    manifest = json.loads((checkpoints.directory / "7" / "manifest.json").read_text())
    assert manifest.keys() == {f for f, digest in files.items() if digest} - {"manifest.json"}
    assert all(entry["sha256"] == files[name] for name, entry in manifest.items())


def test_metadata_alone(tmp_path):
    save_steps(tmp_path, [1, 2])
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.metadata() == {"kimg": 2}
        assert checkpoints.metadata(1) == {"kimg": 1}
        largest_array_file(tmp_path / "2").unlink()
        assert checkpoints.metadata() == {"kimg": 2}  # the arrays were not read
        (tmp_path / "2" / "metadata" / "metadata").write_text('{"kimg":3}')
        assert checkpoints.metadata() == {"kimg": 1}
        with pytest.raises(UserError, match="no checkpoint 5; there are"):
            checkpoints.metadata(5)


def test_buffers_may_be_donated_right_after_save(tmp_path):
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    state = parts(jax.random.normal(jax.random.key(0), (2000, 1000)))
    want = []
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(3):
            want.append(np.array(state["model"]["w"]))
            checkpoints.save(step, state, {})
            state = jax.block_until_ready(overwrite(state))
        for step in range(3):
            got, _, _ = checkpoints.restore(abstract(state), step)
            np.testing.assert_array_equal(got["model"]["w"], want[step])


def spoil(folder: Path, damage: str) -> str:
    """Spoils one file of a checkpoint and returns its name."""
    path = folder / "manifest.json" if "manifest" in damage else largest_array_file(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    kept = {"truncated": -100, "empty manifest": 0}.get(damage, len(content))
    path.write_bytes(content[:kept])
    if damage == "deleted":
        path.unlink()
    return path.name


@pytest.mark.parametrize(
    "damage", ["truncated", "deleted", "flipped", "flipped manifest", "empty manifest"]
)
def test_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, damage):
    save_steps(tmp_path, [10, 20])
    culprit = spoil(tmp_path / "20", damage)
    with Checkpoints(tmp_path) as checkpoints, captured_log("WARNING") as warnings:
        state, metadata, step = checkpoints.restore(abstract(make_state()))
        assert step == 10 and metadata == {"kimg": 10}
        assert_same_bits(state, make_state(10))
        [warning] = warnings
        assert f"{tmp_path}/20" in warning and (culprit in warning or "manifest" in damage)
        with pytest.raises(UserError, match="checkpoint 20 is damaged"):
            checkpoints.restore(abstract(make_state()), 20)
        checkpoints.save(20, make_state(20), {"kimg": 20})  # the run comes past that step again
        assert checkpoints.restore(abstract(make_state()))[2] == 20
        (tmp_path / "10" / "model" / "_METADATA").unlink()
        spoil(tmp_path / "20", damage)
        with pytest.raises(UserError, match="every checkpoint is damaged"):
            checkpoints.restore(abstract(make_state()))


def test_unfinished_saves_are_skipped_and_removed_unless_read_only(tmp_path):
    save_steps(tmp_path, [1, 2])
    (tmp_path / "2" / "manifest.json").unlink()
    (tmp_path / "3.orbax-checkpoint-tmp" / "model").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    before = tree_hash(tmp_path)
    with Checkpoints(tmp_path, keep=1, read_only=True) as checkpoints:
        assert checkpoints.steps() == [1]
        assert checkpoints.restore(abstract(make_state()))[2] == 1
        with pytest.raises(ValueError, match="read-only"):
            checkpoints.save(3, make_state(), {})
    assert Checkpoints(tmp_path / "absent", read_only=True).restore({}) is None
    assert tree_hash(tmp_path) == before
    with Checkpoints(tmp_path) as checkpoints:
        assert sorted(os.listdir(tmp_path)) == ["1", "notes"]
        checkpoints.save(2, make_state(2), {})
    assert checkpoints.steps() == [1, 2]


@pytest.mark.parametrize(
    "name, shape, dtype, message",
    [
        ("half", (33, 7), "float32", r"model/half is bfloat16\[33, 7\] there but float32\[33, 7\]"),
        (
            "half",
            (33, 8),
            "bfloat16",
            r"model/half is bfloat16\[33, 7\] there but bfloat16\[33, 8\]",
        ),
        ("more", (), "int32", r"model/more is absent there but int32\[\]"),
        ("params", (), "int32", r"model/params is absent there but int32\[\]"),
    ],
)
def test_another_state_is_refused(tmp_path, name, shape, dtype, message):
    save_steps(tmp_path, [1])
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match=message):
        wanted = abstract(make_state())
        wanted["model"][name] = jax.ShapeDtypeStruct(shape, dtype)
        checkpoints.restore(wanted)


def test_one_part_may_be_restored_alone(tmp_path):
    save_steps(tmp_path, [1])
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        wanted = {"model": abstract(make_state(1))["model"]}
        restored, metadata, _ = checkpoints.restore(wanted)
    assert_same_bits(restored, {"model": make_state(1)["model"]})
    assert metadata == {"kimg": 1}


def test_newest_are_kept_and_no_damaged_one_is_counted(tmp_path):
    save_steps(tmp_path, range(10, 60, 10), keep=4)
    assert sorted(os.listdir(tmp_path)) == ["20", "30", "40", "50"]
    for step in (30, 40, 50):
        spoil(tmp_path / str(step), "flipped")
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.restore(abstract(make_state()))[2] == 20
        checkpoints.save(35, make_state(35), {})
        checkpoints.wait()
        assert checkpoints.steps() == [20, 35, 40, 50]  # 30, damaged, was overtaken
        checkpoints.save(55, make_state(55), {})
    assert checkpoints.steps() == [35, 55]


def test_the_old_go_only_after_the_new_manifest(tmp_path, monkeypatch):
    save_steps(tmp_path, [1])
    monkeypatch.setattr(checkpoint.manifest, "write", lambda _: 1 / 0)
    with captured_log("ERROR") as errors, Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(2, make_state(2), {})
    assert os.listdir(tmp_path) == ["1"]
    assert any("CHECKPOINT 2 WAS NOT SAVED" in message for message in errors)


def test_saving_a_step_again_is_an_error(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1), {})
        with pytest.raises(ValueError, match="already has a checkpoint of step 1"):
            checkpoints.save(1, make_state(2), {})
        with pytest.raises(TypeError):
            checkpoints.save(2, make_state(2), {"x": object()})
        assert_same_bits(checkpoints.restore(abstract(make_state()))[0], make_state(1))


# orbax calls back into an event loop that it closed when the write failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_full_disk_is_loud_and_training_goes_on(tmp_path):
    with captured_log("ERROR") as errors, Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, make_state(1), {})
        checkpoints.wait()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # bytes that a file may have
        checkpoints.save(2, make_state(2), {})
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert any("CHECKPOINT 2 WAS NOT SAVED" in message for message in errors)
        assert os.listdir(tmp_path) == ["1"]
        assert_same_bits(checkpoints.restore(abstract(make_state()))[0], make_state(1))
        checkpoints.save(2, make_state(2), {})
    assert os.listdir(tmp_path) == ["2"]


def test_a_disk_too_small_is_seen_before_anything_is_written(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    with captured_log("ERROR") as errors, Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage)
        checkpoints.save(1, make_state(1), {})
        assert os.listdir(tmp_path) == []
        monkeypatch.undo()
        checkpoints.save(2, make_state(2), {})
    assert os.listdir(tmp_path) == ["2"]
    (message,) = errors
    assert message.startswith("CHECKPOINT 1 WAS NOT SAVED")
    assert message.endswith("the disk is full: 0.0 MB are needed, 0.0 MB are free")


def test_directory_that_vanishes_is_reported(tmp_path):
    directory = tmp_path / "checkpoints"
    with captured_log("ERROR") as errors, Checkpoints(directory) as checkpoints:
        directory.rmdir()
        directory.write_text("in the way")
        checkpoints.save(1, make_state(1), {})
        checkpoints.wait()
        assert any("CHECKPOINT 1 WAS NOT SAVED" in message for message in errors)
        directory.unlink()
        checkpoints.save(2, make_state(2), {})
    assert checkpoints.steps() == [2]


SAVE = """
    import sys, time, jax
    from inr_gan_jax.storage import checkpoint
    state = {"model": {"w": jax.random.normal(jax.random.key(0), (5000, 1000))},
             "training": {"n": jax.numpy.int32(0)}}
    checkpoints = checkpoint.Checkpoints(sys.argv[1])
    checkpoints.save(1, state, {})
    checkpoints.wait()
    if sys.argv[2] == "before manifest":
        checkpoint.manifest.write = lambda folder: (print("now", flush=True), time.sleep(60))
    checkpoints.save(2, state, {})
    if sys.argv[2] == "while writing":
        print("now", flush=True)
    if sys.argv[2] == "never":
        sys.exit(3)
    time.sleep(60)
"""


@pytest.mark.parametrize("moment", ["while writing", "before manifest"])
def test_killed_save(tmp_path, moment):
    process = start(SAVE, tmp_path, moment)
    assert process.stdout.readline() == "now\n"
    process.kill()
    process.wait()
    target = abstract(parts(jnp.zeros((5000, 1000))))
    with Checkpoints(tmp_path) as checkpoints:
        finished = checkpoints.steps()
        assert sorted(os.listdir(tmp_path)) == [str(s) for s in finished]
        assert finished in ([1], [1, 2]) and (finished == [1] or moment == "while writing")
        state, _, step = checkpoints.restore(target)
        checkpoints.save(step + 1, state, {})
    assert checkpoints.steps()[-1] == step + 1


def test_leaving_without_close_neither_hangs_nor_harms(tmp_path):
    assert start(SAVE, tmp_path, "never").wait(timeout=30) == 3
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() in ([1], [1, 2])
        assert sorted(os.listdir(tmp_path)) == [str(s) for s in checkpoints.steps()]


SHARDED = """
    import sys, jax, numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec
    from inr_gan_jax.storage.checkpoint import Checkpoints
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    target = {"model": {"w": jax.ShapeDtypeStruct((64, 3), np.float32, sharding=split)}}
    with Checkpoints(sys.argv[1]) as checkpoints:
        w = checkpoints.restore(target)[0]["model"]["w"]
        assert w.sharding == split and len(w.addressable_shards) == 2
        checkpoints.save(2, {"model": {"w": w + 1}, "training": {"n": w[0]}}, {})
"""


def test_another_topology(tmp_path):
    want = jax.random.normal(jax.random.key(0), (64, 3))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, parts(want), {})
    assert start(SHARDED, tmp_path, devices=2).wait(timeout=60) == 0
    state, _, step = Checkpoints(tmp_path, read_only=True).restore({"model": abstract({"w": want})})
    assert step == 2 and jnp.array_equal(state["model"]["w"], want + 1)


def test_locate(tmp_path, monkeypatch):
    folder = tmp_path / "run" / "checkpoints"
    save_steps(folder, [1, 20])
    assert locate(tmp_path / "run") == (folder, None)
    assert locate(folder) == (folder, None)
    assert locate(f"{folder}/20/") == (folder, 20)
    monkeypatch.chdir(folder / "1")
    assert locate(".") == (folder, 1)
    (folder / "20" / "manifest.json").unlink()
    (tmp_path / "file").write_text("")
    for path, message in {
        tmp_path / "absent": "no such folder",
        tmp_path / "file": "not a folder",
        tmp_path: "no finished checkpoint",
        folder / "20": "no finished checkpoint",
    }.items():
        with pytest.raises(UserError, match=message) as error:
            locate(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
