"""The zip that preparation writes: uncompressed, the same bytes for the same images."""

import hashlib
import json
import zipfile
from collections.abc import Iterable
from typing import BinaryIO

from inr_gan_jax.data.survey import Bad
from inr_gan_jax.errors import UserError

# Decoding is what limits reading, and of BMP it is a copy; but Pillow reads no alpha from it.
FORMATS = {1: "bmp", 3: "bmp", 4: "png"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # The earliest time that a zip can state.


def write(
    file: BinaryIO,
    files: Iterable[bytes | UserError],
    bad: Bad,
    classes: list[int] | None,
    class_names: list[str] | None,
    record: dict,
) -> None:
    """Writes the zip, and the count and hash of its images into the record."""
    pairs, digests, suffix = [], hashlib.sha256(), FORMATS[record["channels"]]
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
