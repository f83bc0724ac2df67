"""Makes a data set: crops, resizes and packs images into one zip that training reads.

    python -m inr_gan_jax.data.prepare --source=photos --dest=photos256.zip \\
        --width=256 --height=256 --crop=center

The zip holds BMPs, whose pixels are read as they lie there (with transparency: uncompressed PNGs),
and a `dataset.json` with the labels and a record of how it was made. The same input gives the same
bytes. FID depends on the filter.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import zipfile
from collections.abc import Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from typing import BinaryIO

import PIL
from absl import flags
from etils import epath
from PIL import Image, ImageOps
from tqdm import tqdm

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.run import run
from inr_gan_jax.data import images
from inr_gan_jax.data.sources import open_store
from inr_gan_jax.data.stores import FileStore, Store
from inr_gan_jax.data.workers import end_with_parent
from inr_gan_jax.errors import UserError

CROPS = ("none", "center", "center-wide")
LABELS = ("auto", "none", "folders")

# Decoding is what limits reading, and of BMP it is a copy; but Pillow reads no alpha from it.
_FORMATS = {1: "bmp", 3: "bmp", 4: "png"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # The earliest time that a zip can state.


@dataclasses.dataclass(frozen=True)
class Fit:
    """What is done to each image: crop, resize to width x height, perhaps to other channels.

    `none` wants images of the target's aspect ratio. `center` cuts the largest centred window of
    that ratio. `center-wide` does so for a target wider than high, and adds black bars above and
    below: the result is width x width.
    """

    height: int
    width: int
    filter: str = "lanczos"
    crop: str = "none"
    channels: int | None = None

    def __post_init__(self):
        if min(self.height, self.width) < 1:
            raise UserError(f"cannot make {self.width}x{self.height} images: sizes start at 1")
        if self.crop == "center-wide" and self.width < self.height:
            raise UserError(
                f"--crop=center-wide needs a target wider than high, not "
                f"{self.width}x{self.height}: use --crop=center"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return (self.width if self.crop == "center-wide" else self.height), self.width

    def __call__(self, image: Image.Image, where: str) -> Image.Image:
        """Returns the image so fitted; UserError, naming it by `where`, if it cannot be."""
        image = self._convert(image, where)
        width, height = image.size
        if self.crop == "none" and width * self.height != height * self.width:
            raise UserError(
                f"{where} is {width}x{height}, which is not the shape of "
                f"{self.width}x{self.height}: use --crop=center"
            )
        across = max(1, min(width, round(height * self.width / self.height)))
        down = max(1, min(height, round(width * self.height / self.width)))
        left, top = (width - across) // 2, (height - down) // 2
        window = image.crop((left, top, left + across, top + down))
        image = window.resize((self.width, self.height), images.FILTERS[self.filter])
        if self.crop == "center-wide":
            black = {"L": 0, "RGB": (0, 0, 0), "RGBA": (0, 0, 0, 255)}[image.mode]
            square = Image.new(image.mode, (self.width, self.width), black)
            square.paste(image, (0, (self.width - self.height) // 2))
            image = square
        return image

    def _convert(self, image: Image.Image, where: str) -> Image.Image:
        mode = images.MODES[self.channels]
        if image.mode == mode:
            return image
        if mode != "RGBA" and image.has_transparency_data:
            # What is hidden under transparency is arbitrary: show the image on white.
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert(mode)


def prepare(
    source: str,
    dest: str,
    fit: Fit,
    *,
    labels: str = "auto",
    max_images: int | None = None,
    workers: int = 1,
    overwrite: bool = False,
    data_dir: str | None = None,
    progress: bool = True,
) -> dict:
    """Writes `dest`, a zip, from `source` (as in `open_source`); returns its record.

    Without `fit.channels`, all images must have those of the first. `labels`: `auto` keeps those
    of the source if it has some, `folders` makes one class of each top-level folder, by name.
    `max_images` keeps the first ones by name.

    Raises:
      UserError: one line that names the file at fault; nothing is left at `dest`.
    """
    target = _target(dest, overwrite)
    store = open_store(source, data_dir, progress)
    count = min(len(store), max_images or len(store))
    classes = _classes(store, labels)
    strict = fit.channels is None
    if strict:
        fit = dataclasses.replace(fit, channels=_channels_of_first(store))
    height, width = fit.size
    record = {
        "width": width,
        "height": height,
        "channels": fit.channels,
        "count": count,
        "filter": fit.filter,
        "crop": fit.crop,
        "source": store.name,
        "versions": {"pillow": PIL.__version__},
    }
    partial = target.parent / f"{target.name}.partial"
    files = _in_order(_Encode(store, fit, strict), count, workers)
    try:
        with contextlib.closing(files), partial.open("wb") as file:
            bar = tqdm(files, f"writing {target.name}", count, disable=not progress)
            _write(file, bar, classes, record)
        partial.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {dest}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return record


def _write(file: BinaryIO, files: Iterable[bytes], classes: list[int] | None, record: dict) -> None:
    """Writes the zip, and the hash of its images into the record."""
    names, digests, suffix = [], hashlib.sha256(), _FORMATS[record["channels"]]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for index, data in enumerate(files):
            names.append(f"{index // 1000:05d}/img{index:08d}.{suffix}")
            digests.update(hashlib.sha256(data).digest())
            _add(archive, names[-1], data)
        record["sha256"] = digests.hexdigest()
        pairs = classes and [list(pair) for pair in zip(names, classes, strict=False)]
        about = json.dumps({"labels": pairs, "prepared": record})
        _add(archive, "dataset.json", about.encode())


class _Encode:
    """Image number -> the bytes of its file. Picklable, for worker processes."""

    def __init__(self, store: Store, fit: Fit, strict: bool):
        self._store, self._fit, self._strict = store, fit, strict

    def __call__(self, index: int) -> bytes:
        where = self._store.where(index)
        image = ImageOps.exif_transpose(self._store.image(index))
        if self._strict and image.mode != images.MODES[self._fit.channels]:
            raise UserError(
                f"{where} is {image.mode}, but the first image is "
                f"{images.MODES[self._fit.channels]}: choose with --channels=1, 3 or 4"
            )
        buffer = io.BytesIO()
        self._fit(image, where).save(buffer, _FORMATS[self._fit.channels], compress_level=0)
        return buffer.getvalue()


def _in_order(encode: _Encode, count: int, workers: int) -> Generator[bytes, None, None]:
    """encode(0), encode(1), ..., computed by `workers` processes a little ahead."""
    if workers <= 1:
        yield from map(encode, range(count))
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(encode,),
    )
    ahead = collections.deque()
    try:
        for index in range(count):
            ahead.append(pool.submit(_encode_in_worker, index))
            if len(ahead) >= 4 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    except BrokenProcessPool as error:
        raise UserError("a worker process died, perhaps of memory: use fewer --workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(encode: _Encode) -> None:
    global _encode_in_this_worker
    end_with_parent()
    _encode_in_this_worker = encode


def _encode_in_worker(index: int) -> bytes:
    return _encode_in_this_worker(index)


def _target(dest: str, overwrite: bool) -> epath.Path:
    target = epath.Path(dest).expanduser()
    if not dest.lower().endswith(".zip"):
        raise UserError(f"--dest={dest} must end in .zip")
    if target.exists() and not overwrite:
        raise UserError(f"{dest} exists: give another --dest, or --overwrite")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {dest}: {error}") from error
    return target


def _channels_of_first(store: Store) -> int:
    mode = store.image(0).mode
    for channels, known in images.MODES.items():
        if mode == known:
            return channels
    raise UserError(f"{store.where(0)} is {mode}: choose with --channels=1, 3 or 4")


def _classes(store: Store, labels: str) -> list[int] | None:
    if labels == "folders":
        if not isinstance(store, FileStore):
            raise UserError(f"{store.name} has no folders: use --labels=auto")
        for index, name in enumerate(store.names):
            if "/" not in name:
                where = store.where(index)
                raise UserError(f"{where} is in no folder, so it has no class: move it into one")
        folders = [name.split("/")[0] for name in store.names]
        numbers = {folder: number for number, folder in enumerate(sorted(set(folders)))}
        return [numbers[folder] for folder in folders]
    found = store.labels() if labels == "auto" else None
    return None if found is None else found[0].tolist()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system, entry.external_attr = 3, 0o644 << 16  # The same on every system.
    archive.writestr(entry, data)


def _define_flags() -> None:
    # Not at import: worker processes and tests import this module beside other commands.
    shared.path("source", None, "Folder, zip, digits or tfds:NAME[/config][:split].")
    shared.path("dest", None, "The zip to write.")
    flags.DEFINE_integer("width", None, "Width in pixels.", lower_bound=1)
    flags.DEFINE_integer("height", None, "Height in pixels.", lower_bound=1)
    flags.DEFINE_enum("filter", "lanczos", list(images.FILTERS), "Filter for resizing.")
    flags.DEFINE_enum("crop", "none", CROPS, Fit.__doc__)
    flags.DEFINE_enum("channels", None, ["1", "3", "4"], "Convert to so many; default: keep.")
    flags.DEFINE_enum("labels", "auto", LABELS, "Keep those of the source, drop, or make them.")
    flags.DEFINE_integer("max_images", None, "Keep the first so many.", lower_bound=1)
    flags.DEFINE_integer("workers", os.cpu_count(), "Processes.", lower_bound=1)
    flags.DEFINE_bool("overwrite", False, "Replace dest if it exists.")
    shared.path("data_dir", None, "Where TFDS keeps its data.")
    flags.mark_flags_as_required(["source", "dest", "width", "height"])


def _main(_) -> None:
    values = flags.FLAGS
    channels = values.channels and int(values.channels)
    fit = Fit(values.height, values.width, values.filter, values.crop, channels)
    record = prepare(
        values.source,
        values.dest,
        fit,
        labels=values.labels,
        max_images=values.max_images,
        workers=values.workers,
        overwrite=values.overwrite,
        data_dir=values.data_dir,
    )
    print(
        f"{values.dest}: {record['count']} images, {record['width']}x{record['height']}, "
        f"{record['channels']} channel(s), {record['filter']} filter, crop {record['crop']}"
    )


if __name__ == "__main__":
    _define_flags()
    run(_main)
