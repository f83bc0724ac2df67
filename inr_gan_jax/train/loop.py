"""The training loop: the only owner of the clock and of cadence."""

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Sequence

import jax
from etils import epath

from inr_gan_jax import config as configs
from inr_gan_jax import devices
from inr_gan_jax.checkpoint import FOLDER, Checkpoints
from inr_gan_jax.config import Config
from inr_gan_jax.data.pipeline import batches
from inr_gan_jax.data.sources import Source
from inr_gan_jax.errors import UserError
from inr_gan_jax.models.networks import count_parameters
from inr_gan_jax.monitor import Monitor
from inr_gan_jax.sharding import make_mesh, to_devices
from inr_gan_jax.stopping import stop_signals
from inr_gan_jax.train.state import TrainState, checkpoint_items, from_checkpoint_items
from inr_gan_jax.train.trainer import Trainer
from inr_gan_jax.train.transfer import transfer
from inr_gan_jax.train.watch import Watch
from inr_gan_jax.train.workdir import open_workdir
from inr_gan_jax.validate import check_batch


def train(
    config: Config, source: Source, workdir: epath.PathLike, detector_weights: Sequence = ()
) -> None:
    """Trains until `config.train.kimg`, or goes on with the run that `workdir` holds.

    `detector_weights` are files for the metrics that `config.evaluate` wants along the way.

    Raises UserError for a batch that the devices cannot share, a workdir that holds another run or
    cannot be written, and an image that cannot be read (what was learned is saved first).
    """
    workdir = epath.Path(workdir).expanduser()
    mesh, train = make_mesh(fsdp=config.mesh.fsdp), config.train
    check_batch(train.batch_size, train.microbatches, config.discriminator.group, mesh.size)
    try:
        dtype = open_workdir(workdir, config, source)
        class_counts = source.class_counts if config.model.num_classes else ()
        trainer = Trainer(config, class_counts, dtype=dtype, mesh=mesh)
        total = max(round(train.kimg * 1000), 1)
        with (
            stop_signals("stopping after this iteration; once more: at once") as stop,
            Checkpoints(workdir / FOLDER, keep=config.log.keep) as checkpoints,
            contextlib.closing(Monitor(workdir, total)) as monitor,
        ):
            watch = Watch(config, source, workdir, monitor, detector_weights)
            _run(trainer, source, workdir, total, monitor, checkpoints, watch, stop)
    except OSError as error:  # all other files are the source's, which raises UserError
        raise UserError(f"workdir {workdir} cannot be used: {error}") from error


def _run(trainer, source, workdir, total, monitor, checkpoints, watch, stop) -> None:
    """Tells what it is about to do, starts or goes on, trains, tells what to do next."""
    config = trainer.config
    _announce(monitor, trainer, source, workdir)
    state, images, iteration = _start(trainer, checkpoints, monitor)
    if images >= total:
        monitor.say(f"already trained for {images / 1000:g} kimg; more: raise --config.train.kimg")
    else:
        if images:
            monitor.say(f"going on from {images / 1000:g} kimg")
        monitor.hparams(dict(configs.flatten(configs.to_plain(config))))
        watch.real()
        images, iteration = _loop(
            trainer, state, images, iteration, total, source, monitor, watch, checkpoints, stop
        )
        checkpoints.wait()
        if jax.process_index() == 0 and iteration and iteration not in checkpoints.steps():
            raise UserError(f"the last checkpoint is not in {checkpoints.directory} (see above)")
        if images < total:
            saved = "and saved " if images else ""
            monitor.say(f"stopped {saved}at {images / 1000:g} kimg; the same command goes on")
            return
        monitor.say(f"done: {images / 1000:g} kimg")
    _say_what_next(monitor, config, workdir)


def _loop(trainer, state, images, iteration, total, source, monitor, watch, checkpoints, stop):
    """Runs iterations until `total` images or a stop signal, and saves: (images, iteration)."""
    config, log = trainer.config, trainer.config.log
    reader = batches(
        source,
        seed=config.seed,
        batch_size=config.train.batch_size,
        mirror=config.data.mirror,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        start_image=images,
        threads=config.data.threads,
        workers=config.data.workers,
    )

    def report():
        monitor.report(images)

    def draw():
        with monitor.paused():
            watch.draw(state, images)

    def save():
        with monitor.paused():
            record = _metadata(config, source, images, iteration)
            checkpoints.save(iteration, checkpoint_items(state), record)

    def measure():
        with monitor.paused():
            watch.measure(state, images, iteration)

    cadence = {report: log.metrics_kimg, draw: log.grid_kimg, save: log.checkpoint_kimg}
    cadence[measure] = config.evaluate.kimg
    done_at = dict.fromkeys(cadence, images)

    def perform(duty):
        if done_at[duty] < images:
            done_at[duty] = images
            duty()

    with contextlib.closing(reader):
        if log.grid_kimg > 0 and not stop:
            draw()
        while images < total and not stop:
            try:
                batch = to_devices(trainer.mesh, next(reader))
            except UserError:  # an image that became unreadable: what was learned is kept
                if jax.process_count() == 1:  # saving takes all processes; the others have no error
                    perform(save)
                raise
            compiled = len(trainer.compiled)
            state, metrics = trainer.iterate(state, batch, iteration)
            before, images = images, images + config.train.batch_size
            iteration += 1
            if log.metrics_kimg > 0:
                monitor.add(metrics)
            if len(trainer.compiled) > compiled:  # compilation is no training time
                jax.block_until_ready(state)
                monitor.restart(images)
            for duty, kimg in cadence.items():
                if _is_due(before, images, kimg):
                    perform(duty)
        for duty, kimg in cadence.items():  # a grid can wait where someone wants the machine back
            if duty is save or (kimg > 0 and (duty is report or images >= total)):
                perform(duty)
    return images, iteration


def _is_due(before: int, after: int, kimg: float) -> bool:
    """Whether a multiple of `kimg` thousand images lies in (before, after]; never for 0."""
    return kimg > 0 and int(after / (kimg * 1000)) > int(before / (kimg * 1000))


def _start(trainer, checkpoints, monitor) -> tuple[TrainState, int, int]:
    """(state, images, iteration) of the newest intact checkpoint, or of a fresh run."""
    restored = checkpoints.restore(checkpoint_items(trainer.abstract_state()))
    if restored is None:
        state, init_from = trainer.init(trainer.config.seed), trainer.config.train.init_from
        if init_from:
            state, lines = transfer(state, init_from, trainer.mesh)
            for line in lines:
                monitor.say(line)
        return state, 0, 0
    items, metadata, _ = restored
    return from_checkpoint_items(items), metadata["images"], metadata["iteration"]


def _metadata(config: Config, source: Source, images: int, iteration: int) -> dict:
    counts = source.class_counts if config.model.num_classes else ()
    return {
        "config": configs.to_plain(config),
        "class_counts": [int(n) for n in counts],
        "content_hash": source.content_hash,
        "images": images,
        "iteration": iteration,
        "data_position": images,
    }


def _announce(monitor: Monitor, trainer: Trainer, source: Source, workdir: epath.Path) -> None:
    model, wanted, dtype = trainer.config.model, trainer.config.train.dtype, trainer.steps.dtype
    sizes = trainer.abstract_state()
    g, d = (f"{count_parameters(tree):,}" for tree in (sizes.g, sizes.d))
    monitor.say(
        f"{model.family} {model.width}x{model.height}: generator {g} parameters, "
        f"discriminator {d}; {devices.describe()}"
    )
    classes = f", {model.num_classes} classes" if model.num_classes else ""
    monitor.say(f"data: {source.name}, {len(source):,} images{classes}")
    for line in trainer.steps.recipe.remarks():
        monitor.say(line)
    if dtype != wanted:
        monitor.say(f"this CPU multiplies {dtype} sooner than {wanted}: {dtype} is used")
    monitor.say(f"workdir: {workdir}; compiling takes a while the first time")


def _say_what_next(monitor: Monitor, config: Config, workdir: epath.Path) -> None:
    """Where the results are, and commands that work as they are printed."""
    python, here = sys.executable, shlex.quote(str(workdir))
    if shutil.which("python") == python:
        python = "python"
    elif not os.path.relpath(python).startswith(".."):  # a virtual environment that is not active
        python = os.path.relpath(python)
    classes = config.model.num_classes
    condition = f" --class_index={min(3, classes - 1)}" if classes else ""
    monitor.say(
        f"  images while it learned:  {workdir / Watch.FOLDER}\n"
        f"  checkpoints:              {workdir / FOLDER}\n"
        f"  curves:                   {python} -m tensorboard.main --logdir={here}\n"
        f"  more images:              {python} -m inr_gan_jax.generate --checkpoint={here} "
        f"--seeds=0-15 --outdir=out{condition}"
    )
