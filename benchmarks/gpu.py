"""The GPU at hand: whether it computes what it must, and how near to its limits it does.

    python -m benchmarks.gpu [--budget=480] [--only="training*"] [--json=gpu.json]

First parity with golden arrays, then what the device can do (copy, products), then inference and
training in order of worth, as far as the budget of seconds goes, and the rest of parity (gradients
against float64 on the host). A row is printed, and written to --json, as soon as it is known.

Needs jax[cuda13] (`pip install -c constraints.txt -e .[cuda13]`), no network. A run's phases
compile side by side, while nothing is timed. What does not fit into the device's memory is cut into
microbatches, and the row says so. On a CPU: --short, which measures tiny networks to see that the
command works.
"""

import contextlib
import fnmatch
import functools
import json
import sys
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.networks import random_like
from benchmarks.programs import CASES, PRECISIONS, images_of
from benchmarks.timing import machine, medians
from benchmarks.train import configured, device_batch, phases_of
from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.run import run
from inr_gan_jax.costs.program import Cost, cost_of
from inr_gan_jax.errors import UserError, nearest
from inr_gan_jax.runtime.sharding import make_mesh
from inr_gan_jax.train.trainer import Trainer

BUDGET = flags.DEFINE_integer("budget", 480, "Seconds; what is not reached is said.", lower_bound=1)
JSON = shared.path("json", None, "A file that holds all rows so far, at any time.")
ONLY = flags.DEFINE_list(
    "only", ["*"], "Patterns of `parity inr_gan`, `training ffhq 64 bfloat16`, `gradients`, ..."
)
SHORT = flags.DEFINE_bool("short", False, "Tiny networks, few repeats: does the command work?")

TESTS = Path(__file__).parent.parent / "tests"  # whose golden arrays parity is judged by
FIRST = ("inr_gan", "stylegan2")  # whose parity is looked at before anything is measured
MOST_MICROBATCHES = 16
CYCLE = 16  # iterations


class Table:
    """Rows as they are found: printed, and kept in a file."""

    def __init__(self, budget: float):
        self._end, self._start = time.monotonic() + budget, time.monotonic()
        self.ceilings: dict[str, float] = {}
        self.results = {"machine": machine(), "rows": []}
        print("  ".join(f"{k}: {v}" for k, v in self.results["machine"].items()), flush=True)

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self._end - time.monotonic()

    def add(self, what: str, value: float | None, unit: str = "", detail: str = "", **more) -> None:
        """One row; `value` None: not measured, and `detail` says why."""
        row = {"what": what, "value": value, "unit": unit, "detail": detail, **more}
        self.results["rows"].append(row | {"at": round(time.monotonic() - self._start, 1)})
        shown = "not measured" if value is None else f"{value:.4g} {unit}"
        print(f"{what:44} {shown:24} {detail}", flush=True)
        if JSON.value:
            Path(JSON.value).write_text(json.dumps(self.results, indent=1))


def main(_) -> None:
    """Parity, ceilings, inference, training, and the rest of parity."""
    device = jax.devices()[0]
    if device.platform != "gpu" and not SHORT.value:
        raise UserError(f"jax sees no GPU here, but a {device.platform}; --short tries the command")
    sys.path.insert(0, str(TESTS))
    from helpers.golden import GENERATORS

    cases = CASES
    if SHORT.value:
        cases = [(what, "digits", 8, "TF32") for what in ("inference", "training")]
    duties = {f"parity {name}": functools.partial(_parity, name=name) for name in FIRST}
    duties["ceilings"] = _ceilings
    duties |= {" ".join(map(str, c)): functools.partial(_measure, case=c) for c in cases}
    later = [name for name in GENERATORS if name not in FIRST and not SHORT.value]
    duties |= {f"parity {name}": functools.partial(_parity, name=name) for name in later}
    duties["gradients"] = _gradients
    chosen = _chosen(list(duties))
    table = Table(BUDGET.value)
    for number, name in enumerate(chosen):
        if table.left <= 0:
            table.add("the budget ended here", None, detail=", ".join(chosen[number:]))
            return
        duties[name](table)


def _chosen(names: list[str]) -> list[str]:
    """Those that --only's patterns fit, and the ceilings, where a row is a share of them."""
    for pattern in ONLY.value:
        if not fnmatch.filter(names, pattern):
            raise UserError(f"--only={pattern} fits none of the rows{nearest(pattern, names)}")
    chosen = [n for n in names if any(fnmatch.fnmatch(n, p) for p in ONLY.value)]
    measured = any(name.startswith(("inference", "training")) for name in chosen)
    return [n for n in names if n in chosen or (n == "ceilings" and measured)]


def _parity(table: Table, name: str) -> None:
    """The largest error of a golden network's images, as a part of their range."""
    from flax import nnx
    from helpers.golden import build, nhwc, relative

    graphdef, params, buffers, golden = build(name)

    def image(params, buffers, ws):
        return nnx.merge(graphdef, params, buffers).image(ws)

    errors = {}
    for precision in ("highest", "tensorfloat32"):
        with jax.default_matmul_precision(precision):
            made = jax.jit(image)(params, buffers, jnp.asarray(golden["ws"]))
        errors[precision] = relative(made, nhwc(golden["image"]))
    table.add(
        f"golden images of {name}: largest error", errors["highest"], "of the range",
        f"by TF32 {errors['tensorfloat32']:.1e}; tests on a CPU allow 1e-4", errors=errors,
    )  # fmt: skip


def _gradients(table: Table) -> None:
    table.add("gradients of an iteration against float64", _gradient_error(), "of the largest",
              "G, path lengths, D and R1 of a tiny network, float32")  # fmt: skip


def _gradient_error() -> float:
    """Of each phase's gradients on this device in float32, against float64 on the host."""
    from helpers.training import D_PHASES, G_PHASES, gradients_of, settled, tiny

    def gradients(device, dtype: str) -> list[np.ndarray]:
        trainers = [
            Trainer(tiny(classes=0), (), dtype=dtype, mesh=make_mesh([device]))
            for _ in (*G_PHASES, *D_PHASES)
        ]
        state = settled(trainers[0])
        if dtype == "float64":
            state = jax.tree.map(
                lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, state
            )
        found = []
        for trainer, phase in zip(trainers, (*G_PHASES, *D_PHASES), strict=True):
            found += jax.tree.leaves(gradients_of(trainer, state, phase)[0])
        return found

    with jax.default_matmul_precision("highest"):
        here = gradients(jax.devices()[0], "float32")
        host = jax.devices("cpu")[0]
        with jax.enable_x64(True), _draws_in_float32(), jax.default_device(host):
            exact = gradients(host, "float64")
    largest = max(np.abs(e).max() for e in exact)
    errors = [
        np.abs(np.asarray(a, np.float64) - b).max() / max(np.abs(b).max(), 1e-3 * largest)
        for a, b in zip(here, exact, strict=True)
    ]
    return float(max(errors))


@contextlib.contextmanager
def _draws_in_float32():
    """Random numbers are those of 32 bits also where arithmetic has 64."""
    with contextlib.ExitStack() as stack:
        for name, dtype in (("normal", "float32"), ("uniform", "float32"), ("randint", "int32")):
            draw = functools.partial(getattr(jax.random, name), dtype=dtype)
            stack.enter_context(mock.patch.object(jax.random, name, draw))
        yield


def _ceilings(table: Table) -> None:
    """Bytes a second of a copy, operations a second of square products, by precision."""
    n, side = (1 << 20, 512) if SHORT.value else (1 << 30, 8192)
    copy = jax.jit(lambda x: x + 1)
    array = jnp.zeros(n, jnp.uint8).view(jnp.int32)
    seconds = medians({"copy": functools.partial(copy, array)}, 10)["copy"]
    table.ceilings["copy"] = 2 * n / seconds
    table.add("copy, read and written", table.ceilings["copy"] / 1e9, "GB/s")
    for name, (dtype, precision) in PRECISIONS.items():
        with jax.default_matmul_precision(precision):
            product = jax.jit(jnp.matmul)
            x = random_like(jax.ShapeDtypeStruct((side, side), dtype))
            seconds = medians({"product": functools.partial(product, x, x)}, 10)["product"]
        table.ceilings[name] = 2 * side**3 / seconds
        table.add(f"product of {side}^2 matrices, {name}", 2 * side**3 / seconds / 1e12, "TFLOP/s")


def _measure(table: Table, case: tuple[str, str, int, str]) -> None:
    """A row: images a second, and the share of what the device's ceilings allow."""
    what, name, batch, precision = case
    dtype, products = PRECISIONS[precision]
    label = f"{name}, batch {batch}, {precision}: {what}"
    measured = _inference if what == "inference" else _training
    started = time.monotonic()
    try:
        with jax.default_matmul_precision(products):
            seconds, costs, detail = measured(name, batch, dtype)
    except jax.errors.JaxRuntimeError as error:  # one that cannot be must not end the others
        table.add(label, None, detail=" ".join(str(error).split())[:200])
        return
    flops = sum(cost.runs * sum(cost.flops.values()) for cost in costs)
    bound = sum(
        cost.runs
        * max(
            sum(cost.flops.values()) / table.ceilings[precision],
            cost.traffic.bytes / table.ceilings["copy"],
        )
        for cost in costs
    )
    memory = max(cost.held + cost.temporary for cost in costs) + sum(cost.code for cost in costs)
    table.add(
        label, batch / seconds, "images/s",
        f"{flops / seconds / 1e12:.1f} TFLOP/s, {100 * bound / seconds:.0f}% of its bound, "
        f"{memory / 2**30:.2f} GiB; {detail}; took {time.monotonic() - started:.0f} s",
        bound=bound, seconds=seconds,
    )  # fmt: skip


def _inference(name: str, batch: int, dtype: str) -> tuple[float, list[Cost], str]:
    """(seconds of a batch from styles to images, its cost, what there is to say)."""
    image, shapes = images_of(name, batch, dtype)
    arrays = random_like(shapes)
    traced = jax.jit(image).trace(*arrays)
    compiled = traced.lower().compile()
    case = functools.partial(compiled, *arrays)
    seconds = medians({"it": case}, 3 if SHORT.value else 10)["it"]
    return seconds, [cost_of(compiled, traced, 1.0)], f"{1e3 * seconds:.1f} ms"


def _training(name: str, batch: int, dtype: str) -> tuple[float, list[Cost], str]:
    """(seconds of a mean iteration, its phases' costs, what there is to say)."""
    trainer, microbatches = None, 1
    while trainer is None:
        config = configured(name, batch, microbatches=microbatches)
        trainer = Trainer(config, [100] * config.model.num_classes, dtype=dtype)
        try:
            trainer.compile()
            mean = _iteration(trainer)
            seconds = medians(phases_of(trainer), 2 if SHORT.value else 5)
        except jax.errors.JaxRuntimeError as error:
            if microbatches >= MOST_MICROBATCHES or "RESOURCE_EXHAUSTED" not in str(error):
                raise
            trainer, microbatches = None, 2 * microbatches
    program = trainer.program()
    cut = f"; cut into {microbatches} microbatches" if microbatches > 1 else ""
    parts = ", ".join(f"{phase} {1e3 * value:.1f}" for phase, value in seconds.items())
    detail = f"{1000 * mean / batch:.1f} s/kimg; each waited for, ms: {parts}{cut}"
    return mean, list(program.phases.values()), detail


def _iteration(trainer: Trainer) -> float:
    """Seconds of a mean iteration as a run has it: the device is not waited for in between.

    Lazy phases run as often as they are due in 16 iterations, after as many that are not timed.
    """
    state, seconds = trainer.init(0), 0.0
    batch = device_batch(trainer)
    for _ in range(2):
        jax.block_until_ready(state)
        started = time.monotonic()
        for iteration in range(CYCLE):
            state, _ = trainer.iterate(state, batch, iteration)
        jax.block_until_ready(state)
        seconds = (time.monotonic() - started) / CYCLE
    return seconds


if __name__ == "__main__":
    run(main)
