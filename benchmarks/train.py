"""Training: operations a second, as a part of what products of 2048x2048 matrices reach.

So a row carries over from one machine to another. Each phase is timed as it is compiled for a run,
the products before and after; lazy phases count as often as they run. Memory is what the programs
take as compiled: the greediest phase, arguments and code included. The network of 1024x1024 is not
run on a CPU, where it takes too long: its row tells its memory alone.
"""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.timing import SIDE, medians, product_rate
from inr_gan_jax.config import Config, base, parse
from inr_gan_jax.runtime.sharding import make_mesh, over_batch
from inr_gan_jax.train.means import quicker_dtype
from inr_gan_jax.train.trainer import Trainer

CONFIGS = Path(__file__).parent.parent / "configs"
# Configuration, images of a batch (as published where that fits), repeats.
CASES = {"small": (32, 7), "digits": (32, 9), "ffhq": (4, 1), "ffhq_1024": (4, 1)}
TOO_LONG = {"cpu": ("ffhq_1024",)}  # with 11 TFLOP an iteration of four images


def small():
    """32x32, 64 channels everywhere: 1,615,588 and 337,281 parameters.

    The released PyTorch code trained it at 68.4 images/s where products ran at 195 GFLOP/s.
    """
    config = base("inr_gan", height=32, width=32)
    config.data.source = "digits"
    model = config.model
    model.z_dim = model.w_dim = 128
    model.channel_base, model.channel_max = 2048, 64
    model.input_resolution, model.fine_from = 8, 32
    model.embedding_coarse.table = 32
    model.embedding_fine.random = model.embedding_fine.table = 16
    config.discriminator.channel_base, config.discriminator.channel_max = 2048, 64
    config.train.update(r1_gamma=0.5, dtype="float32")
    return config


def module_of(name: str):
    """A configuration file of this repository."""
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def configured(name: str, batch_size: int, **train) -> Config:
    """`small`, or a configuration of this repository, at another batch size."""
    config = small() if name == "small" else module_of(name).get_config()
    config.train.update(batch_size=batch_size, **train)
    return parse(config, num_classes=10 if config.data.labels else 0)


def trainer_of(name: str, batch_size: int) -> Trainer:
    """Its compiled phases, on all devices at hand."""
    return trainer_for(configured(name, batch_size))


def trainer_for(config: Config) -> Trainer:
    """Compiled phases, in the precision that a run would have."""
    dtype = config.train.dtype
    if dtype == "bfloat16" and jax.default_backend() == "cpu":  # as a run does
        dtype = quicker_dtype()
    counts = [100] * config.model.num_classes
    trainer = Trainer(config, counts, dtype=dtype, mesh=make_mesh(fsdp=config.mesh.fsdp))
    trainer.compile()
    return trainer


def phases_of(trainer: Trainer) -> dict[str, Callable]:
    """Each phase as a case, the state going from one to the next, as in a run."""
    state, batch = {"now": trainer.init(0)}, device_batch(trainer)

    def run(phase):
        state["now"], metrics = trainer.compiled[phase](state["now"], batch)
        return metrics, state["now"].images

    return {p.name.lower(): functools.partial(run, p) for p in trainer.steps.due(0)}


def device_batch(trainer: Trainer) -> dict[str, jax.Array]:
    """Grey images, whole ones where it trains on patches."""
    shapes = trainer.abstract_batch()
    batch = {name: jnp.zeros(s.shape, s.dtype) for name, s in shapes.items()}
    if "window" in batch:  # whole images
        side = max(trainer.config.model.height, trainer.config.model.width)
        batch["window"] = batch["window"].at[:, 0].set(side)
    return jax.device_put(batch, over_batch(trainer.mesh))


def rows() -> list[dict]:
    """A mean iteration's operations a second over those of products, and memory."""
    return [row(name) for name in CASES]


def row(name: str) -> dict:
    """Of one case."""
    batch_size, repeats = CASES[name]
    trainer = trainer_of(name, batch_size)
    program = trainer.program()
    memory = f"{program.memory / 2**30:.2f} GiB as compiled"
    what = f"{name}, batch {batch_size}, {trainer.steps.dtype}: "
    if name in TOO_LONG.get(jax.default_backend(), ()):
        ratio = program.memory / 2**30
        return {"what": f"{what}memory, GiB", "ratio": ratio, "detail": "not run here"}
    before = product_rate(trainer.steps.dtype)
    seconds = medians(phases_of(trainer), repeats)
    rate = (before + product_rate(trainer.steps.dtype)) / 2
    parts = []
    for phase, value in seconds.items():
        work = sum(program.phases[phase].flops.values())
        share = f" ({work / value / rate:.2f})" if work else ""
        parts.append(f"{phase} {value:.3g}{share}")
    mean = sum(program.phases[phase].runs * value for phase, value in seconds.items())
    return {
        "what": f"{what}operations a second / those of {SIDE}^3 products",
        "ratio": program.flops_per_image * batch_size / mean / rate,
        "detail": f"{batch_size / mean:.4g} images/s at {rate / 1e9:.0f} GFLOP/s, {memory}; "
        f"seconds: {', '.join(parts)}",
    }
