"""Training as it would run on TPUs, compiled for them by libtpu: no TPU is needed, but minutes are.

A slice of 256 chips compiles as quickly as one of 4: each chip runs the same program.
"""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest
from helpers.environment import ROOT

from inr_gan_jax.config import parse
from inr_gan_jax.models.networks import networks_of

pytestmark = pytest.mark.tpu
SLICES = {"v5e:2x2": 16, "v5e:4x4": 64, "v5e:16x16": 1024}  # batch sizes: 4 images per chip


def gradient_bytes(config: str) -> dict[str, int]:
    """float32 gradients of what a phase learns."""
    spec = importlib.util.spec_from_file_location(config, ROOT / "configs" / f"{config}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parsed = parse(module.get_config())
    networks = networks_of(parsed.model, parsed.discriminator)
    g, _ = jax.eval_shape(networks.init_generator, jax.random.key(0))
    d = jax.eval_shape(networks.init_discriminator, jax.random.key(0))
    g, d = (4 * sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (g, d))
    return {"g_main": g, "d_main": d, "d_r1": d}


@pytest.mark.parametrize("slice_", SLICES)
@pytest.mark.parametrize("config", ["ffhq", "ffhq_1024"])
def test_training_is_compiled_fits_and_exchanges_its_gradients(config, slice_, tmp_path):
    """... or the report names the flags that make it fit; checked is what then would run."""
    command = [
        *(sys.executable, "-m", "inr_gan_jax.doctor", f"--config={ROOT}/configs/{config}.py"),
        *(f"--topology={slice_}", f"--config.train.batch_size={SLICES[slice_]}"),
        f"--json={tmp_path / 'report.json'}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["devices"] * 4 == told["batch_size"]
    if not told["fits"]:
        assert told["flags"] and told["flags"] in done.stdout
        told = told["fitting"]
    assert told["fits"] and told["memory"] <= told["hardware"]["memory"]
    assert 0 < told["seconds_at_least"] < told["seconds_expected"]
    gradients = gradient_bytes(config)
    exchanged = {name: cost["exchanged"] for name, cost in told["phases"].items()}
    assert exchanged.pop("finish") == {}
    assert exchanged.keys() == gradients.keys() - ({"d_r1"} if config == "ffhq_1024" else set())
    assert told["fsdp"] == 1
    for phase, kinds in exchanged.items():
        assert kinds == {"all-reduce": pytest.approx(gradients[phase], rel=0.01)}, phase
