"""What is in a folder, zip or named data set, before anyone trains on it.

    python -m inr_gan_jax.data.look photos

Counts by mode, size, shape and class, bad files, files of the same content, a contact sheet (a
PNG), and the command that would prepare it. Headers are read; --decode reads all pixels too.
"""

import collections
import concurrent.futures
import contextlib
import hashlib
import itertools
import shlex
from collections.abc import Sequence

import numpy as np
from absl import flags
from etils import epath
from PIL import Image
from tqdm import tqdm

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.run import run
from inr_gan_jax.data import anything, images
from inr_gan_jax.data.fit import Fit
from inr_gan_jax.data.sources import open_store
from inr_gan_jax.data.stores import PREPARE, FileStore, Store
from inr_gan_jax.data.survey import Survey, draw, folder_classes, kind
from inr_gan_jax.errors import UserError
from inr_gan_jax.pictures.encode import encode_png
from inr_gan_jax.pictures.pixels import opaque, tile
from inr_gan_jax.storage.atomic import replaced

_SHOWN, _SHEET, _CELL = 10, 64, 96


def report(store: Store, *, decode: bool = False, progress: bool = True) -> list[str]:
    """Lines that describe a store, and how to prepare it; `decode`: all pixels are read."""
    if not isinstance(store, FileStore):
        found = store.labels()
        size = "varying sizes" if store.size is None else f"{store.size[1]}x{store.size[0]}"
        mode = images.MODES.get(store.channels, "of varying channels")
        lines = [f"{store.name}: {len(store):,} images, {size}, {mode}"]
        if found is not None:
            lines.append(_classes(*_counted(found[0], store.class_names())))
        return lines
    survey = Survey(store, max_bad=len(store), progress=progress)
    good, bad = survey.store, list(survey.bad.reasons)
    if decode:
        bad += _undecodable(good, progress)
    heights, widths = np.asarray([found.size for found in survey.found]).T
    lines = [
        f"{store.path}: {len(store):,} files, {len(good):,} images",
        f"modes: {_counts(found.mode for found in survey.found)}",
        f"sizes: {_sizes(heights, widths)}",
        f"shapes: {_counts(map(_shape, heights, widths))}",
        f"kinds: {_counts(kind(name) or 'none' for name in good.names)}",
    ]
    lines += survey.lines(survey.channels, "first")[1:]
    labels, folders = good.labels(), None
    with contextlib.suppress(UserError):  # folders beside loose images are no classes
        folders = folder_classes(good)
    if labels is not None:
        lines.append(_classes(*_counted(labels[0], good.class_names())))
    elif folders is not None:
        lines.append(_classes(*_counted(np.asarray(folders[0]), folders[1])) + " by folder")
    if bad:
        lines.append(f"bad: {len(bad):,}: {'; '.join(bad[:_SHOWN])}{_more(bad)}")
    if twice := _duplicates(good, survey):
        pairs = [f"{b} is {a}" for a, b in twice]
        lines.append(f"same content: {len(twice):,}: {'; '.join(pairs[:_SHOWN])}{_more(pairs)}")
    by_folders = labels is None and folders is not None
    lines.append(f"to prepare it: {_command(store, survey, heights, widths, by_folders, bad)}")
    return lines


def sheet(store: Store) -> np.ndarray:
    """uint8 [H, W, 3]: at most 64 images, drawn by chance, each in the middle of a square."""
    cells, fit = [], Fit(_CELL, _CELL, crop="center", channels=4)
    for index in draw(None, len(store), _SHEET, seed=0):
        where = store.where(index)
        try:
            if isinstance(store, FileStore):
                image = anything.decode(store.read(index), where)
            else:
                image = store.image(index)
        except UserError:
            image = Image.new("RGB", (_CELL, _CELL), "red")  # the report names it
        cells.append(opaque(images.to_pixels(fit(image, where), 4, where)))
    return tile(np.stack(cells), columns=min(8, len(cells)))


def _undecodable(store: FileStore, progress: bool) -> list[str]:
    def reason(index: int) -> str | None:
        try:
            anything.decode(store.read(index), store.where(index))
        except UserError as error:
            return str(error)
        return None

    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = pool.map(reason, range(len(store)))
        bar = tqdm(found, f"decoding {store.name}", len(store), delay=2, disable=not progress)
        return [reason for reason in bar if reason]


def _duplicates(store: FileStore, survey: Survey) -> list[tuple[str, str]]:
    """(first, later) names of files with the same bytes; only those of one length are read."""
    by_length = collections.defaultdict(list)
    for index, found in enumerate(survey.found):
        by_length[found.bytes].append(index)
    first, twice = {}, []
    for index in itertools.chain(*(group for group in by_length.values() if len(group) > 1)):
        name = store.names[index]
        digest = hashlib.sha256(store.read(index)).digest()
        if first.setdefault(digest, name) != name:
            twice.append((first[digest], name))
    return twice


def _command(store, survey: Survey, heights, widths, by_folders: bool, bad: list[str]) -> str:
    shortest = max(4, int(np.percentile(np.minimum(heights, widths), 10)))
    size = min(1024, 1 << (shortest.bit_length() - 1))
    square = all(heights == widths)
    parts = [f"--source={store.path}", f"--dest={store.name.removesuffix('.zip')}{size}.zip"]
    parts += [f"--width={size}", f"--height={size}"]
    parts += [] if square else ["--crop=center"]
    parts += ["--labels=folders"] if by_folders else []
    parts += [f"--max_bad={len(bad)}"] if len(bad) > max(10, len(store) // 100) else []
    return f"{PREPARE} {shlex.join(parts)}"


def _counted(labels: np.ndarray, names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    used, counts = np.unique(labels, return_counts=True)
    known = used.max() < len(names)
    return [str(names[label]) if known else str(label) for label in used], counts


def _classes(names: list[str], counts: np.ndarray) -> str:
    shown = [f"{n:,} {name}" for name, n in zip(names, counts, strict=True)]
    return f"classes: {len(names):,}: {', '.join(shown[:_SHOWN])}{_more(shown)}"


def _counts(values) -> str:
    counted = collections.Counter(values).most_common()
    shown = [f"{count:,} {value}" for value, count in counted]
    return ", ".join(shown[:_SHOWN]) + _more(shown)


def _more(shown: list) -> str:
    return f", and {len(shown) - _SHOWN:,} more" if len(shown) > _SHOWN else ""


def _sizes(heights: np.ndarray, widths: np.ndarray) -> str:
    order = np.argsort(heights * widths, kind="stable")
    smallest, median, largest = (
        f"{widths[i]}x{heights[i]}" for i in (order[0], order[len(order) // 2], order[-1])
    )
    if smallest == largest and len(set(zip(heights.tolist(), widths.tolist(), strict=True))) == 1:
        return f"all {smallest}"
    return f"{smallest} to {largest}, median {median}"


def _shape(height: int, width: int) -> str:
    return "square" if height == width else "landscape" if width > height else "portrait"


def _define_flags() -> None:
    shared.path("source", None, "Folder, zip, digits or tfds:NAME[/config][:split].")
    shared.path("dest", None, "The contact sheet to write; default: NAME.look.png.")
    flags.DEFINE_bool("decode", False, "Read all pixels, which finds damage that headers hide.")
    shared.path("data_dir", None, "Where TFDS keeps its data.")
    flags.mark_flags_as_required(["source"])


def _main(_) -> None:
    values = flags.FLAGS
    store = open_store(values.source, values.data_dir, True, every=True)
    print("\n".join(report(store, decode=values.decode)))
    if isinstance(store, FileStore):
        store = Survey(store, max_bad=len(store), progress=False).store
    dest = epath.Path(values.dest or f"{store.name.replace('/', '_')}.look.png").expanduser()
    try:
        with replaced(dest) as file:
            file.write(encode_png(sheet(store)))
    except OSError as error:
        raise UserError(f"cannot write {dest}: {error.strerror or error}") from error
    print(f"contact sheet: {dest}")


if __name__ == "__main__":
    _define_flags()
    run(_main, shared.operand("source"))
