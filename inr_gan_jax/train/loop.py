"""The training loop: the only owner of the clock and of cadence."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import uuid
from collections.abc import Iterator

import jax
from etils import epath

from inr_gan_jax import config as configs
from inr_gan_jax import devices
from inr_gan_jax.checkpoint import FOLDER, Checkpoints
from inr_gan_jax.config import Config
from inr_gan_jax.data.pipeline import batches
from inr_gan_jax.data.sources import Source
from inr_gan_jax.errors import UserError
from inr_gan_jax.models.networks import count_parameters, networks_of
from inr_gan_jax.monitor import Monitor
from inr_gan_jax.sharding import make_mesh, over_batch, replicated, to_devices
from inr_gan_jax.train.optim import lazy_adam
from inr_gan_jax.train.pictures import Pictures
from inr_gan_jax.train.state import (
    TrainState,
    checkpoint_items,
    from_checkpoint_items,
    init_state,
)
from inr_gan_jax.train.step import Recipe, Steps

RUN_FILE = "run.json"


class Trainer:
    """The compiled phases of a configuration on a mesh, and the state they start from."""

    def __init__(self, config: Config, class_counts, *, dtype: str, mesh=None):
        train = config.train
        self.config, self.mesh = config, mesh or make_mesh()
        self.networks = networks_of(config.model, config.discriminator)
        adam = {"b1": train.beta1, "b2": train.beta2, "eps": train.eps}
        self.g_optimizer = lazy_adam(
            train.g_lr, interval=train.g_interval, shared_learning_rate=train.shared_lr, **adam
        )
        self.d_optimizer = lazy_adam(train.d_lr, interval=train.r1_interval, **adam)
        recipe = Recipe(
            seed=config.seed,
            batch_size=train.batch_size,
            microbatches=train.microbatches,
            r1_gamma=train.r1_gamma,
            r1_interval=train.r1_interval,
            path_weight=train.path_weight,
            path_interval=train.g_interval,
            mixing_prob=train.mixing_prob,
            ema_kimg=train.ema_kimg,
            ema_rampup=train.ema_rampup,
            class_counts=tuple(int(n) for n in class_counts),
            dtype=dtype,
        )
        self.steps = Steps(recipe, self.networks, self.g_optimizer, self.d_optimizer, self.mesh)
        self.compiled = {}

    def init(self, seed: int) -> TrainState:
        """A fresh state, made on the devices."""
        return jax.jit(self._init, static_argnums=0, out_shardings=replicated(self.mesh))(seed)

    def abstract_state(self) -> TrainState:
        """Shapes, types and shardings of the state, no arrays."""
        sharding = replicated(self.mesh)
        shapes = jax.eval_shape(lambda: self._init(0))
        return jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes
        )

    def _init(self, seed: int) -> TrainState:
        return init_state(self.networks, self.g_optimizer, self.d_optimizer, seed)

    def iterate(self, state: TrainState, batch: dict, iteration: int) -> tuple[TrainState, list]:
        """One iteration: (state, metrics of each phase). The given state's buffers are used up."""
        metrics = []
        for phase in self.steps.due(iteration):
            if phase not in self.compiled:
                whole = replicated(self.mesh)
                self.compiled[phase] = jax.jit(
                    self.steps.function(phase),
                    donate_argnums=0,
                    in_shardings=(whole, over_batch(self.mesh)),
                    out_shardings=(whole, whole),
                )
            state, values = self.compiled[phase](state, batch)
            metrics.append(values)
        return state, metrics


def train(config: Config, source: Source, workdir: epath.PathLike) -> None:
    """Trains until `config.train.kimg`, or goes on with the run that `workdir` holds.

    Raises UserError for a batch that the devices cannot share, a workdir that holds another run or
    cannot be written, and an image that cannot be read (what was learned is saved first).
    """
    workdir = epath.Path(workdir).expanduser()
    mesh, train = make_mesh(), config.train
    configs.check_batch(train.batch_size, train.microbatches, config.discriminator.group, mesh.size)
    try:
        dtype = _open_workdir(workdir, config, source)
        class_counts = source.class_counts if config.model.num_classes else ()
        trainer = Trainer(config, class_counts, dtype=dtype, mesh=mesh)
        total = max(round(train.kimg * 1000), 1)
        with (
            _stop_signals() as stop,
            Checkpoints(workdir / FOLDER, keep=config.log.keep) as checkpoints,
            contextlib.closing(Monitor(workdir, total)) as monitor,
        ):
            _run(trainer, source, workdir, total, monitor, checkpoints, stop)
    except OSError as error:  # all other files are the source's, which raises UserError
        raise UserError(f"workdir {workdir} cannot be used: {error}") from error


def _run(trainer, source, workdir, total, monitor, checkpoints, stop) -> None:
    """Tells what it is about to do, starts or goes on, trains, tells what to do next."""
    config = trainer.config
    _announce(monitor, trainer, source, workdir)
    state, images, iteration = _start(trainer, checkpoints)
    if images >= total:
        monitor.say(f"already trained for {images / 1000:g} kimg; more: raise --config.train.kimg")
    else:
        if images:
            monitor.say(f"going on from {images / 1000:g} kimg")
        monitor.hparams(dict(configs.flatten(configs.to_plain(config))))
        pictures = Pictures(config, workdir, monitor)
        pictures.real(source)
        images, iteration = _loop(
            trainer, state, images, iteration, total, source, monitor, pictures, checkpoints, stop
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


def _loop(trainer, state, images, iteration, total, source, monitor, pictures, checkpoints, stop):
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
            pictures.generated(state, images)

    def save():
        with monitor.paused():
            record = _metadata(config, source, images, iteration)
            checkpoints.save(iteration, checkpoint_items(state), record)

    cadence = {report: log.metrics_kimg, draw: log.grid_kimg, save: log.checkpoint_kimg}
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


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C end the run after the iteration at hand; a second one at once."""
    received: list[int] = []

    def handle(number, _):
        if received:
            raise KeyboardInterrupt
        received.append(number)
        os.write(2, b"stopping after this iteration; once more: at once\n")  # print may not nest

    before = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(trainer: Trainer, checkpoints: Checkpoints) -> tuple[TrainState, int, int]:
    """(state, images, iteration) of the newest intact checkpoint, or of a fresh run."""
    restored = checkpoints.restore(checkpoint_items(trainer.abstract_state()))
    if restored is None:
        return trainer.init(trainer.config.seed), 0, 0
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


def _open_workdir(workdir: epath.Path, config: Config, source: Source) -> str:
    """Makes the workdir or checks that it holds this very run; returns the compute dtype."""
    path = workdir / RUN_FILE
    ours = json.loads(json.dumps(configs.identity(config, source.content_hash)))
    record = {"identity": ours}
    if path.exists():
        record = _read_record(path)
        # A converted checkpoint is nobody's run yet: the first training makes it its own.
        theirs = record["identity"] = record["identity"] or ours
        for key in [*ours, *(k for k in theirs if k not in ours)]:
            if ours.get(key) != theirs.get(key):
                raise UserError(
                    f"{workdir} holds another run: {key} was {theirs.get(key)}, now "
                    f"{ours.get(key)}; choose another --workdir"
                )
    elif (workdir / FOLDER).exists():
        raise UserError(f"{workdir} has {FOLDER} but no {RUN_FILE}; choose another --workdir")
    elif FOLDER in workdir.parts[-2:]:
        raise UserError(f"{workdir} lies inside a run; give the folder that holds {FOLDER}")
    record["config"] = configs.to_plain(config)
    workdir.mkdir(parents=True, exist_ok=True)
    _write_record(path, record)
    if config.train.dtype != "bfloat16" or jax.default_backend() != "cpu":
        return config.train.dtype
    if "cpu_dtype" not in record:  # measured once: a run that goes on computes as it did before
        record["cpu_dtype"] = devices.quicker_dtype()
        _write_record(path, record)
    return record["cpu_dtype"]


def _read_record(path: epath.Path) -> dict:
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); choose another --workdir") from None
    if not isinstance(record, dict) or not isinstance(record.get("identity"), dict):
        raise UserError(f"{path} is no record of a run; choose another --workdir")
    return record


def _write_record(path: epath.Path, record: dict) -> None:
    temporary = path.parent / f"{path.name}.{uuid.uuid4().hex}.tmp"
    temporary.write_text(json.dumps(record, indent=1))
    temporary.replace(path)


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
        f"  images while it learned:  {workdir / Pictures.FOLDER}\n"
        f"  checkpoints:              {workdir / FOLDER}\n"
        f"  curves:                   {python} -m tensorboard.main --logdir={here}\n"
        f"  more images:              {python} -m inr_gan_jax.generate --checkpoint={here} "
        f"--seeds=0-15 --outdir=out{condition}"
    )
