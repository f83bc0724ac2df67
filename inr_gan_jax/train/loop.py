"""The training loop: the only owner of the clock and of cadence."""

import contextlib
import functools
import json
import signal
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
        configs.check_batch(
            train.batch_size, train.microbatches, config.discriminator.group, self.mesh.size
        )
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

    Raises UserError for a workdir that holds another run or cannot be written.
    """
    workdir = epath.Path(workdir)
    run = _open_workdir(workdir, config, source)
    dtype = run["dtype"][jax.default_backend()]
    class_counts = source.class_counts if config.model.num_classes else ()
    trainer = Trainer(config, class_counts, dtype=dtype)
    with Checkpoints(workdir / FOLDER, keep=config.log.keep) as checkpoints:
        state, images, iteration = _start(trainer, checkpoints)
        total = int(config.train.kimg * 1000)
        monitor = Monitor(workdir, total, images)
        _announce(monitor, config, source, workdir, trainer, images, dtype)
        if images >= total:
            monitor.say(f"already trained for {images / 1000:g} kimg; raise --config.train.kimg")
            return
        pictures = Pictures(config, workdir, monitor)
        pictures.real(source)
        try:
            state, images, stopped = _loop(
                trainer, state, images, iteration, total, source, monitor, pictures, checkpoints
            )
        finally:
            monitor.close()
    _farewell(monitor, config, workdir, images, stopped)


def _loop(trainer, state, images, iteration, total, source, monitor, pictures, checkpoints):
    """Runs iterations until `total` images or a stop signal; saves at the end in either case."""
    config, log = trainer.config, trainer.config.log
    batch_size = config.train.batch_size
    reader = batches(
        source,
        seed=config.seed,
        batch_size=batch_size,
        mirror=config.data.mirror,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        start_image=images,
        threads=config.data.threads,
        workers=config.data.workers,
    )
    pictures.generated(state, images)
    with contextlib.closing(reader), _stop_signals() as stop:
        while images < total and not stop:
            compiled = len(trainer.compiled)
            state, metrics = trainer.iterate(
                state, to_devices(trainer.mesh, next(reader)), iteration
            )
            before, images, iteration = images, images + batch_size, iteration + 1
            for values in metrics:
                monitor.add(values)
            if len(trainer.compiled) > compiled:  # compilation is no training time
                jax.block_until_ready(state)
                monitor.restart(images)
            done = images >= total or bool(stop)
            due = functools.partial(_due, before, images, done)
            if due(log.metrics_kimg) or done:
                monitor.report(images)
            if due(log.grid_kimg):
                with monitor.paused():
                    pictures.generated(state, images)
            if due(log.checkpoint_kimg) or done:
                with monitor.paused():
                    record = _metadata(config, source, images, iteration)
                    checkpoints.save(iteration, checkpoint_items(state), record)
    return state, images, bool(stop)


def _due(before: int, after: int, done: bool, kimg: float) -> bool:
    """Whether a multiple of `kimg` thousand images lies in (before, after], or the run ends."""
    return kimg > 0 and (done or int(after / (kimg * 1000)) > int(before / (kimg * 1000)))


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C end the run after the iteration at hand; a second one at once."""
    received: list[int] = []

    def handle(number, _):
        if received:
            raise KeyboardInterrupt
        received.append(number)

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


def _open_workdir(workdir: epath.Path, config: Config, source: Source) -> dict:
    """Makes the workdir or checks that it holds this very run; returns its record."""
    path = workdir / RUN_FILE
    ours = json.loads(json.dumps(configs.identity(config, source.content_hash)))
    try:
        record = json.loads(path.read_text()) if path.exists() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); choose another --workdir") from None
    if record is not None:
        theirs = record["identity"]
        for key in [*ours, *(k for k in theirs if k not in ours)]:
            if ours.get(key) != theirs.get(key):
                raise UserError(
                    f"{workdir} holds another run: {key} was {theirs.get(key)}, now "
                    f"{ours.get(key)}; choose another --workdir"
                )
    record = record or {"identity": ours, "dtype": {}}
    backend, wanted = jax.default_backend(), config.train.dtype
    if backend not in record["dtype"]:
        slow = backend == "cpu" and wanted == "bfloat16" and devices.quicker_dtype() == "float32"
        record["dtype"][backend] = "float32" if slow else wanted
    record["config"] = configs.to_plain(config)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        temporary = workdir / f"{RUN_FILE}.{uuid.uuid4().hex}.tmp"
        temporary.write_text(json.dumps(record, indent=1))
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"workdir {workdir} cannot be written: {error.strerror or error}") from None
    return record


def _announce(monitor, config, source, workdir, trainer, images, dtype) -> None:
    sizes = trainer.abstract_state()
    g, d = (f"{count_parameters(tree):,}" for tree in (sizes.g, sizes.d))
    monitor.say(
        f"{config.model.family} {config.model.width}x{config.model.height}: generator {g} "
        f"parameters, discriminator {d}; {devices.describe()}"
    )
    classes = f", {config.model.num_classes} classes" if config.model.num_classes else ""
    monitor.say(f"data: {source.name}, {len(source):,} images{classes}")
    if dtype != config.train.dtype:
        monitor.say(
            f"this CPU multiplies {dtype} sooner than {config.train.dtype}: {dtype} is used"
        )
    start = f"going on from {images / 1000:g} kimg" if images else "starting"
    monitor.say(f"workdir: {workdir}; {start}; compiling takes a while the first time")
    monitor.hparams(dict(configs.flatten(configs.to_plain(config))))


def _farewell(monitor: Monitor, config: Config, workdir, images: int, stopped: bool) -> None:
    if stopped:
        monitor.say(f"stopped and saved at {images / 1000:g} kimg; the same command goes on")
        return
    condition = " --class_index=3" if config.model.num_classes else ""
    monitor.say(
        f"done: {images / 1000:g} kimg\n"
        f"  images while it learned:  {workdir / Pictures.FOLDER}\n"
        f"  checkpoints:              {workdir / FOLDER}\n"
        f"  curves:                   tensorboard --logdir={workdir}\n"
        f"  more images:              python -m inr_gan_jax.generate --checkpoint={workdir} "
        f"--seeds=0-15 --outdir=out{condition}"
    )
