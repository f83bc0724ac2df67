"""The training loop: the only owner of the clock and of cadence."""

import collections
import contextlib
from collections.abc import Iterator, Sequence

import jax
from etils import epath

from inr_gan_jax import config as configs
from inr_gan_jax.config import Config
from inr_gan_jax.config.check import check_batch
from inr_gan_jax.config.writer_names import mirrors_of
from inr_gan_jax.data.pipeline import batches
from inr_gan_jax.data.sources import Source
from inr_gan_jax.errors import UserError
from inr_gan_jax.models.networks import networks_of
from inr_gan_jax.runtime.processes import Agreement, Wish, by_first, meet
from inr_gan_jax.runtime.profiler import Profiler
from inr_gan_jax.runtime.sharding import make_mesh, to_devices
from inr_gan_jax.runtime.stopping import stop_signals
from inr_gan_jax.storage.checkpoint import FOLDER, Checkpoints
from inr_gan_jax.train.announce import announce, say_what_next, summary
from inr_gan_jax.train.best import Best
from inr_gan_jax.train.health import LAG, Health
from inr_gan_jax.train.monitor import Monitor
from inr_gan_jax.train.state import TrainState, checkpoint_items
from inr_gan_jax.train.trainer import Trainer
from inr_gan_jax.train.transfer import transfer
from inr_gan_jax.train.watch import Watch
from inr_gan_jax.train.workdir import opened, record_command, since


def train(
    config: Config, source: Source, workdir: epath.PathLike, detector_weights: Sequence = ()
) -> None:
    """Trains until `config.train.kimg`, or goes on with the run that `workdir` holds.

    `detector_weights` are files for the metrics that `config.evaluate` wants along the way. All
    processes of a run make this call.

    Raises UserError for a batch that the devices cannot share, a workdir that holds another run, is
    in use or cannot be written, a writer that cannot be used, images that cannot be read (what was
    learned is saved first), and losses that are no numbers.
    """
    workdir = epath.Path(workdir).expanduser()
    networks = networks_of(config.model, config.discriminator)
    mesh, train = make_mesh(fsdp=config.mesh.fsdp), config.train
    check_batch(train.batch_size, train.microbatches, config.discriminator.group, mesh.size)
    total, mirrors = max(round(train.kimg * 1000), 1), mirrors_of(config.log.writers)
    try:
        with (
            stop_signals("stopping after this iteration; once more: at once") as stop,
            opened(workdir, config, source, networks) as (means, lease),
            Checkpoints(workdir / FOLDER, keep=config.log.keep) as checkpoints,
            contextlib.closing(Monitor(workdir, total, mirrors)) as monitor,
        ):
            class_counts = source.class_counts if config.model.num_classes else ()
            trainer = Trainer(
                config,
                class_counts,
                dtype=means.dtype,
                kernels=means.kernels,
                mesh=mesh,
                networks=networks,
            )
            watch = Watch(config, source, workdir, monitor, detector_weights)
            announce(monitor, trainer, source, workdir)
            if means.kernels != "xla" or jax.default_backend() == "tpu":
                monitor.say(f"kernels: {means.kernels} ({means.why})")
            run = Run(trainer, source, monitor, watch, checkpoints, lease, stop)
            if run.goes_on_to(total):
                say_what_next(monitor, config, workdir)
    except OSError as error:  # all other files are the source's, which raises UserError
        raise UserError(f"workdir {workdir} cannot be used: {error}") from error


class Run:
    """A run at work: its state, how far it is, and what is due when."""

    def __init__(self, trainer, source, monitor, watch, checkpoints, lease, stop):
        self.trainer, self.source, self.config = trainer, source, trainer.config
        self.monitor, self.watch, self.checkpoints = monitor, watch, checkpoints
        self.lease, self.stop = lease, stop
        self.workdir = lease.path.parent
        self.agreement = Agreement(trainer.mesh)
        self.health = Health(self.config.train.max_nonfinite)
        self.state, self.images, self.iteration = self._start()
        self.since = since(self.workdir, self.images)
        if self.since.augmented:
            self.state = trainer.with_ada_p(self.state, self.config.augment.p)
        monitor.going_on_from(self.images)
        watch.going_on_from(self.images)
        self.best = Best(self.config.evaluate, self.workdir, checkpoints)
        self.best.going_on_from(self.images)
        log = self.config.log
        self.cadence = {
            self.report: log.metrics_kimg,
            self.draw: log.grid_kimg,
            self.save: log.checkpoint_kimg,
            self.measure: self.config.evaluate.kimg,
        }
        self._done_at = dict.fromkeys(self.cadence, self.images)

    def goes_on_to(self, total: int) -> bool:
        """Trains until `total` images or a stop signal, and saves: whether the run is complete."""
        monitor, start = self.monitor, self.images
        if start >= total:
            monitor.say(f"already trained for {start / 1000:g} kimg; more: raise config.train.kimg")
            return True
        if old := self.best.too_old(start):
            monitor.say(f"ended before, at {start / 1000:g} kimg: {old}")
            return True
        record_command(self.workdir)
        if start:
            monitor.say(f"going on from {start / 1000:g} kimg")
        for line in self.since.lines:
            monitor.say(line)
        self.trainer.compile()
        meet("compiled")
        monitor.say(summary(self.trainer))
        monitor.hparams(dict(configs.flatten(configs.to_plain(self.config))))
        self.watch.real()
        end, fault = self._train(total)
        if end is Wish.LOST:
            raise UserError(f"another run has taken {self.workdir}: this one ends")
        for duty, kimg in self.cadence.items():  # a grid can wait if someone wants the machine back
            if duty == self.save or (kimg > 0 and (duty == self.report or self.images >= total)):
                self._perform(duty)
        self.checkpoints.wait()
        by_first(self._check_saved)
        if end is Wish.FAULT:
            raise fault or UserError("another process cannot read its data (see what it says)")
        if old := self.best.too_old(self.images):
            monitor.say(f"ended at {self.images / 1000:g} kimg: {old}")
            return True
        if self.images < total:
            saved = "and saved " if self.images else ""
            monitor.say(f"stopped {saved}at {self.images / 1000:g} kimg; the same command goes on")
            return False
        monitor.say(f"done: {self.images / 1000:g} kimg")
        return True

    def _train(self, total: int) -> tuple[Wish, UserError | None]:
        """Iterates until `total` images or a process's wish: that, and this one's own fault."""
        train, data, log = self.config.train, self.config.data, self.config.log
        reader = batches(
            self.source,
            seed=self.config.seed,
            batch_size=train.batch_size,
            mirror=data.mirror,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            start_image=self.images - self.since.order,
            order=self.since.order,
            threads=data.threads,
            workers=data.workers,
            max_skipped=data.max_skipped,
        )
        profiler = Profiler(self.config.profile, self.workdir, self.monitor.say)
        with contextlib.closing(reader), contextlib.closing(profiler):
            feed = Feed(reader, self.agreement.delay)
            wish = self.agreement.now(self._wish(feed))
            if not wish:
                self._make_up(log.grid_kimg, self.config.evaluate.kimg)
            self.monitor.restart(self.images)
            while self.images < total and not wish and not self.best.too_old(self.images):
                feed.read()
                if not (wish := self.agreement(self._wish(feed))):
                    with profiler.step(self.state):
                        self._iterate(to_devices(self.trainer.mesh, feed.next()))
            return wish, feed.fault

    def _make_up(self, grid_kimg: float, evaluate_kimg: float) -> None:
        """Draws and measures what a start must show, and a kill after the last save prevented."""
        if grid_kimg > 0 and not self.watch.drawn:
            self.draw()
        before = self.images - self.config.train.batch_size
        if _is_due(before, self.images, evaluate_kimg) and not self.watch.measured:
            self.measure()

    def _wish(self, feed) -> Wish:
        if self.lease.lost:
            return Wish.LOST
        if feed.fault:
            return Wish.FAULT
        return Wish.STOP if self.stop else Wish.GO_ON

    def _iterate(self, batch: dict) -> None:
        with jax.transfer_guard_device_to_host("disallow"):  # whoever reads an array waits for it
            self.state, metrics = self.trainer.iterate(self.state, batch, self.iteration)
        before, self.images = self.images, self.images + self.config.train.batch_size
        if self.health.add(self.iteration, metrics):
            self._check_health(LAG)
        self.monitor.images = self.images
        self.iteration += 1
        if self.config.log.metrics_kimg > 0:
            self.monitor.add(metrics)
        for duty, kimg in self.cadence.items():
            if _is_due(before, self.images, kimg):
                self._perform(duty)

    def _perform(self, duty) -> None:
        if self._done_at[duty] < self.images:
            self._done_at[duty] = self.images
            duty()

    # Duties.

    def report(self) -> None:
        """Means of the metrics since the last report."""
        self.monitor.report(self.images)

    def draw(self) -> None:
        """A grid of images."""
        with self.monitor.paused():
            self.watch.draw(self.state, self.images)

    def save(self) -> None:
        """A checkpoint, if the newest losses are numbers; what led to it is told first."""
        if self.config.log.metrics_kimg > 0:
            self._perform(self.report)
        with self.monitor.paused():
            self._check_health(0)
            if self.health.row:
                since = self.health.since
                self.monitor.say(f"not saved: losses are not finite since iteration {since}")
                return
            record = metadata_of(self.config, self.source, self.images, self.iteration)
            record |= {"draws": self.draws} if self.draws else {}
            self.checkpoints.save(self.iteration, checkpoint_items(self.state), record)

    def measure(self) -> None:
        """Metrics of the averaged generator, and a checkpoint if they are the best."""
        with self.monitor.paused():
            results = self.watch.measure(self.state, self.images, self.iteration)
            if self.best.is_new(results, self.images, self.iteration):
                self._perform(self.save)
                self.best.keep()

    # Parts.

    def _start(self) -> tuple[TrainState, int, int]:
        """(state, images, iteration) of the newest intact checkpoint, or of a fresh run."""
        trainer = self.trainer
        restored, self.draws = trainer.restored(self.checkpoints), ""
        if restored is None:
            state, init_from = trainer.init(self.config.seed), self.config.train.init_from
            if init_from:
                state, lines = transfer(state, init_from, trainer.mesh)
                for line in lines:
                    self.monitor.say(line)
            return state, 0, 0
        state, metadata, _ = restored
        self.draws = metadata.get("draws", "")  # what a seed means stays what it was
        return state, metadata["images"], metadata["iteration"]

    def _check_health(self, lag: int) -> None:
        if not self.health.look(lag):
            return
        self.checkpoints.wait()
        folder, steps = self.checkpoints.directory, by_first(self.checkpoints.steps)
        good = (
            f"the last good checkpoint is {folder / str(steps[-1])}" if steps else "none is saved"
        )
        raise UserError(
            f"losses were not finite for {self.health.limit} iterations, from iteration "
            f"{self.health.since} on; {good}"
        )

    def _check_saved(self) -> None:
        if self.iteration and self.iteration not in self.checkpoints.steps():
            where = self.checkpoints.directory
            raise UserError(f"the last checkpoint is not in {where} (see above)")


class Feed:
    """This process's batches, read so far ahead that a fault is known before its turn comes."""

    def __init__(self, reader: Iterator[dict], ahead: int):
        self._reader, self._batches = reader, collections.deque()
        self.fault: UserError | None = None
        for _ in range(ahead):
            self.read()

    def read(self) -> None:
        """Reads one more, or notes why it cannot."""
        if self.fault is None:
            try:
                self._batches.append(next(self._reader))
            except UserError as error:
                self.fault = error

    def next(self) -> dict:
        """The oldest that was read."""
        return self._batches.popleft()


def _is_due(before: int, after: int, kimg: float) -> bool:
    """Whether a multiple of `kimg` thousand images lies in (before, after]; never for 0."""
    return kimg > 0 and int(after / (kimg * 1000)) > int(before / (kimg * 1000))


def metadata_of(config: Config, source: Source, images: int, iteration: int) -> dict:
    """What a checkpoint says of itself."""
    counts = source.class_counts if config.model.num_classes else ()
    return {
        "config": configs.to_plain(config),
        "class_counts": [int(n) for n in counts],
        "class_names": list(source.class_names),
        "content_hash": source.content_hash,
        "images": images,
        "iteration": iteration,
        "data_position": images,
    }
