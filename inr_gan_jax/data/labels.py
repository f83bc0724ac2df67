"""The labels of a `dataset.json`, as people write them -> whole numbers from 0."""

import json
import unicodedata
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from inr_gan_jax.errors import UserError, nearest

MOST_CLASSES = 1 << 16


def read(
    pairs: Any, names: list[str], known: Collection[str], root: str, path: str
) -> tuple[np.ndarray, int]:
    """The class of each of `names`, int64, and the number of classes.

    `pairs`: [["name.png", 3], ...]; names are relative to the folder `root` of the store at `path`,
    with slashes of any system. A whole float (1.0) is a whole number, a one-hot vector a class.
    `known`: all that the store holds, which may be more than `names`.

    Raises UserError for what is no class, an image without one, or a label without image.
    """
    where = f"{path}/dataset.json"
    if not isinstance(pairs, list):
        raise UserError(f'{where}: "labels" must be a list of ["name.png", class] or null')
    by_name, plain, count = {}, {same(name): name for name in known}, 0
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise UserError(f'{where}: {json.dumps(pair)[:99]} is not of the form ["name.png", 3]')
        name = plain.get(same(root + pair[0].removeprefix("./")))
        if name is None:
            raise UserError(
                f"{where} labels {root}{pair[0]}, which is not in {path}: "
                f"add the image or remove its label{nearest(root + pair[0], names[:1000])}"
            )
        label, classes = _class(pair[1], lambda name=name: f"{where}: the label of {name}")
        count = max(count, classes)
        if by_name.setdefault(name, label) != label:
            raise UserError(f"{where} labels {name} twice, differently: keep one label")
    missing = [name for name in names if name not in by_name]
    if missing:
        raise UserError(
            f"{where} has no label for {missing[0]} ({len(missing)} of {len(names)} images "
            "have none): label every image"
        )
    return np.asarray([by_name[name] for name in names], np.int64), count


def require_few(labels: np.ndarray, where: str) -> None:
    """UserError for numbers that would make more classes than a model can have."""
    if labels.max() >= MOST_CLASSES:
        raise UserError(
            f"{where} has labels up to {labels.max():,}, which would be so many classes, of which "
            f"{len(np.unique(labels)):,} have images: number them anew with "
            "python -m inr_gan_jax.data.prepare --relabel"
        )


def gaps(labels: np.ndarray, count: int) -> str:
    """A line about classes without images, or ""."""
    used = len(np.unique(labels))
    if used == count:
        return ""
    return (
        f"{count - used:,} of {count:,} classes (0 to {count - 1:,}) have no image; "
        "data.prepare --relabel numbers them anew"
    )


def relabelled(labels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Labels from 0 without gaps, in their order, and the old numbers as the classes' names."""
    old, new = np.unique(labels, return_inverse=True)
    return new.astype(np.int64), [str(label) for label in old]


def same(name: str) -> str:
    """One spelling for the names of a file: slashes, composed letters."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _class(label: Any, where: Callable[[], str]) -> tuple[int, int]:
    """(class, number of classes that are known from it)."""
    if isinstance(label, list):
        vector = [float(x) if type(x) in (int, float) else -1.0 for x in label]
        if sorted(vector) == [0.0] * (len(vector) - 1) + [1.0]:
            return vector.index(1.0), len(vector)
        raise UserError(
            f"{where()} is a vector, but not one-hot: only classes can be learnt; "
            "--labels=none prepares the data without"
        )
    if type(label) is float and label.is_integer():
        label = int(label)
    if type(label) is not int or not 0 <= label < 1 << 63:
        raise UserError(
            f"{where()} is {json.dumps(label)[:99]}: labels must be whole numbers from 0"
        )
    return label, label + 1
