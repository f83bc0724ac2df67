"""The benchmarks count what they say that they count. What they measure is no matter of tests."""

import importlib
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from helpers.environment import ROOT

from benchmarks import NAMED, SUITES
from benchmarks.inference import BATCH, products
from benchmarks.networks import configured
from inr_gan_jax.models.networks import networks_of


def test_the_bound_holds_all_products_of_the_model():
    """22.1 GFLOP an image is what the project always counts; heads multiply each weight once."""
    config = configured("inr_gan")
    networks = networks_of(config.model, config.discriminator)

    def emit(key):
        arrays = networks.init_generator(key)
        ws = jnp.zeros((BATCH, networks.num_styles, config.model.w_dim))
        return networks.generator(*arrays).inr_params(ws), arrays[0]["hypernet"]

    params, heads = jax.eval_shape(emit, jax.random.key(0))
    counted = products(params, config.model.w_dim)
    weights = [
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(heads)
        if [key.key for key in path][-2:] == ["affine", "weight"]
    ]
    flop = {"head": 0, "each": 0, "common": 0}
    for (outputs, inputs, positions, kind), times in counted.items():
        flop[kind] += 2 * outputs * inputs * positions * times
    per_image = flop["each"] + flop["common"]
    assert 21.5e9 < per_image < 22.1e9
    assert flop["head"] / BATCH == 2 * sum(weights) > 1e8


def test_every_suite_is_there():
    for name in (*SUITES, *NAMED):
        assert callable(importlib.import_module(f"benchmarks.{name}").rows)


def test_mistakes_are_told_in_one_line():
    command = [sys.executable, "-m", "benchmarks.run", "--suite=infrence"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and 'did you mean "inference"' in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_gpu_command_in_its_short_form(tmp_path):
    """Parity, ceilings, inference, training, gradients, each row in the file; a spent budget."""
    file = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--short", f"--json={file}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    for budget, last in ((480, "gradients of an iteration"), (1, "the budget ended here")):
        done = subprocess.run(
            [*command, f"--budget={budget}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        rows = json.loads(file.read_text())["rows"]
        assert rows[-1]["what"].startswith(last)
        assert len(done.stdout.splitlines()) == len(rows) + 1
        parity = [row["value"] for row in rows if row["what"].startswith("golden images")]
        assert parity and max(parity) < 1e-4
        if budget > 1:
            assert all(row["value"] > 0 for row in rows) and rows[-1]["value"] < 1e-4
            whats = [row["what"] for row in rows]
            assert all(any(w.endswith(kind) for w in whats) for kind in ("inference", "training"))


def test_without_a_gpu_it_says_so():
    command = [sys.executable, "-m", "benchmarks.gpu"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "jax sees no GPU" in done.stderr
    assert len(done.stderr.splitlines()) == 1
