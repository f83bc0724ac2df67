"""A run in Weights & Biases, through its own library: on a server, or offline, in the workdir."""

import io
import os
import struct
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import wandb
from etils import epath
from PIL import Image
from wandb.proto.wandb_internal_pb2 import Record

from inr_gan_jax.errors import UserError
from inr_gan_jax.storage.mirror import Told
from inr_gan_jax.storage.paths import is_cloud

_IMAGES = "images"  # the key that all curves are drawn over
_BLOCK = 1 << 15  # bytes, of a .wandb file


class Run:
    """See mirror.Program. W&B counts steps of its own; the image count is one more number."""

    name = "wandb"

    def __init__(self, run, place: Path):
        self._run, self._place, self.id = run, place, run.id
        self._step = max([run.step, *(row["_step"] + 1 for row in self._rows())])

    def known(self) -> set[tuple[str, int]]:
        """What its server has; offline, what the files of all starts hold."""
        if self._run.offline or self._run.disabled:
            rows = list(self._rows())
        else:
            rows = self._sent()
            self._step = max([self._step, *(row["_step"] + 1 for row in rows)])
        return {
            (key, int(row[_IMAGES]))
            for row in rows
            if row.get(_IMAGES) is not None
            for key, value in row.items()
            if value is not None
        }

    def write(self, told: Told) -> None:
        pictures = {
            tag: wandb.Image(Image.open(io.BytesIO(png))) for tag, png in told.pictures.items()
        }
        self._run.log({_IMAGES: told.images} | told.scalars | pictures, step=self._step)
        self._step += 1

    def configure(self, values: Mapping[str, object]) -> None:
        self._run.config.update(dict(values), allow_val_change=True)

    def close(self) -> None:
        self._run.finish()
        wandb.teardown()  # else the end of its file may come after another start has read it

    def _sent(self) -> list[dict]:
        """What the server has; its library fails on a run that has nothing."""
        run = wandb.Api().run(self._run.path)
        return list(run.scan_history(use_cache=False)) if run.lastHistoryStep >= 0 else []

    def _rows(self) -> Iterator[dict]:
        """What the transaction logs of this run tell, but for their values."""
        for path in sorted(self._place.glob(f"wandb/*run-*-{self.id}/run-{self.id}.wandb")):
            for record in map(Record.FromString, _records(path.read_bytes())):
                if record.HasField("history"):
                    items = record.history.item
                    row = {item.key or item.nested_key[0]: item.value_json for item in items}
                    yield row | {"_step": record.history.step.num}


def opened(workdir: epath.Path, title: str, before: str | None) -> Run:
    """The run of earlier starts, or a new one, in $WANDB_PROJECT or `inr_gan_jax`.

    W&B's own files lie in the workdir, or in $WANDB_DIR, which all starts must share.
    """
    place = os.environ.get("WANDB_DIR") or workdir
    if is_cloud(place):
        raise UserError(
            "config.log.writers: wandb keeps files on a disk: set $WANDB_DIR to a folder"
        )
    place = Path(os.path.abspath(place))
    place.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or "inr_gan_jax",
        name=os.environ.get("WANDB_NAME") or title,
        id=before or uuid.uuid4().hex[:8],
        resume="allow",
        dir=place,
    )
    run.define_metric(_IMAGES)
    run.define_metric("*", step_metric=_IMAGES)
    return Run(run, place)


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a .wandb file, up to the first that is not whole.

    A header of 7 bytes, then LevelDB's log format: blocks of 32 KiB; in them pieces, each with a
    checksum, a size and a kind (whole, first, middle or last), 7 bytes.
    """
    place, pieces = 7, b""
    while place + 7 <= len(data):
        if (left := -place % _BLOCK) and left < 7:
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        piece = data[place + 7 : place + 7 + size]
        if not 1 <= kind <= 4 or len(piece) < size:
            return
        place += 7 + size
        pieces = piece if kind in (1, 2) else pieces + piece
        if kind in (1, 4):
            yield pieces
