"""The command: released files to workdirs that all commands take, and generators to files."""

import json
import os
import subprocess
import sys
import zipfile
from io import BytesIO

import jax
import numpy as np
import pytest
from flax import traverse_util
from helpers import released
from helpers.environment import GOLDEN, ROOT, environment
from helpers.golden import load as golden_arrays
from helpers.golden import nhwc, relative
from PIL import Image
from safetensors import safe_open

import inr_gan_jax
from inr_gan_jax.config import parse
from inr_gan_jax.convert.files import convert
from inr_gan_jax.convert.workdir import write_workdir
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.kinds import open_published
from inr_gan_jax.model import Model

SNAPSHOT = GOLDEN / "network-snapshot.pkl"


def run(module: str, *args, expect: int = 0, cwd=ROOT) -> str:
    """The output of `python -m module args`, stderr where it is to fail."""
    env = environment(JAX_DEFAULT_MATMUL_PRECISION="highest")
    command = [sys.executable, "-m", module, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stderr if expect else done.stdout


@pytest.fixture(scope="module")
def expected():
    return dict(np.load(GOLDEN / "network-snapshot-expected.npz"))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """The golden snapshot, converted by the command."""
    folder = tmp_path_factory.mktemp("runs") / "golden run"
    said = run("inr_gan_jax.convert", f"--source={SNAPSHOT}", f"--dest={folder}")
    assert "optimisers start fresh" in said and "inr_gan 32x32" in said
    return folder


def test_golden_through_the_commands(workdir, expected, tmp_path):
    np.save(tmp_path / "z.npy", expected["z"])
    run(
        "inr_gan_jax.generate",
        *(f"--checkpoint={workdir}", f"--latents={tmp_path / 'z.npy'}", "--format=npy"),
        *("--truncation=0.7", f"--outdir={tmp_path}"),
    )
    images = np.load(tmp_path / "images.npy")
    assert relative(images, nhwc(expected["image_ema_trunc07"])) < 1e-4


def test_golden_through_load(workdir, expected):
    model = inr_gan_jax.load(workdir)
    assert model.images_seen == 0
    assert relative(model.images(expected["z"]), nhwc(expected["image_ema"])) < 1e-4


@pytest.mark.slow
def test_training_goes_on(workdir, tmp_path):
    """The printed command, with a data set: the networks of the file are what it starts from."""
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for i in range(8):
            file = BytesIO()
            pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(file, "png")
            archive.writestr(f"{i}.png", file.getvalue())
    flags = (
        *(f"--config={workdir / 'config.py'}", f"--workdir={workdir}"),
        *(f"--config.data.source={tmp_path / 'images.zip'}", "--config.train.batch_size=4"),
        *("--config.train.kimg=0.004", "--config.log.grid_kimg=0", "--config.train.g_lr=1e-9"),
        "--config.train.r1_gamma=0",  # one program less to compile
    )
    before = inr_gan_jax.load(workdir / "checkpoints" / "0")
    run("inr_gan_jax.main", *flags)
    after = inr_gan_jax.load(workdir)
    assert after.images_seen == 4
    seeds = range(4)
    assert relative(after.images(seeds=seeds), before.images(seeds=seeds)) < 1e-2
    # From now on it is the run of that data set, like any other.
    identity = json.loads((workdir / "run.json").read_text())["identity"]
    assert identity["config.data.content"] and identity["config.data.mirror"]


def test_configuration_file(workdir):
    published = open_published(SNAPSHOT)
    scope: dict = {}
    exec((workdir / "config.py").read_text(), scope)
    assert parse(scope["get_config"]()) == published.config


def test_classes_and_image_count(tmp_path):
    """A class-conditional checkpoint: classes are drawn alike, and the count is the user's."""
    path = tmp_path / "x.pkl"
    path.write_bytes(released.golden_checkpoint("inr_gan_cond", "resnet_cond"))
    write_workdir(open_published(path), tmp_path / "run", images=3000)
    model = inr_gan_jax.load(tmp_path / "run")
    assert model.class_counts == (1, 1, 1) and model.images_seen == 3000
    golden = golden_arrays("generator_inr_gan_cond")
    styles = model.styles(golden["z"], classes=golden["c"].argmax(-1))
    assert relative(styles, golden["ws"]) < 1e-4


def test_safetensors(workdir, expected, tmp_path):
    """Arrays and metadata are all that it takes to have the model again."""
    for i, source in enumerate((SNAPSHOT, workdir / "checkpoints" / "0")):
        path = tmp_path / f"made{i}" / "x.safetensors"
        convert(source, path)
        with safe_open(path, "np") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = parse(json.loads(metadata["config"]))
        assert json.loads(metadata["class_counts"]) == [] and metadata["images"] == "0"
        w_avg = arrays.pop("w_avg")
        arrays = traverse_util.unflatten_dict(arrays, sep=".")
        model = Model(config, {}, {}, w_avg)
        templates = jax.eval_shape(model.networks.init_generator, jax.random.key(0))
        params, buffers = (_like(template, arrays) for template in templates)
        model = model.with_arrays(params, buffers, w_avg)
        assert relative(model.images(expected["z"]), nhwc(expected["image_ema"])) < 1e-4


def _like(template, arrays):
    """The part of nested `arrays` that has the names of `template`."""
    if not isinstance(template, dict):
        return arrays
    return {key: _like(child, arrays[key]) for key, child in template.items()}


ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"inr_gan_jax", "flax", "orbax", "etils", "absl", "optax"}:
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
import jax, jax.export, numpy as np
jax.config.update("jax_disable_most_optimizations", True)
for folder in sys.argv[1:]:
    call = jax.jit(jax.export.deserialize(open(f"{folder}/x.stablehlo", "rb").read()).call)
    given = np.load(f"{folder}/given.npz")
    inputs = [given[k] for k in ("z", "c") if k in given]
    for psi in (1.0, 0.7):
        np.save(f"{folder}/{psi}.npy", call(*inputs, np.float32(psi)))
one = call(*(x[:1] for x in inputs), np.float32(1))  # another batch size
assert one.shape[0] == 1
"""


def test_stablehlo_runs_without_this_package(expected, tmp_path):
    images = {}
    for name in ("snapshot", "inr_gan_cond", "stylegan2"):
        folder, source = tmp_path / name, SNAPSHOT
        given = {"z": expected["z"]}
        images[name] = {"1.0": expected["image_ema"], "0.7": expected["image_ema_trunc07"]}
        folder.mkdir()
        if name != "snapshot":
            golden = golden_arrays(f"generator_{name}")
            given = {k: golden[k].astype(np.float32) for k in ("z", "c") if k in golden}
            images[name] = {"1.0": golden["image"], "0.7": golden["image_trunc07"]}
            source = folder / "x.pkl"
            discriminator = "resnet_cond" if "c" in given else "resnet"
            source.write_bytes(released.golden_checkpoint(name, discriminator))
        said = convert(source, folder / "x.stablehlo")
        assert any("cpu, cuda, tpu" in line for line in said)
        np.savez(folder / "given.npz", **given)
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    command = [sys.executable, "-I", script, *(tmp_path / name for name in images)]
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "XLA_FLAGS")}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, wanted in images.items():
        for psi, image in wanted.items():
            assert relative(np.load(tmp_path / name / f"{psi}.npy"), nhwc(image)) < 1e-4


MISTAKES = {
    ("absent.pkl", "new"): "no such file",
    ("hostile.pkl", "new"): "asks for os.system,",
    ("SNAPSHOT", "used"): "in use",
    ("SNAPSHOT", "new.onnx"): "no .onnx is written here; give --dest=x.safetensors or",
    ("used", "new.PTH"): "no .PTH is written here",
    ("SNAPSHOT", "file"): "in use",
    ("SNAPSHOT", "file/x"): "cannot be written",
    ("SNAPSHOT", "file/x.safetensors"): "cannot be written",
    ("used", "new"): "is no file",
    ("used", "new.safetensors"): "no finished checkpoint",
    ("used/x", "new.stablehlo"): "x is empty: the download failed",
}


def test_mistakes_are_one_line(tmp_path):
    call = released.Call(released.Global("os", "system"), (f"touch {tmp_path / 'owned'}",))
    (tmp_path / "hostile.pkl").write_bytes(released.dump({"G": call}))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "x").touch()
    (tmp_path / "file").touch()
    for (source, dest), says in MISTAKES.items():
        with pytest.raises(UserError) as error:
            convert(SNAPSHOT if source == "SNAPSHOT" else tmp_path / source, tmp_path / dest)
        assert says in str(error.value) and "\n" not in str(error.value)
    said = run(
        "inr_gan_jax.convert", f"--source={tmp_path}/hostile.pkl", f"--dest={tmp_path}/x", expect=2
    )
    assert said.startswith("error: ") and "os.system" in said and said.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "hostile.pkl", "used"]
