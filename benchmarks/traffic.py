"""What a generator's forward pass moves through a TPU's memory, compiled for one that is not here.

Needs libtpu (`pip install -c constraints.txt -e .[tpu]`), and is run where it is named only. Bytes
of both programs are counted by costs.traffic; of the kernels also as the compiler counts them
(which takes a loop's body once and what stays in vector memory as traffic): there are no loops.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import SingleDeviceSharding

from benchmarks.networks import configured
from inr_gan_jax.costs.traffic import traffic
from inr_gan_jax.doctor.topology import devices
from inr_gan_jax.kernels.grid import grid as kernels
from inr_gan_jax.models import inr
from inr_gan_jax.models.discriminator import DiscriminatorBlock, DiscriminatorConfig
from inr_gan_jax.models.layers import Draws
from inr_gan_jax.models.networks import networks_of

IMAGES = 16
# Blocks of D that leave lanes empty: resolution, channels in and out; images.
BLOCKS, FEW = ((1024, 32, 64), (512, 64, 128)), 4


def rows() -> list[dict]:
    """INR-GAN 256, batch 16, bfloat16: bytes of plain XLA over those of the fused kernels.

    And D's blocks of few channels: cycles of plain convolutions over those on folded grids.
    """
    return [*_generators(), *_blocks()]


def _blocks() -> list[dict]:
    found = []
    for resolution, inputs, outputs in BLOCKS:
        for what in ("gradients", "R1"):
            plain, folded = (
                block(resolution, inputs, outputs, what, folded) for folded in (False, True)
            )
            told = [traffic(one.as_text()) for one in (plain, folded)]
            memory = [one.memory_analysis().temp_size_in_bytes / 2**30 for one in (plain, folded)]
            cycles, moved = [t.cycles / 1e6 for t in told], [t.bytes / 1e9 for t in told]
            found.append(
                {
                    "what": f"D's block at {resolution}, v5e, {FEW} images, {what}: plain / folded",
                    "ratio": cycles[0] / cycles[1],
                    "detail": f"{cycles[0]:.0f} / {cycles[1]:.0f} million cycles expected, "
                    f"{moved[0]:.1f} / {moved[1]:.1f} GB moved, "
                    f"{memory[0]:.1f} / {memory[1]:.1f} GiB",
                }
            )
    return found


def block(resolution: int, inputs: int, outputs: int, what: str, folded: bool):
    """A block's gradients, or those of R1 through it, in bfloat16, compiled for one v5e."""
    config = DiscriminatorConfig(height=resolution, width=resolution)
    first = (resolution, inputs, outputs) == BLOCKS[0]

    def make(rngs):
        return DiscriminatorBlock(config, resolution, inputs, outputs, first, rngs=rngs)

    graph, params = nnx.split(nnx.eval_shape(lambda: make(Draws())), nnx.Param)
    sharding = SingleDeviceSharding(devices("v5e:2x2")[0])
    x = jax.ShapeDtypeStruct((FEW, resolution, resolution, 3 if first else inputs), jnp.bfloat16)
    arrays = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), (params, x)
    )

    def loss(params, x):
        module = nnx.merge(graph, params)
        y, _ = module(None, x, folded=folded) if first else module(x, None, folded=folded)
        return jnp.sum(jnp.square(y.astype(jnp.float32)))

    def penalty(params, x):
        return jnp.sum(jnp.square(jax.grad(loss, 1)(params, x).astype(jnp.float32)))

    of = jax.grad(penalty) if what == "R1" else jax.grad(loss, (0, 1))
    return jax.jit(of).lower(*arrays).compile()


def _generators() -> list[dict]:
    found = []
    for topology in ("v5e:2x2", "v6e:2x2"):
        plain, fused = (compiled(topology, grid) for grid in (inr.grid, kernels))
        told = [traffic(one.as_text()) for one in (plain, fused)]
        moved = [one.bytes / IMAGES / 1e6 for one in told]
        near = told[1].near / IMAGES / 1e6
        counted = fused.cost_analysis()["bytes accessed"] / IMAGES / 1e6
        memory = [one.memory_analysis().temp_size_in_bytes / 2**20 for one in (plain, fused)]
        found.append(
            {
                "what": f"INR-GAN 256, {topology[:3]}, batch {IMAGES}: bytes of XLA / of kernels",
                "ratio": moved[0] / moved[1],
                "detail": f"{moved[0]:.0f} / {moved[1]:.0f} MB per image (kernels: "
                f"{counted:.0f} by the compiler's count, {near:.0f} in vector "
                f"memory only); temporary memory "
                f"{memory[0]:.0f} / {memory[1]:.0f} MiB",
            }
        )
    return found


def compiled(topology: str, grid):
    """Styles -> images on one chip; `grid` evaluates the coordinate networks."""
    config = configured("inr_gan")
    networks = networks_of(config.model, config.discriminator)
    sharding = SingleDeviceSharding(devices(topology)[0])
    ws = jax.ShapeDtypeStruct((IMAGES, networks.num_styles, config.model.w_dim), jnp.float32)
    shapes = (*jax.eval_shape(networks.init_generator, jax.random.key(0)), ws)
    arrays = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes
    )

    def make(params, buffers, ws):
        return networks.generator(params, buffers).image(ws, dtype=jnp.bfloat16, grid=grid)

    return jax.jit(make).lower(*arrays).compile()
