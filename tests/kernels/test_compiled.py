"""The kernels as TPUs would run them, compiled by libtpu: no TPU is needed."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from inr_gan_jax.config import base, parse
from inr_gan_jax.doctor.topology import devices
from inr_gan_jax.kernels import block
from inr_gan_jax.kernels.grid import grid
from inr_gan_jax.models.networks import networks_of

pytestmark = pytest.mark.tpu
IMAGES = 16


@pytest.fixture(autouse=True)
def as_users_compile():
    """All other tests want exact products, and programs soon."""
    for quick, precision in ((False, None), (True, "highest")):
        jax.config.update("jax_disable_most_optimizations", quick)
        jax.config.update("jax_default_matmul_precision", precision)
        if not quick:
            yield


def generator(family: str, topology: str, images: int):
    """(params, buffers, ws) -> images by kernels, and the shapes of what it takes, on one chip."""
    config = base(family)
    config.data.source = "digits"
    config = parse(config)
    networks = networks_of(config.model, config.discriminator)
    sharding = SingleDeviceSharding(devices(topology)[0])
    shapes = jax.eval_shape(networks.init_generator, jax.random.key(0))
    ws = jax.ShapeDtypeStruct((images, networks.num_styles, config.model.w_dim), jnp.float32)
    arrays = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), (*shapes, ws)
    )

    def make(params, buffers, ws):
        return networks.generator(params, buffers).image(ws, dtype=jnp.bfloat16, grid=grid)

    return make, arrays


def test_a_forward_pass_moves_little(monkeypatch):
    """At most 250 MB per image, by the compiler's count of all else and the kernels' own."""
    counted = []

    def count(operands, grid):  # and the compiler is told nothing
        counted.append(block_bytes(operands, grid))
        return 0

    block_bytes = block.moved_bytes
    monkeypatch.setattr(block, "moved_bytes", count)
    make, arrays = generator("inr_gan", "v5e:2x2", IMAGES)
    rest = jax.jit(make).lower(*arrays).compile().cost_analysis()["bytes accessed"]
    assert len(counted) == 7  # blocks
    per_image = (rest + sum(counted)) / IMAGES
    print(f"MB per image: {rest / IMAGES / 1e6:.1f} and kernels {sum(counted) / IMAGES / 1e6:.1f}")
    assert per_image < 250e6


@pytest.mark.parametrize("family", ["inr_gan", "cips", "paper"])
@pytest.mark.parametrize("topology", ["v5e:2x2", "v6e:2x2"])
def test_forward_and_backward_compile(family, topology):
    make, arrays = generator(family, topology, 2)

    def loss(params, buffers, ws):
        return jnp.sum(jnp.square(make(params, buffers, ws)))

    text = jax.jit(jax.grad(loss, (0, 2))).lower(*arrays).compile().as_text()
    assert text.count('custom_call_target="tpu_custom_call"') == 2 * (4 if family == "paper" else 7)
