"""Measures a generator against a data set: every metric that the configuration names.

Metrics of the same detector on the same number of images share one pass over them. Statistics of
real images are kept in the cache; generated ones depend on the evaluation's seed alone.
"""

import functools
import logging
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from tqdm import tqdm

from inr_gan_jax import __version__
from inr_gan_jax.config.metric_names import Metric, parse_names
from inr_gan_jax.errors import UserError
from inr_gan_jax.metrics import cache, statistics, vgg, weights
from inr_gan_jax.metrics.classes import diversity
from inr_gan_jax.metrics.detectors import Detector, open_detector
from inr_gan_jax.metrics.images import Generated, Real
from inr_gan_jax.metrics.neighbours import precision_recall
from inr_gan_jax.metrics.ppl import squared_rates
from inr_gan_jax.metrics.statistics import Moments
from inr_gan_jax.metrics.streaming import Stream, gather_rows
from inr_gan_jax.metrics.survey import Survey, survey

KEPT = 100_000  # features of real images that are kept whole: KID's subsets draw no more
FEATURES = 2048  # that Inception has
VERSION = 1  # of what the cache holds: another way to compute is another key


@dataclass(frozen=True)
class _Group:
    """Metrics that one pass over generated images serves."""

    detector: str
    count: int
    full: bool
    metrics: tuple[Metric, ...]

    @property
    def kinds(self) -> set[str]:
        """Kinds of its metrics (see config.metric_names): `fid`, `is`, ..."""
        return {metric.kind for metric in self.metrics}


class Evaluator:
    """The metrics of a configuration, compiled once, for any weights of one model.

    `settings` is a config.EvaluateConfig, `detector_weights` are files (see weights.load).
    Raises UserError, one line, where a detector's weights cannot be had.
    """

    def __init__(self, model, source, settings, detector_weights: Sequence[epath.PathLike] = ()):
        self._source, self._settings = source, settings
        self._classes = model.num_classes
        self._generated = Generated(model, settings.truncation)
        metrics = parse_names(settings.metrics)
        self._groups = _grouped(metrics)
        self._detectors: dict[str, Detector] = {}
        self._streams: dict[tuple, Stream] = {}
        load = functools.cache(lambda network: weights.load(network, detector_weights))
        for group in self._groups:
            if group.detector not in self._detectors:
                self._detectors[group.detector] = open_detector(group.detector, source, load)
        self._paths = [metric for metric in metrics if metric.kind == "ppl"]
        if self._paths:
            (convolutions, _), (linear, self._lpips_hash) = load("vgg16"), load("lpips")
            self._lpips = vgg.lpips_from_torch(convolutions, linear)

    def measure(self, model, repeats: int = 1) -> Iterator[dict]:
        """Yields a result for each metric, on process 0 as soon as it is known.

        A result has `metric`, `value`, `seconds`, `images`, `seeds`, `truncation`, `data`,
        `detector` and `versions`; with repeats `values` and `spread` (standard deviation, n - 1);
        of a class-conditional model `diversity` of each class (generated over real variance), with
        `per_class` also `classes`, the metric of each.
        """
        for group in self._groups:
            started = time.perf_counter()
            real = self._real(group)
            found: dict[str, list] = {metric.name: [] for metric in group.metrics}
            extra: dict[str, dict] = {}
            for seed in range(repeats):
                made = self._made(group, model, seed)
                if jax.process_index() == 0:
                    for metric in group.metrics:
                        found[metric.name].append(_value(metric, real, made))
                        extra[metric.name] = self._by_class(metric, real, made)
            for metric in group.metrics if jax.process_index() == 0 else ():
                yield self._result(metric, found[metric.name], started) | extra[metric.name]
        for metric in self._paths:
            started = time.perf_counter()
            values = [self._path_length(metric, model, seed) for seed in range(repeats)]
            if jax.process_index() == 0:
                yield self._result(metric, values, started)

    def _stream(self, key: tuple, compute: Callable) -> Stream:
        """One compiled function for each purpose."""
        if key not in self._streams:
            self._streams[key] = Stream(compute, self._settings.batch_size)
        return self._streams[key]

    def _made(self, group: _Group, model, seed: int) -> Survey:
        detector, names = self._detectors[group.detector], ["features"]
        names += ["logits"] * ("is" in group.kinds)

        def compute(arrays, batch):
            images, labels = self._generated.images(arrays[0], batch)
            made = detector.apply(arrays[1], images)
            return {name: made[name] for name in names} | {"label": labels}

        whole = group.kinds & {"kid", "is", "pr"} or self._settings.per_class
        return survey(
            self._stream(("made", group.detector, *names), compute),
            (Generated.arrays(model), detector.params),
            Generated.read(seed),
            group.count,
            classes=self._classes,
            keep=np.arange(group.count if whole else 0),
            what=f"generated, {group.detector}",
        )

    def _real(self, group: _Group) -> Survey | None:
        """Of the data set, from the cache if it is there; process 0 decides for all, and has it."""
        if group.kinds == {"is"}:
            return None
        detector = self._detectors[group.detector]
        images = Real(self._source, None if group.full else group.count)
        whole = group.kinds & {"kid", "pr"} or self._settings.per_class
        limit = images.count if "pr" in group.kinds else KEPT
        keep = np.random.default_rng(1).permutation(images.count)[: limit if whole else 0]
        key = {
            "what": "real images",
            "version": VERSION,
            "data": self._source.content_hash,
            "detector": [detector.name, detector.identity],
            "images": images.count,
            "kept": len(keep),
            "classes": self._classes,
        }

        def compute(arrays, batch):
            pixels, labels = images.images((), batch)
            return {"features": detector.apply(arrays, pixels)["features"], "label": labels}

        def make():
            stream = self._stream(("real", group.detector), compute)
            made = survey(
                stream, detector.params, images.read, images.count,
                classes=self._classes, keep=keep, what=f"real, {group.detector}",
            )  # fmt: skip
            return made.to_arrays()

        found = _shared(key, make)
        return found and Survey.from_arrays(found)

    def _path_length(self, metric: Metric, model, seed: int) -> float:
        compute = squared_rates(self._generated, metric, vgg.lpips, crop=self._settings.ppl_crop)
        stream = self._stream(("path", metric.space, metric.sampling), compute)
        arrays = (Generated.arrays(model), self._lpips)
        numbers, rates = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        read = Generated.read(seed)
        for chosen, rows in stream.run(arrays, read, metric.count, metric.name):
            numbers.append(chosen)
            rates.append(rows["rate"])
        rows = gather_rows(np.concatenate(numbers), {"rate": np.concatenate(rates)})
        return statistics.ppl(rows["rate"])

    def _by_class(self, metric: Metric, real: Survey, made: Survey) -> dict:
        if real is None or not self._classes:
            return {}
        ratios = diversity(made.spread, real.spread)
        entry = {"diversity": {str(c): _number(r) for c, r in enumerate(ratios)}}
        if self._settings.per_class and metric.kind in ("fid", "fd_pixel"):
            entry["classes"] = {}
            for c in tqdm(range(self._classes), f"{metric.name}, classes", delay=5):
                of_class = [s.kept["features"][s.kept["label"] == c] for s in (real, made)]
                few = min(map(len, of_class)) < 2
                distance = None if few else statistics.frechet_distance(*map(_moments, of_class))
                entry["classes"][str(c)] = distance
        return entry

    def _result(self, metric: Metric, values: list, started: float) -> dict:
        path = metric.kind == "ppl"
        identity = self._lpips_hash if path else self._detectors[metric.detector].identity
        result = {"metric": metric.name, "value": _mean(values)}
        if len(values) > 1:
            result |= {"values": values, "spread": _spread(values)}
        if few := self._too_few(metric):
            result["warning"] = few
            logging.warning("%s: %s", metric.name, few)
        return result | {
            "seconds": round(time.perf_counter() - started, 3),
            "images": metric.count,
            "seeds": list(range(len(values))),
            "truncation": self._settings.truncation,
            "data": describe_data(self._source),
            "detector": {"name": metric.detector, "identity": identity},
            "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "versions": versions(),
        }

    def _too_few(self, metric: Metric) -> str:
        """What is to be said of a statistic on fewer images than it needs; empty: nothing."""
        real = len(self._source) if metric.full else min(metric.count, len(self._source))
        counts = f"{metric.count:,} generated and {real:,} real images"
        if metric.kind == "fid" and min(metric.count, real) < FEATURES:
            return (
                f"{counts} for {FEATURES:,} features: covariances are singular, the distance is "
                "far above that of more images"
            )
        if metric.kind == "kid" and min(metric.count, real) < statistics.KID_SUBSET:
            return f"{counts}: its subsets are not of {statistics.KID_SUBSET:,} images, but of all"
        return ""


def describe_data(source) -> dict:
    """Which real images: their name, number, size, content, and how they were prepared."""
    return {
        "source": source.name,
        "images": len(source),
        "size": [source.width, source.height],
        "sha256": source.content_hash,
        "prepared": source.prepared,
    }


def check_data(model, source) -> None:
    """Raises UserError unless a model's images are of the data's size and channels."""
    for name in ("height", "width", "channels"):
        ours, theirs = getattr(model.config.model, name), getattr(source, name)
        if ours != theirs:
            raise UserError(
                f"the model in {model.checkpoint} has {name} {ours}, the data {theirs}: give the "
                "configuration that it was trained with"
            )


def versions() -> dict[str, str]:
    """Of everything that has a part in a number."""
    found = {name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")}
    return {"inr_gan_jax": __version__, "python": platform.python_version()} | found


def collapsed(result: dict, below: float) -> list[str]:
    """The classes of a result whose images vary less than `below` times what real ones do."""
    ratios = result.get("diversity", {})
    return [name for name, ratio in ratios.items() if ratio is not None and ratio < below]


def _grouped(metrics: Sequence[Metric]) -> list[_Group]:
    groups: dict[tuple, list] = {}
    for metric in metrics:
        if metric.kind != "ppl":
            # Precision and recall compare as many real images as generated ones.
            full = metric.full and metric.kind != "pr"
            full = full or metric.kind == "is"  # knows no real images: joins whom it can
            groups.setdefault((metric.detector, metric.count, full), []).append(metric)
    return [_Group(*key, tuple(group)) for key, group in groups.items()]


def _value(metric: Metric, real: Survey, made: Survey):
    """The metric's number; for `is` and `pr` two numbers by name."""
    if metric.kind in ("fid", "fd_pixel"):
        return statistics.frechet_distance(real.moments, made.moments)
    if metric.kind == "kid":
        return statistics.kernel_distance(real.kept["features"], made.kept["features"])
    if metric.kind == "is":
        probabilities = np.asarray(jax.nn.softmax(made.kept["logits"]))
        return dict(zip(("mean", "std"), statistics.inception_score(probabilities), strict=True))
    pair = precision_recall(real.kept["features"], made.kept["features"])
    return dict(zip(("precision", "recall"), pair, strict=True))


def _mean(values: list):
    if isinstance(values[0], dict):
        return {name: _mean([value[name] for value in values]) for name in values[0]}
    return float(np.mean(values))


def _spread(values: list):
    if isinstance(values[0], dict):
        return {name: _spread([value[name] for value in values]) for name in values[0]}
    return float(np.std(values, ddof=1))


def _moments(features_nf: np.ndarray) -> Moments:
    moments = Moments(features_nf.shape[1])
    moments.add(features_nf)
    return moments


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _shared(key: dict, make: Callable[[], dict]) -> dict | None:
    """From process 0's cache, and then for it alone; else all processes make it together."""
    found = cache.lookup(key) if jax.process_index() == 0 else None
    if not _told(found is not None):
        found = make()
        if jax.process_index() == 0:
            cache.keep(key, found)
    return found


def _told(value: bool) -> bool:
    """What process 0 says, in all processes."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.int32(value)))
