"""Training: seconds per kimg, and the memory of a whole iteration, phase by phase.

Each phase is timed as it is compiled for a run; lazy phases count as often as they run. Memory is
what the programs take as compiled: the greediest phase, arguments and code included. The network
of 1024x1024 is not run on a CPU, where it takes too long: its row tells its memory alone.
"""

import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.timing import medians
from inr_gan_jax.config import Config, parse
from inr_gan_jax.runtime.sharding import make_mesh, over_batch
from inr_gan_jax.train.means import quicker_dtype
from inr_gan_jax.train.trainer import Trainer

CONFIGS = Path(__file__).parent.parent / "configs"
# Configuration, images of a batch (as published where that fits), repeats.
CASES = {"digits": (32, 9), "ffhq": (4, 1), "ffhq_1024": (4, 1)}
TOO_LONG = {"cpu": ("ffhq_1024",)}  # with 11 TFLOP an iteration of four images


def configured(name: str, batch_size: int, **train) -> Config:
    """A configuration of this repository, at another batch size."""
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.train.update(batch_size=batch_size, **train)
    return parse(config, num_classes=10 if config.data.labels else 0)


def trainer_of(name: str, batch_size: int) -> Trainer:
    """Its compiled phases, on all devices at hand."""
    config = configured(name, batch_size)
    dtype = config.train.dtype
    if dtype == "bfloat16" and jax.default_backend() == "cpu":  # as a run does
        dtype = quicker_dtype()
    counts = [100] * config.model.num_classes
    trainer = Trainer(config, counts, dtype=dtype, mesh=make_mesh(fsdp=config.mesh.fsdp))
    trainer.compile()
    return trainer


def seconds_per_iteration(trainer: Trainer, repeats: int) -> dict[str, float]:
    """Medians of each phase, the state going from one to the next, as in a run."""
    state = {"now": trainer.init(0)}
    shapes = trainer.abstract_batch()
    zeros = {name: jnp.zeros(s.shape, s.dtype) for name, s in shapes.items()}
    batch = jax.device_put(zeros, over_batch(trainer.mesh))

    def run(phase):
        state["now"], metrics = trainer.compiled[phase](state["now"], batch)
        return metrics, state["now"].images

    cases = {p.name.lower(): functools.partial(run, p) for p in trainer.steps.due(0)}
    return medians(cases, repeats)


def rows() -> list[dict]:
    """Main phases over a whole mean iteration; what lazy phases would cost at every step."""
    found = []
    for name, (batch_size, repeats) in CASES.items():
        trainer = trainer_of(name, batch_size)
        program = trainer.program()
        memory = f"{program.memory / 2**30:.2f} GiB as compiled"
        what = f"{name}, batch {batch_size}, {trainer.steps.dtype}: "
        if name in TOO_LONG.get(jax.default_backend(), ()):
            found.append({"what": f"{what}memory, GiB", "ratio": program.memory / 2**30,
                          "detail": "not run here"})  # fmt: skip
            continue
        seconds = seconds_per_iteration(trainer, repeats)
        mean = sum(program.phases[phase].runs * value for phase, value in seconds.items())
        kimg = 1000 * mean / batch_size
        parts = ", ".join(f"{phase} {value:.3g}" for phase, value in seconds.items())
        found.append(
            {
                "what": f"{what}all phases at every step / as lazy as they are",
                "ratio": sum(seconds.values()) / mean,
                "detail": f"{kimg:.4g} s/kimg, {memory}; seconds: {parts}",
            }
        )
    return found
