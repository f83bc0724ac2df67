"""The zip that preparation writes: the same bytes for the same images."""

import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import numpy as np
from etils import epath
from PIL import Image

from inr_gan_jax.data.survey import Bad
from inr_gan_jax.errors import UserError

FORMATS = "auto, bmp, png[:LEVEL], webp-lossless or jpg[:QUALITY]"
_RAW_BELOW = 20e9  # bytes of a data set
_SAMPLE = 16  # images that tell how well all compress
_FORM = re.compile(r"(?P<kind>auto|bmp|png|webp-lossless|jpg)(:(?P<number>\d{1,3}))?")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # The earliest time that a zip can state.


@dataclasses.dataclass(frozen=True)
class Format:
    """How the images of a zip are encoded. `name` is what a user calls it."""

    name: str
    suffix: str
    options: dict[str, Any]

    def encode(self, image: Image.Image) -> bytes:
        """The bytes of a file."""
        buffer = io.BytesIO()
        image.save(buffer, {"jpg": "jpeg"}.get(self.suffix, self.suffix), **self.options)
        return buffer.getvalue()


def format_of(text: str, channels: int, size: int) -> Format:
    """The format that a user names, for images of `channels` that take `size` bytes as pixels.

    `auto` leaves pixels as they are (BMP, or PNG of level 0 with transparency) below 20 GB, as
    decoding is what limits reading; beyond, WebP is smaller than PNG and is read as fast, but has
    no grey. UserError for what is no format, or would lose channels.
    """
    found = _FORM.fullmatch(text)
    number = int(found["number"]) if found and found["number"] else None
    most = {"png": 9, "jpg": 100}.get(found["kind"] if found else "", -1)
    if not found or (number is not None and number > most):
        raise UserError(f"--format={text} must be {FORMATS}")
    kind = found["kind"]
    if kind == "auto" and size < _RAW_BELOW:
        kind, number = ("png", 0) if channels == 4 else ("bmp", None)
    elif kind == "auto":
        kind = "png" if channels == 1 else "webp-lossless"
    if channels == 4 and kind in ("bmp", "jpg"):
        raise UserError(f"--format={text} has no transparency: use png, webp-lossless or auto")
    if channels == 1 and kind == "webp-lossless":
        raise UserError(f"--format={text} has no grey: use png or auto")
    if kind == "png":
        level = 6 if number is None else number
        return Format(f"png:{level}", "png", {"compress_level": level})
    if kind == "jpg":
        quality = 95 if number is None else number
        return Format(f"jpg:{quality}", "jpg", {"quality": quality, "subsampling": 0})
    if kind == "webp-lossless":  # exact: colours of transparent pixels too
        return Format(kind, "webp", {"lossless": True, "exact": True, "method": 4})
    return Format(kind, kind, {})


def require_room(
    target: epath.Path, size: int, count: int, encode: Callable[[int], bytes | UserError]
) -> list[str]:
    """Lines that tell how large the zip will be; UserError if a local disk has no room for it.

    `size`: bytes of all pixels, for `count` images that `encode` makes: some of them tell how well
    all compress, where it matters.
    """
    if size <= 1e9:
        lines = []
    else:
        made = [encode(int(k)) for k in np.linspace(0, count - 1, min(_SAMPLE, count))]
        lengths = [len(data) for data in made if isinstance(data, bytes)]
        size = int(np.mean(lengths) * count) if lengths else size
        lines = [f"{target} will take about {size / 1e9:.3g} GB"]
    if "://" not in os.fspath(target):
        free = shutil.disk_usage(target.parent).free
        if size > free:
            raise UserError(
                f"{target} needs about {size / 1e9:.3g} GB, but {free / 1e9:.3g} GB are free "
                "there: make room, or take a smaller size, --max_images or another --format"
            )
    return lines


def write(
    file: BinaryIO,
    files: Iterable[bytes | UserError],
    bad: Bad,
    classes: list[int] | None,
    class_names: list[str] | None,
    record: dict,
    suffix: str,
) -> None:
    """Writes the zip, and the count and hash of its images into the record."""
    pairs, digests = [], hashlib.sha256()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number, data in enumerate(files):
            if isinstance(data, UserError):
                bad.add(str(data))
                continue
            index = len(pairs)
            name = f"{index // 1000:05d}/img{index:08d}.{suffix}"
            pairs.append([name, None if classes is None else classes[number]])
            digests.update(hashlib.sha256(data).digest())
            _add(archive, name, data)
        if not pairs:
            raise UserError(f"{record['source']} holds no readable images: {bad.reasons[0]}")
        record["count"], record["sha256"] = len(pairs), digests.hexdigest()
        about = {"labels": None if classes is None else pairs, "prepared": record}
        if class_names is not None:
            about["classes"] = class_names
        _add(archive, "dataset.json", json.dumps(about).encode())


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system, entry.external_attr = 3, 0o644 << 16  # The same on every system.
    archive.writestr(entry, data)
