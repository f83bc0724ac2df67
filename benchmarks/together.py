"""Runs that differ by their seeds alone, trained as one program.

For a GPU, where networks of a few channels wait for the host: a step takes all runs at once, and
as long as it takes one. Afterwards each is a run like any other, which its own command opens.
"""

import collections
import contextlib
import dataclasses
import functools
import operator
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from inr_gan_jax.cli.config import opened
from inr_gan_jax.data.pipeline import batches
from inr_gan_jax.errors import UserError
from inr_gan_jax.models.networks import networks_of
from inr_gan_jax.runtime.devices import use_compilation_cache
from inr_gan_jax.runtime.sharding import make_mesh
from inr_gan_jax.storage.checkpoint import FOLDER, Checkpoints
from inr_gan_jax.train import workdir
from inr_gan_jax.train.loop import metadata_of
from inr_gan_jax.train.recipe import Phase
from inr_gan_jax.train.state import TrainState, checkpoint_items
from inr_gan_jax.train.step import Steps
from inr_gan_jax.train.trainer import Trainer

AHEAD = 8  # iterations that the host may be ahead of the device


def train(drafts: Sequence[ConfigDict], workdirs: Sequence[Path], points: int) -> None:
    """Trains a fresh run in each workdir, its configuration at the same place, on one device.

    The configurations may differ in `seed` alone. `points` checkpoints are kept of each, evenly,
    the last at config.train.kimg.

    Raises UserError for what is wrong with a configuration, its data or its workdir, for a workdir
    that has a checkpoint, and for losses that are no numbers.
    """
    use_compilation_cache()
    for folder in workdirs:
        if (folder / FOLDER).exists():
            raise UserError(f"{folder} has been trained; its own command goes on with it")
    with contextlib.ExitStack() as stack:
        runs = [
            _Run(stack, draft, folder, points)
            for draft, folder in zip(drafts, workdirs, strict=True)
        ]
        trainer = Trainer(
            runs[0].config,
            runs[0].class_counts,
            dtype=runs[0].means.dtype,
            kernels=runs[0].means.kernels,
            mesh=make_mesh(jax.devices()[:1]),
        )
        state = jax.tree.map(lambda *a: jnp.stack(a), *[trainer.init(r.config.seed) for r in runs])
        seeds = jnp.asarray([run.config.seed for run in runs], jnp.uint32)
        steps = _compiled(trainer, seeds, state)
        started, size = time.monotonic(), runs[0].config.train.batch_size
        total, last = max(round(runs[0].config.train.kimg * 1000), 1), collections.deque()
        marks = [total * (i + 1) / points for i in range(points)]
        images = iteration = 0
        while images < total:
            batch = jax.tree.map(lambda *rows: np.stack(rows), *[next(r.reader) for r in runs])
            told = []
            for phase in trainer.steps.due(iteration):
                state, metrics = steps[phase](seeds, state, batch)
                told.append(metrics)
            images, iteration = images + size, iteration + 1
            last.append(told)
            if len(last) > AHEAD:
                jax.block_until_ready(last.popleft())
            if images >= marks[0] or images >= total:
                marks = marks[1:] or [float("inf")]
                _check(last)
                for i, run in enumerate(runs):
                    own = jax.tree.map(operator.itemgetter(i), state)
                    run.save(own, images, iteration)
                rate = images * len(runs) / (time.monotonic() - started)
                told = f"{images / 1000:g} kimg of {len(runs)} runs"
                print(f"{told}, {rate:.0f} images/s", flush=True)


def train_fresh(values: dict[Path, dict], draft: Callable[[], ConfigDict], points: int) -> None:
    """Trains those of some runs that have not begun: `draft` with the values of each workdir."""
    fresh = [folder for folder in values if not (folder / FOLDER).exists()]
    drafts = [draft() for _ in fresh]
    for one, folder in zip(drafts, fresh, strict=True):
        one.update_from_flattened_dict(values[folder])
    if fresh:
        train(drafts, fresh, points)


class _Run:
    """A run's configuration, workdir, data and checkpoints."""

    def __init__(self, stack: contextlib.ExitStack, draft: ConfigDict, folder: Path, points: int):
        self.config, self.source = opened(draft, folder)
        train, data = self.config.train, self.config.data
        networks = networks_of(self.config.model, self.config.discriminator)
        hold = workdir.opened(epath.Path(folder), self.config, self.source, networks)
        self.means, _ = stack.enter_context(hold)
        workdir.record_command(epath.Path(folder))
        self.class_counts = self.source.class_counts if self.config.model.num_classes else ()
        keeper = Checkpoints(epath.Path(folder) / FOLDER, keep=points)
        self._checkpoints = stack.enter_context(keeper)
        self.reader = batches(
            self.source,
            seed=self.config.seed,
            batch_size=train.batch_size,
            mirror=data.mirror,
            threads=data.threads,
            workers=data.workers,
            max_skipped=data.max_skipped,
        )
        stack.enter_context(contextlib.closing(self.reader))

    def save(self, state, images: int, iteration: int) -> None:
        """A checkpoint."""
        record = metadata_of(self.config, self.source, images, iteration)
        self._checkpoints.save(iteration, checkpoint_items(state), record)


def _compiled(trainer: Trainer, seeds: jax.Array, state: TrainState) -> dict[Phase, Callable]:
    """Each phase, of all runs at once, from (seeds, state, batch); they compile side by side."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (seeds, state))
    batch = {
        k: jax.ShapeDtypeStruct((len(seeds), *v.shape), v.dtype)
        for k, v in trainer.abstract_batch().items()
    }

    def of_run(phase, seed, state, batch):  # a run's draws follow its own seed
        known = trainer.steps
        recipe = dataclasses.replace(known.recipe, seed=seed)
        optimizers = known.g_optimizer, known.d_optimizer
        steps = Steps(recipe, known.networks, *optimizers, known.mesh, known.specs)
        return steps.function(phase)(state, batch)

    with ThreadPoolExecutor() as pool:
        running = {}
        for phase in trainer.steps.due(0):
            step = jax.jit(jax.vmap(functools.partial(of_run, phase)), donate_argnums=1)
            running[phase] = pool.submit(step.lower(*shapes, batch).compile)
        return {phase: compiled.result() for phase, compiled in running.items()}


def _check(last) -> None:
    for metrics in jax.tree.leaves(last[-1]):
        if not np.isfinite(metrics).all():
            raise UserError("losses are no numbers")
