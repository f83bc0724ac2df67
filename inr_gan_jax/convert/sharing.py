"""What is shared of a run, and where to: the files of a folder or of a hub's model."""

import copy
import dataclasses
import json
import re
import sys

from etils import epath

from inr_gan_jax.config import Config, to_plain
from inr_gan_jax.convert import card
from inr_gan_jax.convert.exports import picture_of, safetensors_of
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.shared import FILE
from inr_gan_jax.metrics import results
from inr_gan_jax.model import Model
from inr_gan_jax.storage import hub
from inr_gan_jax.storage.atomic import replaced
from inr_gan_jax.train.workdir import RUN_FILE

LARGE = 512  # pixels of an image's longer side of which only four are shown


def check(to: epath.PathLike, licence: str | None, *, private: bool, update: bool) -> None:
    """UserError for what can be known before anything is made."""
    if licence is None:
        raise UserError(
            "give --licence=apache-2.0 (or cc-by-4.0, cc-by-nc-4.0, other, ...): without one "
            "nobody may use what you share, and what your data allow only you can know"
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", licence):
        raise UserError(f"--licence={licence} must be a licence's short name, like apache-2.0")
    if hub.is_hub(to):
        return hub.check_free(to, update)
    if private:
        raise UserError(f"--private is for a hub; --to={to} is a folder")
    folder = epath.Path(to).expanduser()
    try:
        used = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise UserError(f"--to={to} cannot be read: {error.strerror or error}") from None
    if used and not (update and (folder / FILE).exists()):
        raise UserError(f"--to={to} is in use: give a new folder, or --update for a shared model")
    return None


def files_of(
    model: Model, to: epath.PathLike, licence: str, *, ema: float | None = None
) -> dict[str, bytes]:
    """Names and bytes: arrays, configuration, pictures, and a card that tells of the run.

    `to` is the address by which others open it; `ema` the width of the average that `model` is,
    if it is not the run's own. Of paths on this machine only the last part is told.
    """
    home = epath.Path(model.checkpoint).parent.parent
    record = _record(home / RUN_FILE)
    public = copy.copy(model)
    public.config = _public(model.config)
    about = {
        "identity": record.get("identity", {}),
        "config": to_plain(public.config),
        "command": card.without_folders(record.get("command", "")),
        "images": model.images_seen,
        "class_counts": list(model.class_counts),
        "class_names": list(model.class_names),
        "draws": model.draws,
    }
    columns = 4 if max(model.config.model.height, model.config.model.width) <= LARGE else 2
    text = card.card(public, to, licence, about, results.read(home), shown=columns**2, ema=ema)
    return {
        FILE: safetensors_of(public),
        RUN_FILE: json.dumps(about, indent=1).encode(),
        card.PICTURE: picture_of(model, columns**2, columns),
        "README.md": text.encode(),
    }


def put(files: dict[str, bytes], to: epath.PathLike, *, private: bool, update: bool) -> list[str]:
    """Writes the files into a folder, or sends them to a hub: lines that say where they are.

    Raises UserError where that cannot be.
    """
    size = f"{sum(map(len, files.values())) / 1e6:,.1f} MB"
    if hub.is_hub(to):
        print(f"{to}: sending {size} ...", file=sys.stderr, flush=True)
        message = "A generator of inr_gan_jax"
        page = hub.sent(files, to, message, private=private, update=update)
        return [f"{page}: {', '.join(files)}", f'  inr_gan_jax.load("{to}")']
    folder = epath.Path(to).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            with replaced(folder / name) as file:
                file.write(data)
    except OSError as error:
        raise UserError(f"--to={to} cannot be written: {error.strerror or error}") from None
    return [f"{folder}: {', '.join(files)}, {size}", f'  inr_gan_jax.load("{to}")']


def _record(path: epath.Path) -> dict:
    """A run's record; that of a converted file, which has none, is empty."""
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error})") from None


def _public(config: Config) -> Config:
    """Without folders of the machine that it ran on, which are nobody's business."""
    data = dataclasses.replace(config.data, source=card.name_of(config.data.source), data_dir="")
    train = dataclasses.replace(config.train, init_from=card.name_of(config.train.init_from))
    return dataclasses.replace(config, data=data, train=train)
