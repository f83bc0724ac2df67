"""The cost of training a tiny network on two devices, against numbers that are known."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from helpers.training import shallow

from inr_gan_jax.config import parse
from inr_gan_jax.costs import program as programs
from inr_gan_jax.costs.hardware import KINDS, UNKNOWN, Hardware, hardware
from inr_gan_jax.costs.program import Cost, Program, short
from inr_gan_jax.costs.traffic import Traffic
from inr_gan_jax.doctor import fit, report
from inr_gan_jax.errors import UserError
from inr_gan_jax.runtime.sharding import to_devices
from inr_gan_jax.train.recipe import Phase
from inr_gan_jax.train.trainer import DoesNotFit, Trainer


def tiny(**train):
    config = shallow(8, **train)
    config.discriminator.group = 2
    return parse(config)


def trainer_of(**train) -> Trainer:
    return Trainer(tiny(**train), (), dtype="float32")


@pytest.fixture(scope="module")
def trainer():
    """Without D's main phase: three are enough to see."""
    trainer = trainer_of()
    trainer.steps.due = lambda _: [Phase.G_MAIN, Phase.D_R1, Phase.FINISH]
    trainer.compile()
    return trainer


@pytest.fixture(scope="module")
def program(trainer):
    return trainer.program()


def size_of(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def test_memory_and_what_is_exchanged(trainer, program):
    """Two devices hold the whole state and half a batch each, and sum their gradients."""
    state = trainer.abstract_state()
    assert list(program.phases) == ["g_main", "d_r1", "finish"]
    assert program.images == 4 and program.devices == 2 and program.fits
    # Labels are not read, and so are no argument; results take a pointer each.
    images = size_of(trainer.abstract_batch()["image"]) // 2
    pointers = 8 * len(jax.tree.leaves(state))
    held = program.phases["d_r1"].held
    assert 0 <= held - (size_of(state) + images + pointers) < 100
    for phase, tree in {"g_main": state.g, "d_r1": state.d}.items():
        exchanged = program.phases[phase].exchanged
        assert exchanged.keys() == {"all-reduce"}
        # And a few means; R1 knows that some biases have no gradient.
        assert abs(exchanged["all-reduce"] - size_of(tree)) < 100
    assert program.phases["finish"].exchanged == {}
    assert program.phases["finish"].flops == {}
    greediest = max(cost.held + cost.temporary for cost in program.phases.values())
    assert program.memory == greediest + sum(cost.code for cost in program.phases.values())


def test_microbatches_do_the_same_work(program):
    """A loop's body is in the program once, and counts as often as it runs."""
    cut = trainer_of(microbatches=2)
    cut.compile([Phase.D_R1])
    whole, cut = program.phases["d_r1"], cut.program().phases["d_r1"]
    assert cut.flops == whole.flops
    assert abs(cut.exchanged["all-reduce"] - whole.exchanged["all-reduce"]) < 100
    assert 0.75 < cut.traffic.bytes / whole.traffic.bytes < 1.5
    assert cut.temporary < whole.temporary


def test_compiled_ahead_nothing_more_is_compiled(trainer):
    """... and an iteration still uses up the state that it is given."""
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), np.uint8)
    batch = to_devices(trainer.mesh, {"image": images, "label": np.zeros(8, np.int32)})
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), trainer.abstract_state())
    state, compiled = jax.device_put(zeros, trainer.shardings), []

    def listen(event, duration, **about):
        if "backend_compile" in event:
            compiled.append(about["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for iteration in range(2):
            before = state
            state, metrics = trainer.iterate(state, batch, iteration)
            assert all(x.is_deleted() for x in jax.tree.leaves(before.g))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == [] and int(state.iteration) == 2
    assert [set(values) for values in metrics][0] == {"loss/g", "logits/g_fake", "nonfinite/g"}


DEVICE = Hardware(memory=1000, bf16=100.0, f32=10.0, bandwidth=50.0, links=4.0, clock=10.0)


def cost(runs=1.0, **changes) -> Cost:
    known = Cost(runs, {"bfloat16": 1000, "float32": 200}, Traffic(600, 400), (), 300, 500, 50)
    return dataclasses.replace(known, **changes)


def test_bounds_on_time():
    gradients = programs.Collective("all-reduce", (("f32", (25,)),), 100, 2, 4)
    one = cost(collectives=(gradients,))
    assert one.limits(DEVICE) == {"products": 10 + 20, "memory": 12, "links": 2 * 100 * 1.5 / 4}
    assert one.seconds(DEVICE) == 75
    lazy = cost(1 / 4)
    program = Program({"d_main": one, "d_r1": lazy}, {}, 4, 5, DEVICE)
    assert program.seconds == 75 + 30 / 4
    assert program.expected_seconds == (40 + 40 / 4)
    assert program.flops_per_image == (1200 + 1200 / 4) / 5
    assert program.memory == 800 + 2 * 50 and program.fits
    assert not dataclasses.replace(program, hardware=dataclasses.replace(DEVICE, memory=899)).fits
    assert dataclasses.replace(program, hardware=UNKNOWN).seconds == 0
    refused = dataclasses.replace(program, refused={"g_main": 5000})
    assert refused.memory == 5000 and not refused.fits


def test_peaks_are_those_of_the_compiler():
    """jax's own table of TPUs says the same, to three digits."""
    from jax._src.pallas.mosaic import tpu_info

    for kind, cores in (("TPU v4", 2), ("TPU v5 lite", 1), ("TPU v5", 2)):
        version = tpu_info.chip_version_from_device_kind(kind)
        theirs, ours = tpu_info.get_tpu_info_for_chip(version, cores), KINDS[kind]
        assert ours.bf16 == pytest.approx(theirs.bf16_ops_per_second * cores, rel=0.01)
        # Cycles per second: two operations of 128 x 128 cells in each matrix unit.
        assert ours.bf16 == pytest.approx(ours.clock * 2 * 128**2 * theirs.num_mxus * cores, 0.01)


def test_the_report(trainer, program):
    job = fit.Job(trainer.config, (), "float32", jax.devices(), print)
    lines = report.text(job, program).splitlines()
    assert lines[0].startswith("2 x cpu, batch 8: 4 images per device, 1 microbatch(es), fsdp 1")
    assert lines[2].split() == ["phase", "runs", "GiB", "GFLOP", "MB", "all-reduce"]
    assert [line.split()[:2] for line in lines[3:6]] == [
        ["g_main", "1"], ["d_r1", "1/16"], ["finish", "1"],
    ]  # fmt: skip
    told = json.loads(json.dumps(report.values(job, program)))
    assert told["phases"]["g_main"]["flops"] == program.phases["g_main"].flops
    assert told["memory"] == program.memory and told["fits"]
    line = trainer.program().summary()
    assert line.startswith(f"memory {short(program.memory / 2**30)} GiB per ")
    on_tpu = dataclasses.replace(program, hardware=KINDS["TPU v5 lite"])
    text = report.text(job, on_tpu)
    assert "limit  expected ms" in text and text.endswith("it fits")
    small = dataclasses.replace(on_tpu, refused={"d_main": 20 * 2**30})
    assert "d_main needs 20.00 GiB and was not compiled" in report.text(job, small)


@pytest.mark.parametrize(
    "number, told",
    [(0, "0"), (0.01234, "0.0123"), (4.567, "4.57"), (78.94, "78.9"), (1234, "1,234")],
)
def test_numbers_are_short(number, told):
    assert short(number) == told


MESSAGES = [
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries "
    "(1.00T) exceeds available HBM (15.75G).",
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
    "Used 26.05G of 15.75G hbm. Exceeded hbm capacity by 10.30G.\n\nTotal hbm usage >= 26.30G:",
]


@pytest.mark.parametrize("message, needed", list(zip(MESSAGES, (1024, 26.05), strict=True)))
def test_a_compiler_without_room(message, needed, monkeypatch):
    trainer = trainer_of()

    def fails(*_):
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(Trainer, "_jitted", lambda *_: jax.jit(lambda state, batch: state))
    monkeypatch.setattr(jax.stages.Lowered, "compile", fails)
    with pytest.raises(
        DoesNotFit, match="g_main needs .* GiB of a device's memory, which"
    ) as error:
        trainer.compile([Phase.G_MAIN])
    assert error.value.needed == pytest.approx(needed * 2**30)
    assert error.value.available == pytest.approx(15.75 * 2**30)
    message = "INTERNAL: another fault"
    with pytest.raises(jax.errors.JaxRuntimeError, match="another fault"):
        trainer.compile([Phase.G_MAIN])


def searched(need, monkeypatch, batch_size=32) -> tuple[str | None, list[tuple]]:
    """The flags that `search` finds where settings need `need(microbatches, fsdp, remat)` bytes."""
    job = fit.Job(tiny(batch_size=batch_size), (), "float32", [*range(4)], lambda _: None)
    tried = []

    def measure(job, first=()):
        train = job.config.train
        tried.append((train.microbatches, job.config.mesh.fsdp, train.remat))
        needed = need(*tried[-1])
        refused = {"d_main": needed} if needed > 1000 else {}
        return Program({"finish": cost(held=400)}, refused, 4, 8, DEVICE)

    monkeypatch.setattr(fit, "measure", measure)
    found = fit.search(job, measure(job))
    return found and found[0].flags, tried[1:]


def test_the_settings_that_fit(monkeypatch):
    """Microbatches, then images one by one, then fsdp where what it saves may be enough."""
    one, two, four, remat = (1, 1, True), (2, 1, False), (4, 1, False), (4, 1, True)
    flags, tried = searched(lambda m, f, r: 3500 // m, monkeypatch)
    assert flags == "--config.train.microbatches=4" and tried == [two, four]
    flags, tried = searched(lambda m, f, r: 1200 - 300 * r, monkeypatch)
    assert flags == "--config.train.microbatches=4 --config.train.remat"
    assert tried == [two, four, remat]
    flags, tried = searched(lambda m, f, r: 900 + 400 // f, monkeypatch)
    assert flags == "--config.train.microbatches=4 --config.mesh.fsdp=4 --config.train.remat"
    assert tried == [two, four, remat, (4, 4, True)]  # fsdp=2 can save 200 at most
    flags, tried = searched(lambda m, f, r: 9999, monkeypatch)
    assert flags is None and tried == [two, four, remat]
    flags, tried = searched(lambda m, f, r: 1100 // f, monkeypatch, batch_size=8)
    assert flags == "--config.train.microbatches=1 --config.mesh.fsdp=2 --config.train.remat"
    assert tried == [one, (1, 2, True)]


def test_a_batch_that_cannot_be_shared():
    job = fit.Job(tiny(batch_size=6), (), "float32", jax.devices(), print)
    with pytest.raises(UserError, match="config.train.batch_size = 6 must be a multiple of 4"):
        fit.measure(job)


def test_memory_of_a_device_at_hand_is_what_jax_may_use(monkeypatch):
    class Device:
        device_kind, platform = "NVIDIA H200", "gpu"

        def memory_stats(self):
            return {"bytes_limit": 100}

    here, elsewhere = Device(), Device()
    monkeypatch.setattr(jax, "local_devices", lambda: [here])
    assert hardware(here) == dataclasses.replace(KINDS["NVIDIA H200"], memory=100)
    most = 0.75 * KINDS["NVIDIA H200"].memory  # jax's default part of it
    assert hardware(elsewhere) == dataclasses.replace(KINDS["NVIDIA H200"], memory=most)
    Device.device_kind, Device.platform = "TPU v4", "tpu"
    assert hardware(elsewhere) == KINDS["TPU v4"]
    Device.device_kind = "TPU Z9"
    assert hardware(elsewhere) == UNKNOWN
