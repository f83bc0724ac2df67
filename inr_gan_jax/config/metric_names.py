"""The names of metrics: what is measured, with which detector, on how many images."""

import dataclasses
import re
from dataclasses import dataclass

from inr_gan_jax.errors import UserError, nearest

KNOWN = (
    "fid50k_full", "kid50k_full", "is50k", "pr50k3_full", "ppl_zfull", "ppl_wfull", "ppl_zend",
    "ppl_wend", "fd_pixel50k_full",
)  # fmt: skip
_NAME = re.compile(
    r"(?P<kind>fid|kid|is|pr|fd_pixel)(?P<count>\d+)(?P<thousand>k?)(?P<k>3)?(?P<full>_full)?"
    r"|ppl(?P<ppl_count>\d+)?(?P<ppl_thousand>k?)_(?P<space>[zw])(?P<sampling>full|end)"
)
DETECTOR = {"fid": "inception", "kid": "inception", "is": "inception", "pr": "vgg16",
            "fd_pixel": "pixel", "ppl": "lpips"}  # fmt: skip
PPL_SAMPLES = 50_000


@dataclass(frozen=True)
class Metric:
    """One metric: `kind` on `count` generated images.

    `full`: against all real images, else against as many as generated ones. `space` (z or w) and
    `sampling` (full or end) are of the perceptual path length.
    """

    name: str
    kind: str
    count: int
    full: bool = False
    space: str = ""
    sampling: str = ""

    @property
    def detector(self) -> str:
        """`inception`, `vgg16`, `lpips` or `pixel`."""
        return DETECTOR[self.kind]


def parse_names(text: str) -> tuple[Metric, ...]:
    """`fid50k_full,is50k` -> metrics; UserError for a name that is none.

    Any number of images may stand for 50k: fid5k_full, fd_pixel2000. `fd_pixel` is the Frechet
    distance of pixels' principal components, which needs no detector's weights and is no FID.
    """
    metrics = tuple(_parse(part.strip()) for part in text.split(",")) if text.strip() else ()
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise UserError(f"config.evaluate.metrics={text} names a metric twice")
    return metrics


def _parse(name: str) -> Metric:
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(
            f"config.evaluate.metrics: {name!r} is no metric; there are {', '.join(KNOWN)}, "
            "and the same of other counts (fd_pixel2k_full)" + nearest(name, KNOWN)
        )
    if match["space"]:
        count = int(match["ppl_count"] or 0) * (1000 if match["ppl_thousand"] else 1)
        metric = Metric(
            name, "ppl", count if match["ppl_count"] else PPL_SAMPLES,
            space=match["space"], sampling=match["sampling"],
        )  # fmt: skip
    else:
        metric = _counted(name, match)
    if metric.count < 10:
        raise UserError(f"config.evaluate.metrics: {name} has too few images: take 10 or more")
    return metric


def _counted(name: str, match: re.Match) -> Metric:
    digits, kind = match["count"], match["kind"]
    if kind == "pr":  # pr50k3: the 3 after the k is the number of neighbours
        if not (match["thousand"] and match["k"]):
            raise UserError(f"config.evaluate.metrics: {name} must be of the form pr50k3_full")
    elif match["k"]:
        raise UserError(f"config.evaluate.metrics: {name!r} is no metric; is it {kind}{digits}k?")
    count = int(digits) * (1000 if match["thousand"] else 1)
    return dataclasses.replace(Metric(name, kind, count), full=bool(match["full"]))
