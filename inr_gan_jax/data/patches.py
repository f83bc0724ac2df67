"""Pictures of any sizes, as patches: windows of the model's own size, of the picture at some size.

A size is drawn for each image between the model's and the picture's own, or the largest that is
wanted, and a window of that many pixels; the picture is resampled to it, antialiased, from its own
pixels ("Any-resolution training", Chai et al. 2022). All of it is a function of (seed, k).
"""

import copy
import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from inr_gan_jax.data import anything, images
from inr_gan_jax.data.fit import Fit, converted
from inr_gan_jax.data.labels import gaps
from inr_gan_jax.data.sources import Source, labels_of, open_store
from inr_gan_jax.data.stores import FileStore, Store
from inr_gan_jax.data.survey import look
from inr_gan_jax.errors import UserError


@dataclass(frozen=True)
class Sizes:
    """How sizes are drawn: `largest` longer side in pixels, `whole` the part that is not cut.

    `scales`: uniform, or log, which is so of their logarithm.
    """

    largest: int
    whole: float
    scales: str

    def draw(self, random: np.random.Generator, smallest: int, own: int, unit: int = 4) -> int:
        """A longer side, a multiple of `unit`; of a picture whose own is `own`, never more."""
        most = min(own, self.largest) // unit * unit
        if random.random() < self.whole or most <= smallest:
            return smallest
        if self.scales == "log":
            size = smallest * (most / smallest) ** random.random()
            return int(size) // unit * unit
        return unit * int(random.integers(smallest // unit, most // unit + 1))


class Patches(Source):
    """A source of pictures of any sizes; an index gives one whole, at the model's size."""

    def __init__(self, store: Store, sizes: Sizes, told: list[str], own: list[int], **options):
        super().__init__(store, **options)
        self.sizes, self.told = sizes, told
        self._own = own  # longer sides; 0: cannot be read
        of_long = max(self.height, self.width) // math.gcd(self.height, self.width)
        self.unit = of_long * math.ceil(4 / of_long)  # of longer sides: both sides are whole

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        picture, label = self.raw(index)
        whole = picture.resize((self.width, self.height), Image.Resampling.LANCZOS)
        return images.to_pixels(whole, self.channels, ""), label

    def raw(self, index: int) -> tuple[Image.Image, int]:
        """The picture, cut from its middle to the model's shape.

        At its own size, but JPEGs of twice what is ever looked at or more smaller than that: it is
        the same for every patch of it, whatever its size.
        """
        index = range(len(self))[index]
        where = self._store.where(index)
        enough = self.sizes.largest
        picture = anything.decode(self._store.read(index), where, at_least=enough)
        cut = Fit(self.height, self.width, crop="center").window(*picture.size)
        picture = converted(picture, self.channels).crop(cut)
        return picture, 0 if self._labels is None else int(self._labels[index])

    def whole_at(self, sizes: Iterable[int]) -> "Patches":
        """Whole pictures at the largest of `sizes` (longer sides) that two or more of them have.

        Those that are smaller are left out. UserError where there are none.
        """
        long = max(self.height, self.width)
        whole = [n for n in sizes if not (self.height * n % long or self.width * n % long)]
        for size in sorted(whole, reverse=True):
            large = [i for i, own in enumerate(self._own) if own >= size]
            if len(large) > 1:
                break
        else:
            raise UserError(f"{self.name} holds no two pictures of the sizes asked for")
        found = copy.copy(self)
        found.height, found.width = self.height * size // long, self.width * size // long
        found.sizes = dataclasses.replace(self.sizes, largest=max(size, self.sizes.largest))
        found._store, found._own = self._store.only(large), [self._own[i] for i in large]
        found._labels, found.num_classes = None, 0
        found.content_hash = self._hash([self.content_hash, size])
        return found

    def patch(self, item: tuple, random: np.random.Generator) -> tuple:
        """(picture, ...) -> (uint8 patch, ..., window): pixels of the longer side, top, left."""
        picture, *rest = item
        long = max(self.height, self.width)
        size = self.sizes.draw(random, long, max(picture.size), self.unit)
        height, width = self.height * size // long, self.width * size // long
        top = int(random.integers(height - self.height + 1))
        left = int(random.integers(width - self.width + 1))
        window = np.asarray([size, top, left], np.int32)
        return self._cut(picture, size, top, left), *rest, window

    def _cut(self, picture: Image.Image, size: int, top: int, left: int) -> np.ndarray:
        long = max(self.height, self.width)
        x = picture.width / (self.width * size // long)
        y = picture.height / (self.height * size // long)
        box = (left * x, top * y, (left + self.width) * x, (top + self.height) * y)
        cut = picture.resize((self.width, self.height), Image.Resampling.LANCZOS, box=box)
        return images.to_pixels(cut, self.channels, "")

    def mirrored(self, item: tuple) -> tuple:
        """A patch of the mirrored picture."""
        image, *rest, (size, top, left) = item
        width = self.width * size // max(self.height, self.width)
        window = np.asarray([size, top, width - self.width - left], np.int32)
        return image[:, ::-1], *rest, window


class Pictures(NamedTuple):
    """A folder or zip as the user calls it, and what each file's header says, or why it is none."""

    name: str
    store: FileStore
    found: list[anything.Found | UserError]

    def shape(self) -> float:
        """Width over height, of the median picture; UserError where none can be read."""
        sizes = [one.size for one in self.found if isinstance(one, anything.Found)]
        if not sizes:
            raise UserError(f"{self.name} holds no picture that can be read")
        return float(np.median([width / height for height, width in sizes]))


def look_at(source: str, data_dir: str | None = None, progress: bool = True) -> Pictures:
    """Opens pictures of any kinds and sizes, and looks at all their headers.

    UserError where `source` is no folder or zip.
    """
    store = open_store(source, data_dir, progress, every=True)
    if not isinstance(store, FileStore):
        raise UserError(f"{source} has images of one size: patches are of a folder or zip")
    return Pictures(source, store, list(look(store, range(len(store)), progress)))


def open_patches(
    pictures: Pictures,
    *,
    height: int,
    width: int,
    channels: int,
    labels: bool,
    sizes: Sizes,
    max_skipped: int = 0,
    progress: bool = True,
) -> Patches:
    """Pictures as a source of patches.

    Those smaller than the model are left out and counted. Raises UserError, one line, where more
    than `max_skipped` cannot be read, and where nothing remains.
    """
    source, store, found = pictures
    bad = [error for error in found if isinstance(error, UserError)]
    if len(bad) > max_skipped:
        raise UserError(
            f"{len(bad)} of {len(found)} files of {source} cannot be read ({bad[0]}): move them "
            f"away, or allow them: --config.data.max_skipped={len(bad)}"
        )
    fit, long = Fit(height, width, crop="center"), max(height, width)
    own = {}
    for index, one in enumerate(found):
        if isinstance(one, anything.Found):
            left, top, right, bottom = fit.window(*reversed(one.size))
            if (right - left) >= width and (bottom - top) >= height:
                own[index] = max(right - left, bottom - top)
    small = len(found) - len(bad) - len(own)
    if not own:
        raise UserError(
            f"all {len(found)} pictures of {source} are smaller than the model's patch of "
            f"{width}x{height}: give larger ones, or a smaller model"
        )
    # What cannot be read stays in its place, where others stand in for it while training: were it
    # left out, the run would be another one as soon as a picture breaks.
    kept = [i for i, one in enumerate(found) if i in own or isinstance(one, UserError)]
    store = store.only(kept)
    identity, *_ = store.identities(progress)
    classes = labels_of(store, source) if labels else None
    least, most = min(own.values()), max(own.values())
    told = [
        f"patches of {width}x{height} of pictures whose longer side is {least} to {most}, at sizes "
        f"from {long} to {min(most, sizes.largest)}"
    ]
    if small or bad:
        told.append(f"left out: {small} smaller than a patch, {len(bad)} that cannot be read")
    if classes is not None and (line := gaps(*classes)):
        told.append(line)
    return Patches(
        store,
        sizes,
        told,
        [own.get(i, 0) for i in kept],
        height=height,
        width=width,
        channels=channels,
        labels=classes,
        identity=identity,
        class_names=() if classes is None else store.class_names(),
    )
