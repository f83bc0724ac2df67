"""The loop: no waiting for the device, one compilation of each phase, nothing lost on a fault."""

import collections
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import opened
from helpers.training import shallow

from inr_gan_jax.config import parse
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.kernels import choice
from inr_gan_jax.storage.checkpoint import FOLDER, Checkpoints
from inr_gan_jax.train import loop, means
from inr_gan_jax.train.announce import announce
from inr_gan_jax.train.health import Health
from inr_gan_jax.train.monitor import Monitor
from inr_gan_jax.train.trainer import Trainer
from inr_gan_jax.train.watch import Watch


def tiny(**train):
    """20 iterations of a network of 8x8 on two devices."""
    config = shallow(8, kimg=0.16)
    config.data.mirror = False
    config.log.metrics_kimg = config.log.grid_kimg = config.log.checkpoint_kimg = 0.08
    config.log.grid_size = 4
    config.update_from_flattened_dict({f"train.{key}": value for key, value in train.items()})
    return parse(config)


@pytest.fixture
def source():
    return open_source("digits", height=8, width=8, channels=1, labels=False)


def test_no_waiting_and_no_second_compilation(source, tmp_path, monkeypatch):
    """Arrays are read in a report, a grid and a save only; each phase is compiled once."""
    reads, compiled = collections.Counter(), []
    where, main_thread = ["before"], threading.get_ident()

    def inside(owner, name):
        plain = getattr(owner, name)

        def wrapped(*args, **kwargs):
            where.append(name)
            try:
                return plain(*args, **kwargs)
            finally:
                where.pop()

        monkeypatch.setattr(owner, name, wrapped)

    array = type(jnp.zeros(()))
    value = array._value

    def read(self):
        if threading.get_ident() == main_thread:
            reads[where[-1]] += 1
        return value.fget(self)

    def listen(event, duration, **about):
        if "backend_compile" in event:
            compiled.append((where[-1], about["fun_name"]))

    monkeypatch.setattr(array, "_value", property(read))
    places = (Monitor, "report"), (Watch, "draw"), (Checkpoints, "save"), (Health, "look")
    for owner, name in places:  # Health looks at losses that are two iterations old
        inside(owner, name)
    inside(Trainer, "compile")
    inside(Trainer, "iterate")
    inside(loop.Run, "_train")
    blocked = []
    monkeypatch.setattr(jax, "block_until_ready", lambda x: blocked.append(x) or x)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        loop.train(tiny(), source, tmp_path)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert reads["report"] > 0 and reads["draw"] > 0  # what is counted is there to count
    assert reads["iterate"] == reads["_train"] == 0
    assert not blocked
    phases = [name for place, name in compiled if place == "compile"]
    assert sorted(phases) == ["jit(d_main)", "jit(d_r1)", "jit(finish)", "jit(g_main)"]
    assert not [name for place, name in compiled if place in ("iterate", "_train")]


def test_what_was_learned_is_kept_when_an_image_cannot_be_read(source, tmp_path):
    class Failing(type(source)):
        """Fails at every image once it was asked for 60 of them."""

        def __init__(self):
            self.__dict__.update(source.__dict__)
            self.asked = 0

        def __getitem__(self, index):
            self.asked += 1
            if self.asked > 60:
                raise UserError("photos/7.png cannot be read (gone): replace or remove it")
            return super().__getitem__(index)

    with pytest.raises(UserError, match="photos/7.png cannot be read"):
        loop.train(tiny(), Failing(), tmp_path)
    with Checkpoints(tmp_path / FOLDER, read_only=True) as checkpoints:
        (step,) = checkpoints.steps()
        assert checkpoints.metadata()["images"] == 8 * step > 0


def test_a_last_checkpoint_that_was_not_saved_is_an_error(source, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.Checkpoints, "save", lambda *_: None)
    with pytest.raises(UserError, match="the last checkpoint is not in"):
        loop.train(tiny(kimg=0.008), source, tmp_path)


def test_losses_that_are_no_numbers_end_the_run(source, tmp_path, monkeypatch):
    """The iteration is named, and the last checkpoint whose losses were numbers, which stays."""
    iterate, wrong = Trainer.iterate, jnp.float32(np.nan)

    def sick(self, state, batch, iteration):
        state, metrics = iterate(self, state, batch, iteration)
        return state, [{**m, "loss/d": wrong} if iteration >= 12 else m for m in metrics]

    monkeypatch.setattr(Trainer, "iterate", sick)
    config = tiny(max_nonfinite=4)
    with pytest.raises(UserError) as error:
        loop.train(config, source, tmp_path)
    assert "losses were not finite for 4 iterations, from iteration 12 on" in str(error.value)
    assert str(error.value).endswith(f"the last good checkpoint is {tmp_path / FOLDER / '10'}")
    assert {p.name for p in (tmp_path / FOLDER).iterdir()} == {"10"}


def test_health_counts_iterations_in_a_row():
    def seen(values, limit, lag=0):
        health, over = Health(limit), []
        for iteration, value in enumerate(values):
            if health.add(iteration, [{"loss/g": jnp.float32(value)}, {"path/length": jnp.nan}]):
                over.append(health.look(lag))
        return health, health.look(0), over

    nan = np.nan
    health, over, _ = seen([1, nan, nan, 1, nan], 3)
    assert not over and (health.row, health.since) == (1, 4)
    assert seen([1, nan, np.inf, nan], 3)[1] and seen([1, nan, np.inf, nan, 1], 3)[0].since == 1
    health, _, looks = seen([1.0] * 9, 1, lag=2)
    assert looks == [False] * 7 and health.row == 0  # an iteration late by two each time


def test_kernels_are_chosen_once_for_each_kind_of_tpu(source, tmp_path, monkeypatch):
    """A run that goes on computes as it did before, and elsewhere as is best there."""
    chosen = iter([("pallas", "so it is"), ("xla", "so it is there")])
    monkeypatch.setattr(choice, "choose", lambda *_: next(chosen))
    kind = "TPU v5 lite"
    monkeypatch.setattr(jax, "devices", lambda: [type("Device", (), {"device_kind": kind})])

    def used() -> tuple:
        with opened(tmp_path / "run", tiny(), source) as (found, _):
            return found.kernels, found.why

    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert used() == used() == ("pallas", "so it is")
    kind = "TPU v6 lite"
    assert used() == used() == ("xla", "so it is there")


def test_bfloat16_on_a_cpu_is_used_only_where_it_is_quicker(source, tmp_path, monkeypatch):
    """Measured at the first start, said, and kept: a run that goes on computes as it did before."""
    config = tiny(dtype="bfloat16")
    monkeypatch.setattr(means, "quicker_dtype", lambda: "float32")

    def used(folder, config=config):
        with opened(tmp_path / folder, config, source) as (found, _):
            return found.dtype

    assert used("slow") == "float32"
    monkeypatch.setattr(means, "quicker_dtype", lambda: "bfloat16")
    assert used("slow") == "float32"
    assert used("quick") == "bfloat16"
    assert used("exact", tiny(dtype="float32")) == "float32"
    said = []
    monitor = type("Said", (), {"say": staticmethod(said.append)})
    announce(monitor, Trainer(config, (), dtype="float32"), source, tmp_path)
    assert any("multiplies float32 sooner than bfloat16: float32 is used" in line for line in said)
