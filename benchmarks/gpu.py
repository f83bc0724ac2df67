"""The GPU at hand: whether it computes what it must, and how near to its limits it does.

    python -m benchmarks.gpu [--budget=480] [--json=gpu.json]

First parity (golden arrays; gradients of a training iteration against float64 on the host), then
what the device can do (copy, products), then inference and training in order of worth, as far as
the budget of seconds goes. A row is printed, and written to --json, as soon as it is known.

Needs jax[cuda13] (`pip install -c constraints.txt -e .[cuda13]`) and no network. Programs compile in
threads, side by side. What does not fit into the device's memory is cut into microbatches, and the
row says so. On a CPU: --short, which measures tiny networks to see that the command works.
"""

import concurrent.futures
import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.networks import random_like, random_networks
from benchmarks.run import machine
from benchmarks.timing import medians
from benchmarks.train import configured, seconds_per_iteration
from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.run import run
from inr_gan_jax.costs.program import cost_of
from inr_gan_jax.errors import UserError
from inr_gan_jax.runtime.sharding import make_mesh
from inr_gan_jax.train.trainer import DoesNotFit, Trainer

BUDGET = flags.DEFINE_integer("budget", 480, "Seconds; what is not reached is said.", lower_bound=1)
JSON = shared.path("json", None, "A file that holds all rows so far, at any time.")
SHORT = flags.DEFINE_bool("short", False, "Tiny networks, few repeats: does the command work?")

TESTS = Path(__file__).parent.parent / "tests"  # whose golden arrays parity is judged by
# Type of features, and how float32 products are rounded.
PRECISIONS = {
    "bfloat16": ("bfloat16", "default"),
    "TF32": ("float32", "tensorfloat32"),
    "float32": ("float32", "highest"),
}
# What is measured, in order of worth: (configuration, batch, precision).
CASES = (
    *(("ffhq", 16, precision) for precision in PRECISIONS),
    ("ffhq", 64, "bfloat16"),
    ("ffhq_1024", 16, "bfloat16"),
    *((f"ffhq_{family}", 16, "bfloat16") for family in ("bil", "cips", "stylegan2")),
)
THREADS, MOST_MICROBATCHES = 6, 16


class Table:
    """Rows as they are found: printed, and kept in a file."""

    def __init__(self, budget: float):
        self._end, self._start = time.monotonic() + budget, time.monotonic()
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
    """Parity, ceilings, inference, training."""
    device = jax.devices()[0]
    if device.platform != "gpu" and not SHORT.value:
        raise UserError(f"jax sees no GPU here, but a {device.platform}; --short tries the command")
    table = Table(BUDGET.value)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        cases = [("digits", 8, p) for p in PRECISIONS] if SHORT.value else CASES
        compiling = [(case, pool.submit(_compiled, *case)) for case in cases]
        try:
            _parity(table)
            ceilings = _ceilings(table)
            for case, future in compiling:
                _measure(table, case, future, ceilings)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _parity(table: Table) -> None:
    """The largest errors, as parts of each array's largest magnitude."""
    sys.path.insert(0, str(TESTS))
    from helpers.golden import GENERATORS, build, nhwc, relative

    for precision in ("highest", "tensorfloat32"):
        worst = {}
        with jax.default_matmul_precision(precision):
            for name in GENERATORS[:2] if SHORT.value else GENERATORS:
                graphdef, params, buffers, golden = build(name)

                def image(params, buffers, ws, graphdef=graphdef):
                    from flax import nnx

                    return nnx.merge(graphdef, params, buffers).image(ws)

                made = jax.jit(image)(params, buffers, jnp.asarray(golden["ws"]))
                worst[name] = relative(made, nhwc(golden["image"]))
        name = max(worst, key=worst.get)
        table.add(
            f"golden images, {precision}: largest error", worst[name], "of the range",
            f"{name}; 1e-4 is what tests on a CPU allow", errors=worst,
        )  # fmt: skip
    table.add("gradients of an iteration against float64", _gradient_error(), "of the largest",
              "G, D, R1 and path lengths of a tiny network, float32")  # fmt: skip


def _gradient_error() -> float:
    """Of each phase's gradients on this device in float32, against float64 on the host."""
    from helpers.training import D_PHASES, G_PHASES, gradients_of, settled, tiny

    def gradients(device, dtype: str) -> list[np.ndarray]:
        trainers = [
            Trainer(tiny(), [5, 1, 2], dtype=dtype, mesh=make_mesh([device]))
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
    """Random numbers are those of float32 also where arithmetic is float64."""
    before = jax.config.jax_default_dtype_bits
    jax.config.update("jax_default_dtype_bits", "32")
    try:
        yield
    finally:
        jax.config.update("jax_default_dtype_bits", before)


def _ceilings(table: Table) -> dict[str, float]:
    """Bytes a second of a copy, operations a second of square products, by precision."""
    n, side = (1 << 20, 512) if SHORT.value else (1 << 30, 8192)
    copy = jax.jit(lambda x: x + 1)
    array = jnp.zeros(n, jnp.uint8).view(jnp.int32)
    seconds = medians({"copy": functools.partial(copy, array)}, 10)["copy"]
    found = {"copy": 2 * n / seconds}
    table.add("copy, read and written", found["copy"] / 1e9, "GB/s")
    for name, (dtype, precision) in PRECISIONS.items():
        with jax.default_matmul_precision(precision):
            product = jax.jit(jnp.matmul)
            x = random_like(jax.ShapeDtypeStruct((side, side), dtype))
            seconds = medians({"product": functools.partial(product, x, x)}, 10)["product"]
        found[name] = 2 * side**3 / seconds
        table.add(f"product of {side}^2 matrices, {name}", found[name] / 1e12, "TFLOP/s")
    return found


def _compiled(name: str, batch: int, precision: str) -> tuple[Trainer, Callable, object, str]:
    """(trainer with its phases compiled, what generates a batch, its cost, what was cut)."""
    dtype, products = PRECISIONS[precision]
    microbatches = 1
    with jax.default_matmul_precision(products):
        while True:
            config = configured(name, batch, microbatches=microbatches)
            trainer = Trainer(config, [100] * config.model.num_classes, dtype=dtype)
            try:
                trainer.compile()
                break
            except (DoesNotFit, jax.errors.JaxRuntimeError) as error:
                if microbatches >= MOST_MICROBATCHES or "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                microbatches *= 2
        generate, cost = _generator(trainer, batch, dtype)
    cut = f"{microbatches} microbatches" if microbatches > 1 else ""
    return trainer, generate, cost, cut


def _generator(trainer: Trainer, batch: int, dtype: str):
    networks = trainer.networks
    _, params, buffers = random_networks("", networks=networks)
    shape = (batch, networks.num_styles, networks.generator_config.w_dim)
    ws = random_like(jax.ShapeDtypeStruct(shape, jnp.float32))

    def image(params, buffers, ws):
        return networks.generator(params, buffers).image(ws, dtype=jnp.dtype(dtype))

    traced = jax.jit(image).trace(params, buffers, ws)
    compiled = traced.lower().compile()
    return functools.partial(compiled, params, buffers, ws), cost_of(compiled, traced, 1.0)


def _measure(table: Table, case: tuple, future, ceilings: dict[str, float]) -> None:
    """Two rows of a case: inference and training."""
    name, batch, precision = case
    what = f"{name}, batch {batch}, {precision}"
    try:
        trainer, generate, cost, cut = future.result(timeout=max(table.left, 0.1))
    except concurrent.futures.TimeoutError:
        table.add(what, None, detail="the budget ended while it compiled")
        return
    except Exception as error:  # one that does not compile here must not end the others
        table.add(what, None, detail=" ".join(str(error).split())[:200])
        return
    repeats = 3 if SHORT.value else 10
    seconds = medians({"one": generate}, repeats)["one"]
    flops = sum(cost.flops.values())
    bound = max(flops / ceilings[precision], cost.traffic.bytes / ceilings["copy"])
    memory = (cost.held + cost.temporary + cost.code) / 2**30
    table.add(
        f"{what}: inference", batch / seconds, "images/s",
        f"{flops / seconds / 1e12:.1f} TFLOP/s, {100 * bound / seconds:.0f}% of its bound, "
        f"{memory:.2f} GiB", bound=bound, seconds=seconds,
    )  # fmt: skip
    try:
        _measure_training(table, what, trainer, cut, ceilings[precision], ceilings["copy"])
    except jax.errors.JaxRuntimeError as error:
        table.add(f"{what}: training", None, detail=" ".join(str(error).split())[:200])


def _measure_training(table, what: str, trainer: Trainer, cut: str, products, copy) -> None:
    seconds = seconds_per_iteration(trainer, 2 if SHORT.value else 5)
    program, batch = trainer.program(), trainer.config.train.batch_size
    mean = sum(program.phases[phase].runs * value for phase, value in seconds.items())
    bound = sum(
        c.runs * max(sum(c.flops.values()) / products, c.traffic.bytes / copy)
        for c in program.phases.values()
    )
    flops = program.flops_per_image * program.images
    parts = ", ".join(f"{phase} {1e3 * value:.1f}" for phase, value in seconds.items())
    table.add(
        f"{what}: training", batch / mean, "images/s",
        f"{1000 * mean / batch:.1f} s/kimg, {flops / mean / 1e12:.1f} TFLOP/s, "
        f"{100 * bound / mean:.0f}% of its bound, {program.memory / 2**30:.2f} GiB; ms: {parts}"
        + (f"; cut into {cut}" if cut else ""),
        bound=bound, seconds=seconds,
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
