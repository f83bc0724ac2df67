"""Whether training fits into its devices' memory, and what makes it fit: found by compiling."""

import dataclasses
from collections.abc import Callable, Sequence

import jax

from inr_gan_jax.config import Config
from inr_gan_jax.config.check import check_batch
from inr_gan_jax.costs.program import Program
from inr_gan_jax.errors import UserError
from inr_gan_jax.runtime.sharding import make_mesh
from inr_gan_jax.train.trainer import DoesNotFit, Trainer


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be compiled, for which devices; `say` is told what is about to take minutes."""

    config: Config
    class_counts: Sequence[int]
    dtype: str
    devices: Sequence[jax.Device]
    say: Callable[[str], None]

    def changed(self, *, microbatches: int, fsdp: int, remat: bool) -> "Job":
        """The same job with other settings."""
        train = dataclasses.replace(self.config.train, microbatches=microbatches, remat=remat)
        mesh = dataclasses.replace(self.config.mesh, fsdp=fsdp)
        config = dataclasses.replace(self.config, train=train, mesh=mesh)
        return dataclasses.replace(self, config=config)

    @property
    def kernels(self) -> str:
        """What evaluates grids, xla or pallas; `auto` is xla where nothing is timed."""
        return "pallas" if self.config.kernels == "pallas" else "xla"

    @property
    def flags(self) -> str:
        """Its settings, as a command line takes them."""
        train, mesh = self.config.train, self.config.mesh
        fsdp = f" --config.mesh.fsdp={mesh.fsdp}" if mesh.fsdp > 1 else ""
        remat = " --config.train.remat" if train.remat else ""
        return f"--config.train.microbatches={train.microbatches}{fsdp}{remat}"

    def check(self) -> None:
        """UserError for a batch that its devices cannot share."""
        train, group = self.config.train, self.config.discriminator.group
        check_batch(train.batch_size, train.microbatches, group, len(self.devices))


def measure(job: Job, first: Sequence[str] = ()) -> Program:
    """Compiles all phases and reads what they cost; those that do not fit are `refused`.

    Phases named in `first` come first, and if one of them does not fit, the rest is left out.
    Raises UserError for settings that the devices cannot share.
    """
    job.check()
    mesh = make_mesh(job.devices, fsdp=job.config.mesh.fsdp)
    means = {"dtype": job.dtype, "kernels": job.kernels}
    trainer = Trainer(job.config, job.class_counts, **means, mesh=mesh)
    refused = {}
    for phase in sorted(trainer.steps.due(0), key=lambda phase: phase.name.lower() not in first):
        name = phase.name.lower()
        job.say(f"compiling {name} ({job.flags}) ...")
        try:
            trainer.compile([phase])
        except DoesNotFit as error:
            refused[name] = error.needed
            if first:
                break
    return trainer.program(refused)


def search(job: Job, program: Program) -> tuple[Job, Program] | None:
    """The first settings that fit where the job's own do not, or None.

    Microbatches from few to many; then the most of them with images one by one (`remat`); then
    that with `fsdp` from little to much.
    """
    held = max(cost.held for cost in program.phases.values())
    most = job
    for candidate in _finer(job):
        most, program = candidate, _tried(candidate, program)
        if program.fits:
            return most, program
    for candidate in _cut(most):
        saved = held * (1 - job.config.mesh.fsdp / candidate.config.mesh.fsdp)
        if program.memory - saved <= program.hardware.memory:  # else it cannot be enough
            found = _tried(candidate, program)
            if found.fits:
                return candidate, found
    return None


def _tried(job: Job, program: Program) -> Program:
    job.say(f"does not fit; trying {job.flags}")
    return measure(job, first=tuple(program.refused))


def _finer(job: Job) -> list[Job]:
    train, fsdp = job.config.train, job.config.mesh.fsdp
    counts = range(train.microbatches + 1, train.batch_size // len(job.devices) + 1)
    candidates = [job.changed(microbatches=n, fsdp=fsdp, remat=train.remat) for n in counts]
    legal = [candidate for candidate in candidates if _is_legal(candidate)]
    most = (legal or [job])[-1].config.train.microbatches
    remat = [] if train.remat else [job.changed(microbatches=most, fsdp=fsdp, remat=True)]
    return legal + remat


def _cut(job: Job) -> list[Job]:
    train, devices = job.config.train, len(job.devices)
    counts = [n for n in range(job.config.mesh.fsdp + 1, devices + 1) if devices % n == 0]
    same = {"microbatches": train.microbatches, "remat": train.remat}
    return [job.changed(fsdp=n, **same) for n in counts]


def _is_legal(job: Job) -> bool:
    try:
        job.check()
    except UserError:
        return False
    return True
