"""How time per image grows with the batch, the resolution and the devices, beside the work.

INR-GAN from styles to images, float32, each case the median of turns. Work is what costs.flops
counts: products alone. The devices are what one CPU is made to look like (8 images, spread over
them): they share its cores, so that whatever grows with them is overhead. Draws docs/growth.png.
"""

import contextlib
import functools
import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.networks import random_like, random_networks
from benchmarks.timing import medians
from inr_gan_jax.costs import flops
from inr_gan_jax.models import inr
from inr_gan_jax.runtime.sharding import make_mesh, over_batch, replicated

PICTURE = Path(__file__).parent.parent / "docs" / "growth.png"
BATCHES, SIDES, DEVICES = (1, 2, 4, 8, 16, 32, 64), (128, 256, 512, 1024), (1, 2, 4, 8)
SMALL, SPREAD = 64, 8  # pixels a side where batch or devices grow; images that devices share


@dataclass(frozen=True)
class Growth:
    """Seconds and GFLOP per image at growing sizes of one thing, say of the batch.

    `counted` says in what the sizes count; `names` are their ticks in the picture.
    """

    what: str
    counted: str
    sizes: Sequence[int]
    names: Sequence[str]
    seconds: Sequence[float]
    gflop: Sequence[float]

    def beyond_work(self, first: int = 0, last: int = -1) -> float:
        """By how much more than its work an image's time grows between two sizes; 1 is ideal."""
        return self.seconds[last] / self.seconds[first] * self.gflop[first] / self.gflop[last]

    def power(self, values: Sequence[float]) -> tuple[float, float]:
        """(k, c) of the values c * size^k nearest to these, by least squares of logarithms."""
        exponent, offset = np.polyfit(np.log(self.sizes), np.log(values), 1)
        return float(exponent), float(np.exp(offset))

    def row(self) -> dict:
        """What the suite reports: from the first to the last size, and the pair that is worst."""
        first, last = self.names[0], self.names[-1]
        pairs = itertools.combinations(range(len(self.sizes)), 2)
        i, j = max(pairs, key=lambda pair: self.beyond_work(*pair))
        time, work = (self.power(values)[0] for values in (self.seconds, self.gflop))
        seconds = ", ".join(f"{value:.3g}" for value in self.seconds)
        return {
            "what": f"{self.what}, {last} / {first}: time over work",
            "ratio": self.beyond_work(),
            "detail": f"{seconds} s per image; time ~ {self.counted}^{time:.2f}, "
            f"work ~ ^{work:z.2f}; worst from {self.names[i]} to {self.names[j]}: "
            f"{self.beyond_work(i, j):.2f}",
        }


def forward(network: tuple, images: int, devices: Sequence[jax.Device] | None = None) -> tuple:
    """(a call that makes so many images, spread over the devices: default one; GFLOP of each)."""
    networks, *arrays = network
    mesh = make_mesh(devices or jax.devices()[:1])
    shape = (images, networks.num_styles, networks.generator_config.w_dim)
    ws = jax.device_put(random_like(jax.ShapeDtypeStruct(shape, jnp.float32)), over_batch(mesh))
    arrays = jax.device_put(arrays, replicated(mesh))

    # As models make them, and as training does: what is spread over devices is not cut further.
    grid = inr.grid if devices else inr.grid_by_few

    @jax.jit
    def make(arrays, ws):
        return networks.generator(*arrays).image(ws, grid=grid)

    work = flops.count(jax.make_jaxpr(make)(arrays, ws)).total() / images
    return functools.partial(make, arrays, ws), work / 1e9


def network_of(side: int) -> tuple:
    """INR-GAN of side x side, its widths as released: networks, parameters, buffers."""
    return random_networks("inr_gan", height=side, width=side)


def _medians(sizes: Sequence[int], cases: Sequence[Callable], repeats: int) -> dict:
    """Of each size. Every turn begins with a rest: what comes after the largest, while its memory
    is given back, takes up to five times as long.
    """
    rest = {"rest": functools.partial(time.sleep, 1)}
    return medians(rest | dict(zip(sizes, cases, strict=True)), repeats)


def over_batches() -> Growth:
    """With the images that one call makes."""
    network = network_of(SMALL)
    cases, gflop = zip(*(forward(network, images) for images in BATCHES), strict=True)
    seconds = _medians(BATCHES, cases, 3)
    names = [str(images) for images in BATCHES]
    each = [seconds[images] / images for images in BATCHES]
    return Growth(f"images of {SMALL}x{SMALL} at once", "images", BATCHES, names, each, gflop)


def over_resolutions() -> Growth:
    """With the pixels of a single image; an image of 1024x1024 has 64 times those of 128x128."""
    cases, gflop = zip(*(forward(network_of(side), 1) for side in SIDES), strict=True)
    seconds = _medians(SIDES, cases, 5)
    names = [f"{side}x{side}" for side in SIDES]
    pixels = [side**2 for side in SIDES]
    return Growth("one image", "pixels", pixels, names, [seconds[side] for side in SIDES], gflop)


@functools.cache
def _spread() -> tuple[Callable[[], jax.Array], float]:
    return forward(network_of(SMALL), SPREAD, jax.devices())


def _run_spread() -> float:
    make, gflop = _spread()
    jax.block_until_ready(make())
    return gflop


def _prepare(devices: int) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)


def over_devices() -> Growth:
    """With the devices that one CPU is made to look like: a process for each number of them."""
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        cases = {}
        for count in DEVICES:
            process = ProcessPoolExecutor(1, context, initializer=_prepare, initargs=(count,))
            stack.enter_context(process)
            cases[count] = lambda process=process: process.submit(_run_spread).result()
        gflop = [case() for case in cases.values()]
        seconds = medians(cases, 5)
    names = [str(count) for count in DEVICES]
    each = [value / SPREAD for value in seconds.values()]
    return Growth(
        f"{SPREAD} images of {SMALL}x{SMALL} on host devices",
        "devices",
        DEVICES,
        names,
        each,
        gflop,
    )


def rows() -> list[dict]:
    """Seconds per image at the largest over those at the smallest, over the same of the work."""
    growths = [over_batches(), over_resolutions(), over_devices()]
    draw(growths)
    return [growth.row() for growth in growths]


def draw(growths: Sequence[Growth]) -> None:
    """A panel for each: what was measured, its power law, and how the work alone would grow."""
    figure = Figure(figsize=(15, 5), layout="constrained")
    panels = figure.subplots(1, len(growths), sharey=True)
    for axes, growth in zip(panels, growths, strict=True):
        _draw(axes, growth)
    panels[0].set_ylabel("seconds per image")
    figure.suptitle(
        f"INR-GAN, styles to images, float32, on {jax.devices()[0].device_kind} "
        f"({os.cpu_count()} CPU cores)"
    )
    figure.savefig(PICTURE, dpi=100)


def _draw(axes: Axes, growth: Growth) -> None:
    """Colours of Okabe and Ito (2008), which the colour-blind tell apart."""
    sizes, seconds, gflop = map(np.asarray, (growth.sizes, growth.seconds, growth.gflop))
    exponent, factor = growth.power(seconds)
    axes.loglog(sizes, seconds, "o", color="#0072B2", markersize=7, label="measured")
    fit = f"fit: {growth.counted}$^{{{exponent:.2f}}}$"
    axes.loglog(sizes, factor * sizes**exponent, color="#0072B2", label=fit)
    as_work = np.min(seconds / gflop) * gflop
    axes.loglog(sizes, as_work, "--", color="#E69F00", label="as the work grows, at the best rate")
    axes.set_title(growth.what)
    axes.set_xlabel(growth.counted)
    axes.set_xticks(sizes, growth.names)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
