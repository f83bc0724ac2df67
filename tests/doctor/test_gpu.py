"""The programs of `benchmarks.gpu`, compiled for an H100 by jax's CUDA plugin: no GPU is needed."""

import jax
import pytest

from benchmarks.programs import CASES, PRECISIONS, images_of
from benchmarks.train import configured
from inr_gan_jax.costs.program import cost_of
from inr_gan_jax.doctor import topology
from inr_gan_jax.runtime.sharding import make_mesh
from inr_gan_jax.train.trainer import Trainer

pytestmark = pytest.mark.gpu_compile
MEMORY = 60 * 2**30  # of an H100's 79 GiB: what jax takes of them by default


@pytest.fixture(scope="module")
def device():
    return topology.devices("h100:1")[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_programs_compile_and_fit(case, device):
    what, name, batch, precision = case
    dtype, products = PRECISIONS[precision]
    with jax.default_matmul_precision(products):
        if what == "inference":
            image, shapes = images_of(name, batch, dtype)
            there = jax.sharding.SingleDeviceSharding(device)
            traced = jax.jit(image, in_shardings=there, out_shardings=there).trace(*shapes)
            costs = [cost_of(traced.lower().compile(), traced, 1.0)]
        else:
            microbatches = 4 if name == "ffhq_1024" or batch > 16 else 1
            config = configured(name, batch, microbatches=microbatches)
            trainer = Trainer(config, [], dtype=dtype, mesh=make_mesh([device]))
            trainer.compile()
            costs = trainer.program().phases.values()
    assert any(sum(cost.flops.values()) > 1e11 for cost in costs)
    for cost in costs:
        assert 0 < cost.held + cost.temporary < MEMORY
