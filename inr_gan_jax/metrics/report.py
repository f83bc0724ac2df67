"""The resolution report: how good images are at other sizes than the native one.

Methods: `inr` renders the coordinate function at the size, with the default options of
`render.image.View`; `bicubic` and `lanczos` resize the native render with Pillow. At the native
size they are one image. Everything is measured on uint8 images, as files would hold them; image k
is that of the other metrics (seed 0, number k).

`frechet`: the Frechet distance (Heusel et al. 2017) between features of generated images of a size
and of real images, which are shrunk to it with Lanczos, or have their own size where that is less
(`real_size`). With Inception this is FID: the network scales its input to 299 pixels a side,
bilinear. With the pixel detector it is FD_pixel: images of every size are averaged over areas (or
pixels repeated) to the native size, the only one that its basis knows, so that it sees whether the
whole image stays what it was, and nothing of details finer than native pixels.

`patch_frechet`: the same distance of patches of the native size, one at a random place of each
image, which sees those details (patch-FID: Chai et al. 2022, arXiv 2204.07156, section 4; here for
each scale alone). It needs real images of at least the size. The pixel detector is fitted anew, to
real patches of that size (patch-FD_pixel).

`cross_scale_psnr`, dB: the image, averaged over areas to the native size, against the native
render, in [-1, 1], peak to peak 2; the mean over images. Below the native size the native render is
averaged instead. Higher is more consistent across scales; 58.9 dB is rounding. Renders have their
samples at the edges of pixels, as in training, so the average of finer pixels lies up to half a
native pixel beside the native sample: that counts, and Pillow's filters do not have it.
"""

import functools
import json
import math
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import PIL
from etils import epath
from tqdm import tqdm

from inr_gan_jax.data.sources import Source
from inr_gan_jax.errors import UserError
from inr_gan_jax.metrics import pixel, scales
from inr_gan_jax.metrics.detectors import Detector, open_detector
from inr_gan_jax.metrics.evaluate import check_data, describe_data, versions
from inr_gan_jax.metrics.images import Real
from inr_gan_jax.metrics.scales import Renders, Size
from inr_gan_jax.metrics.statistics import Moments, frechet_distance
from inr_gan_jax.metrics.streaming import Stream
from inr_gan_jax.model import Model
from inr_gan_jax.model import load as load_model
from inr_gan_jax.storage.atomic import replaced

METHODS = ("inr", "bicubic", "lanczos")
NAMES = {"inception": "FID", "pixel": "FD_pixel"}  # of the distance with each detector
FILES = ("report.json", "report.png")
LARGEST = 1 << 26  # pixels of an image, which is held whole to be measured
PIXELS = 1 << 21  # of a batch's images: 32 of 256x256


def report_workdir(
    config,
    source: Source,
    workdir: epath.PathLike,
    *,
    sizes: Sequence[int],
    images: int = 5000,
    detector: str = "inception",
    reference: Source | None = None,
    load: Callable[[str], tuple[dict, str]],
) -> dict:
    """Measures the newest intact checkpoint of a run; writes FILES beside it, prints the table.

    Args:
      config: a config.Config, whose `evaluate` gives batch size and truncation.
      source: the training data, of the model's size.
      sizes: the longer sides in pixels, in any order.
      images: how many are generated, and at most how many real ones they are compared with.
      detector: `inception` or `pixel`.
      reference: real images, of any size of the model's shape; by default the training data.
      load: the detectors' arrays (see open_detector).

    Returns what report.json holds: `results` has, for each size and method, the numbers that the
    module's docstring defines, None for those that do not exist, and why in `missing`. Raises
    UserError, one line, for a user's mistake, before anything is measured.
    """
    started = time.perf_counter()
    model, reference = load_model(workdir), reference or source
    wanted = _checked(model, source, reference, sizes, images, detector)
    opened = open_detector(detector, source, load)
    reporter = Reporter(model, reference, opened, config.evaluate, images)
    results = [result for size in wanted for result in reporter.measure(size)]
    report = {
        "checkpoint": model.checkpoint,
        "kimg": model.images_seen / 1000,
        "native_size": list(_native(model)),
        "images": images,
        "seed": scales.SEED,
        "truncation": config.evaluate.truncation,
        "detector": {"name": detector, "identity": opened.identity},
        "names": {"frechet": NAMES[detector], "patch_frechet": f"patch-{NAMES[detector]}",
                  "cross_scale_psnr": "cross-scale PSNR, dB"},
        "data": describe_data(source),
        "reference": reporter.reference,
        "results": results,
        "seconds": round(time.perf_counter() - started, 3),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": versions() | {"pillow": PIL.__version__},
    }  # fmt: skip
    print(table(report))
    _write(epath.Path(model.checkpoint).parent.parent, report)
    return report


def table(report: dict) -> str:
    """A line for each size and method, and what is to be known of the numbers."""
    names, real = report["names"], report["reference"]
    head = f"{'size':12}{'method':10}{names['frechet']:>12}{names['patch_frechet']:>18}"
    lines = [head + f"{'cross-scale PSNR':>20}"]
    for result in report["results"]:
        psnr = result["cross_scale_psnr"]
        lines.append(
            f"{_by(result['size']):12}{result['method']:10}{_shown(result['frechet']):>12}"
            f"{_shown(result['patch_frechet']):>18}"
            + f"{'exact' if psnr is None else f'{psnr:.2f} dB':>20}"
        )
    lines.append(
        f"{report['images']:,} images of {report['checkpoint']}, native "
        f"{_by(report['native_size'])}; {real['used']:,} real ones of {real['source']}, "
        f"{_by(real['size'])}"
    )
    if any(result["size"] > real["size"] for result in report["results"]):
        lines.append(
            f"beyond {_by(real['size'])} there are no patches of real images, and whole ones have "
            "that size: give larger ones with --reference"
        )
    return "\n".join(lines)


class Reporter:
    """Measures the images of a model, `images` of them, at one size after another.

    `settings` is a config.EvaluateConfig, `reference` that of the report: which real images.
    """

    def __init__(self, model: Model, reference: Source, detector: Detector, settings, images: int):
        self._detector, self._settings, self._images = detector, settings, images
        self._renders = Renders(model, settings.truncation)
        self._real, self._largest = Real(reference, images), (reference.width, reference.height)
        self.reference = describe_data(reference) | {"used": self._real.count}

    def measure(self, size: Size) -> list[dict]:
        """The results of all methods at (width, height)."""
        native, label = self._renders.native, _by(size)
        patched = native < size <= self._largest  # all have one shape, so widths decide
        area = math.prod(max(size, native))
        batch = max(1, min(self._settings.batch_size, PIXELS // area))
        stream = Stream(functools.partial(self._compute, patched), batch)
        read_real = scales.real_reader(self._real, min(size, self._largest))
        of_patches = self._patch_params(read_real, batch, label) if patched else None
        arrays = (self._detector.params, of_patches)
        run = functools.partial(self._run, stream, arrays)
        real = run(read_real, self._real.count, f"{label} real")
        made = {
            method: run(self._renders.reader(size, method), self._images, f"{label} {method}")
            for method in (METHODS if size != native else METHODS[:1])
        }
        pairs = [(method, part) for method in made for part in real["moments"]]
        distances = {
            (method, part): frechet_distance(real["moments"][part], made[method]["moments"][part])
            for method, part in tqdm(pairs, f"{label} distances", unit="distance", delay=5)
        }
        missing = {} if patched else {"patch_frechet": self._no_patch(size)}
        if size == native:
            missing["cross_scale_psnr"] = "exact: this is the native render"
        results = []
        for method in METHODS:
            of = method if method in made else METHODS[0]
            results.append({
                "size": list(size),
                "method": method,
                "frechet": distances[of, "frechet"],
                "patch_frechet": distances.get((of, "patch_frechet")),
                "cross_scale_psnr": None if size == native else made[of]["psnr"],
                "missing": missing,
                "real_size": list(min(size, self._largest)),
                "seconds": made[of]["seconds"],
            })  # fmt: skip
        return results

    def _compute(self, patched: bool, arrays: tuple, batch: dict) -> dict:
        whole, patch = arrays
        image, native = batch["image"], self._renders.native
        shown = image
        if self._detector.name == "pixel":
            shown = jnp.round(scales.area(image, native)).astype(jnp.uint8)
        made = {"frechet": self._detector.apply(whole, shown)["features"]}
        if patched:
            cut = scales.patches(image, batch["number"], native)
            made["patch_frechet"] = self._detector.apply(patch, cut)["features"]
        if "native" in batch:
            made["psnr"] = scales.psnr(image, batch["native"])
        return made

    def _patch_params(self, read: Callable, batch: int, label: str):
        """The detector's parameters for patches: the pixel detector's are fitted to real ones."""
        if self._detector.name != "pixel":
            return self._detector.params

        def cut(start):
            rows = read(np.arange(start, min(start + batch, self._real.count)))
            return np.asarray(scales.patches(rows["image"], rows["number"], self._renders.native))

        starts = range(0, self._real.count, batch)
        return pixel.fit(map(cut, tqdm(starts, f"{label} patches", unit="batch", delay=5)))

    @staticmethod
    def _run(stream: Stream, arrays: tuple, read: Callable, count: int, what: str) -> dict:
        """One pass over images: `moments` of features, mean `psnr` where it has one, `seconds`."""
        started, moments, psnr = time.perf_counter(), {}, []
        for _, rows in stream.run(arrays, read, count, what):
            psnr.append(rows.pop("psnr", np.zeros(0)))
            for part, features in rows.items():
                moments.setdefault(part, Moments(features.shape[1])).add(features)
        psnr = np.concatenate(psnr)
        return {
            "moments": moments,
            "psnr": float(np.mean(psnr, dtype=np.float64)) if len(psnr) else None,
            "seconds": round(time.perf_counter() - started, 3),
        }

    def _no_patch(self, size: Size) -> str:
        native = self._renders.native
        if size <= native:
            return f"a patch of the native size, {_by(native)}, is no part of the image"
        return f"no patches of real images: they are {_by(self._largest)}; give a larger reference"


def _checked(model: Model, source, reference, sizes, images: int, detector: str) -> list[Size]:
    """The sizes (width, height) in ascending order; UserError for what cannot be measured."""
    config, (width, height) = model.config.model, _native(model)
    if jax.process_count() > 1:
        raise UserError("the resolution report runs in one process: start it on one host")
    if config.family == "stylegan2":
        raise UserError("the StyleGAN2 baseline is no coordinate function: it has no other sizes")
    if detector not in NAMES:
        raise UserError(f"--detector={detector} must be one of {', '.join(NAMES)}")
    if images < 2 or len(reference) < 2:
        raise UserError("--images must be 2 or more, generated and real: a distance needs them")
    check_data(model, source)
    if reference.channels != config.channels:
        raise UserError(
            f"--reference={reference.name} has {reference.channels} channels, the model "
            f"{config.channels}"
        )
    if reference.width * height != reference.height * width:
        raise UserError(
            f"--reference={reference.name} is {_by((reference.width, reference.height))}, which "
            f"is not the shape of the model's {_by((width, height))}"
        )
    longest, unit = max(width, height), max(width, height) // math.gcd(width, height)
    if not sizes:
        raise UserError("--sizes is empty: give the longer sides in pixels, like 128,256,512")
    for size in sizes:
        if size < 1 or size % unit:
            raise UserError(
                f"--sizes: {size} gives no whole pixels: images of {_by((width, height))} need "
                f"positive multiples of {unit}"
            )
    wanted = [(size * width // longest, size * height // longest) for size in sorted({*sizes})]
    if math.prod(wanted[-1]) > LARGEST:
        raise UserError(f"--sizes: {_by(wanted[-1])} has more than {LARGEST:,} pixels")
    return wanted


def _native(model: Model) -> Size:
    return model.config.model.width, model.config.model.height


def _write(home: epath.Path, report: dict) -> None:
    from inr_gan_jax.metrics.report_plot import png  # which loads matplotlib

    contents = json.dumps(report, indent=1).encode() + b"\n", png(report)
    try:
        for name, content in zip(FILES, contents, strict=True):
            with replaced(home / name) as file:
                file.write(content)
    except OSError as error:
        raise UserError(f"{home} cannot be written: {error.strerror or error}") from None
    print(", ".join(str(home / name) for name in FILES))


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
