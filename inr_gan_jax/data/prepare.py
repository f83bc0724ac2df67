"""Makes a data set: crops, resizes and packs images into one zip that training reads.

    python -m inr_gan_jax.data.prepare --source=photos --dest=photos256.zip \\
        --width=256 --height=256 --crop=center

The zip holds images, by default as their pixels lie in memory (BMP; with transparency: PNG of level
0; from 20 GB on: lossless WebP or, grey, PNG), and a `dataset.json` with the labels and a record of
how it was made. The same input gives the same bytes. FID depends on the filter.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Collection, Generator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import PIL
from absl import flags
from etils import epath
from tqdm import tqdm

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.run import run
from inr_gan_jax.data import anything, archive, images
from inr_gan_jax.data.fit import CROPS, Fit
from inr_gan_jax.data.labels import gaps, relabelled, require_few
from inr_gan_jax.data.sources import open_store
from inr_gan_jax.data.stores import FileStore, Store
from inr_gan_jax.data.survey import Bad, Survey, draw, folder_classes
from inr_gan_jax.data.workers import end_with_parent, uninterrupted
from inr_gan_jax.errors import UserError

LABELS = ("auto", "none", "folders")


def prepare(
    source: str,
    dest: str,
    fit: Fit,
    *,
    labels: str = "auto",
    max_images: int | None = None,
    frames: str = "first",
    max_bad: int | None = None,
    skip_kinds: Collection[str] = (),
    relabel: bool = False,
    seed: int = 0,
    format: str = "auto",
    workers: int = 1,
    overwrite: bool = False,
    data_dir: str | None = None,
    progress: bool = True,
) -> dict:
    """Writes `dest`, a zip, from `source` (as in `open_source`); returns its record.

    All headers of a folder or zip are looked at before anything is written. Without `fit.channels`,
    the images get the fewest that hold them all (see `Survey.channels`).

    Args:
      labels: `auto` keeps those of the source if it has some; `folders` makes one class of each
        folder that divides the images, by name.
      max_images: draws so many, evenly of all classes, by `seed`.
      frames: of animations, the `first`, `all`, or at most so many, evenly spaced.
      max_bad: so many files that are no readable images are named and left out; by default 1%, at
        least 10.
      relabel: whether the source's labels are numbered anew, from 0 without gaps.
      format: how images are encoded, see `archive.format_of`.
      skip_kinds: suffixes ("txt") of files to pass over.

    Raises:
      UserError: one line that names the file at fault; nothing is left at `dest`.
    """
    target = _target(dest, overwrite)
    store = open_store(source, data_dir, progress, every=True)
    if isinstance(store, FileStore):
        survey = Survey(store, skip_kinds=skip_kinds, max_bad=max_bad, progress=progress)
        store, bad, entries = survey.store, survey.bad, survey.entries(frames)
        fit, strict = dataclasses.replace(fit, channels=fit.channels or survey.channels), False
        _say(survey.lines(fit.channels, frames), progress)
    else:
        bad, entries = Bad(len(store), max_bad), [(index, 0) for index in range(len(store))]
        strict = fit.channels is None
        fit = dataclasses.replace(fit, channels=fit.channels or _channels_of_first(store))
    classes, names, line = _classes(store, labels, relabel)
    _say([line] if line else [], progress)
    entries, classes = _drawn(entries, classes, max_images, seed)
    height, width = fit.size
    size = len(entries) * height * width * fit.channels
    encoding = archive.format_of(format, fit.channels, size)
    encode = _Encode(store, fit, strict, entries, encoding)
    _say(archive.require_room(target, size, len(entries), encode), progress)
    record = {
        "width": width,
        "height": height,
        "channels": fit.channels,
        "count": len(entries),
        "filter": fit.filter,
        "crop": fit.crop,
        "format": encoding.name,
        "source": store.name,
        "versions": {"pillow": PIL.__version__},
    }
    partial = target.parent / f"{target.name}.partial"
    files = _in_order(encode, len(entries), workers)
    try:
        with contextlib.closing(files), partial.open("wb") as file:
            bar = tqdm(files, f"writing {target.name}", len(entries), disable=not progress)
            archive.write(file, bar, bad, classes, names, record, encoding.suffix)
        partial.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {dest}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    _say(bad.lines(), progress)
    return record


def _drawn(
    entries: list[tuple[int, int]], classes: list[int] | None, most: int | None, seed: int
) -> tuple[list[tuple[int, int]], list[int] | None]:
    """At most so many of the entries, and the class of each."""
    classes = classes and [classes[index] for index, _ in entries]
    numbers = draw(classes, len(entries), most, seed)
    return [entries[k] for k in numbers], classes and [classes[k] for k in numbers]


def _say(lines: list[str], progress: bool) -> None:
    for line in lines if progress else ():
        tqdm.write(line, file=sys.stderr)


class _Encode:
    """Number -> the bytes of its file, or why there are none. Picklable, for worker processes."""

    def __init__(
        self,
        store: Store,
        fit: Fit,
        strict: bool,
        entries: list[tuple[int, int]],
        encoding: archive.Format,
    ):
        """`entries`: (image, frame) of each number."""
        self._store, self._fit, self._strict, self._entries = store, fit, strict, entries
        self._encoding = encoding

    def __call__(self, number: int) -> bytes | UserError:
        index, frame = self._entries[number]
        where = self._store.where(index)
        try:
            if isinstance(self._store, FileStore):
                image = anything.decode(self._store.read(index), where, frame)
            else:
                image = self._store.image(index)
        except UserError as error:
            return error
        if self._strict and image.mode != images.MODES[self._fit.channels]:
            raise UserError(
                f"{where} is {image.mode}, but the first image is "
                f"{images.MODES[self._fit.channels]}: choose with --channels=1, 3 or 4"
            )
        return self._encoding.encode(self._fit(image, where))


def _in_order(
    encode: _Encode, count: int, workers: int
) -> Generator[bytes | UserError, None, None]:
    """encode(0), encode(1), ..., computed by `workers` processes a little ahead."""
    if workers <= 1:
        yield from map(encode, range(count))
        return
    # Images come by files: a pool whose worker is killed while it sends a large answer hangs.
    spool = tempfile.TemporaryDirectory(prefix="inr_gan_jax_prepare_")
    pool = concurrent.futures.ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(encode, spool.name),
    )
    ahead = collections.deque()
    try:
        for index in range(count):
            with uninterrupted():
                ahead.append(pool.submit(_encode_in_worker, index))
            if len(ahead) >= 4 * workers:
                yield _taken(ahead.popleft().result())
        while ahead:
            yield _taken(ahead.popleft().result())
    except BrokenProcessPool as error:
        raise UserError("a worker process died, perhaps of memory: use fewer --workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        spool.cleanup()


def _taken(made: str | UserError) -> bytes | UserError:
    """What a worker made, whose file is removed."""
    if isinstance(made, UserError):
        return made
    data = Path(made).read_bytes()
    Path(made).unlink()
    return data


def _start_worker(encode: _Encode, spool: str) -> None:
    global _encode_in_this_worker, _spool
    end_with_parent()
    # A pool that lost a worker ends the others by this, and waits for them.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _encode_in_this_worker, _spool = encode, Path(spool)


def _encode_in_worker(index: int) -> str | UserError:
    """Encodes into a file, and says where it lies."""
    made = _encode_in_this_worker(index)
    if isinstance(made, UserError):
        return made
    (_spool / str(index)).write_bytes(made)
    return str(_spool / str(index))


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


def _classes(
    store: Store, labels: str, relabel: bool
) -> tuple[list[int] | None, list[str] | None, str]:
    """The class of each image, the names of the classes where they are known, a line about them."""
    if labels == "folders":
        if not isinstance(store, FileStore):
            raise UserError(f"{store.name} has no folders: use --labels=auto")
        made = folder_classes(store)
        if made is None:
            raise UserError(f"{store.path} has one folder of images, so one class: --labels=none")
        return *made, ""
    found = store.labels() if labels == "auto" else None
    if found is None:
        return None, None, ""
    numbers, count = found
    if relabel:
        numbers, names = relabelled(numbers)
        return numbers.tolist(), names, ""
    require_few(numbers, store.name)
    return numbers.tolist(), list(store.class_names()) or None, gaps(numbers, count)


def _define_flags() -> None:
    # Not at import: worker processes and tests import this module beside other commands.
    shared.path("source", None, "Folder, zip, digits or tfds:NAME[/config][:split].")
    shared.path("dest", None, "The zip to write.")
    flags.DEFINE_integer("width", None, "Width in pixels.", lower_bound=1)
    flags.DEFINE_integer("height", None, "Height in pixels.", lower_bound=1)
    flags.DEFINE_enum("filter", "lanczos", list(images.FILTERS), "Filter for resizing.")
    flags.DEFINE_enum("crop", "none", CROPS, Fit.__doc__)
    flags.DEFINE_enum(
        "channels", None, ["1", "3", "4"], "Convert to so many; default: the fewest that hold all."
    )
    flags.DEFINE_enum("labels", "auto", LABELS, "Keep those of the source, drop, or make them.")
    flags.DEFINE_integer("max_images", None, "Draw so many, evenly of all classes.", lower_bound=1)
    flags.DEFINE_bool("relabel", False, "Number the source's labels anew, from 0 without gaps.")
    flags.DEFINE_integer("seed", 0, "Which images max_images draws.", lower_bound=0)
    flags.DEFINE_string("frames", "first", "Of animations: first, all, or at most so many frames.")
    flags.register_validator(
        "frames",
        lambda value: value in ("first", "all") or (value.isdecimal() and int(value) > 0),
        "must be first, all or a number from 1",
    )
    flags.DEFINE_integer(
        "max_bad",
        None,
        "So many unreadable files are named and left out; default: 1%, at least 10.",
        lower_bound=0,
    )
    flags.DEFINE_list("skip_kinds", [], "Suffixes of files to pass over: txt,mp4.")
    flags.DEFINE_string("format", "auto", f"Of the images: {archive.FORMATS}.")
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
        frames=values.frames,
        max_bad=values.max_bad,
        skip_kinds=[suffix.strip().lower().lstrip(".") for suffix in values.skip_kinds],
        relabel=values.relabel,
        seed=values.seed,
        format=values.format,
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
