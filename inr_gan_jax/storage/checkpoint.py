"""Checkpoints of a run: orbax writes them, a manifest of our own says that they are whole.

A checkpoint is a folder named after its iteration count: `model/` (arrays that make images),
`training/` (arrays that only training needs), perhaps `averages/`, `metadata/` (JSON) and
`manifest.json`, the size and SHA-256 of every other file. orbax restores flipped bits silently; the
manifest finds them. It is written last, in one step: a folder without it is unfinished, also in a
cloud, where orbax cannot rename folders and saves in place.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from inr_gan_jax.errors import UserError
from inr_gan_jax.runtime.processes import by_first
from inr_gan_jax.storage import manifest
from inr_gan_jax.storage.leaves import check_same, placed
from inr_gan_jax.storage.manifest import MANIFEST
from inr_gan_jax.storage.paths import reached

FOLDER = "checkpoints"  # inside a workdir
BEST = "best.json"  # beside it: which checkpoint a metric found best
PARTS = ("model", "training", "averages")
_BARRIER_SECONDS = 300  # how long the processes wait for one whose part of a save failed
_NONE, _DAMAGED = -1, -2  # what process 0 may tell the others in place of a step
_TEMPORARY = ".orbax-checkpoint-tmp"  # in the name of a folder that orbax has not committed


class Checkpoints:
    """The newest `keep` checkpoints of a run under `directory`, and one that is `protected`.

    A context manager: a process that ends without `close` loses the pending save (logged as an
    error), as Python allows no new threads by then.

    In a run of many processes every process makes the same calls, on a directory that all of them
    see; process 0 alone hashes, cleans and deletes. Two runs must not write to one directory:
    opening it for writing removes what an earlier, killed save left there.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        *,
        keep: int = 3,
        read_only: bool = False,
        at_once: float = 96,
    ):
        """Opens `directory`, creating it unless `read_only`, which writes and deletes nothing.

        A save has at most `at_once` GB under way, of copies that it takes before it returns.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1, not {keep}")
        self.directory = _absolute(directory)
        self._keep = keep
        self.protected: int | None = None  # a step that stays, beside the newest
        self._read_only = read_only
        self._damaged: set[int] = set()  # finished steps that a restore found damaged
        self._finishing: threading.Thread | None = None
        # Folders made in the background cost a minutes-long wait when making them fails.
        options = ocp.options.AsyncOptions(
            create_directories_asynchronously=False, timeout_secs=_BARRIER_SECONDS
        )
        parts = ocp.CompositeCheckpointHandler(
            **{part: ocp.StandardCheckpointHandler(save_concurrent_gb=at_once) for part in PARTS},
            metadata=ocp.JsonCheckpointHandler(),
            composite_options=ocp.CompositeOptions(async_options=options),
        )
        self._orbax = ocp.AsyncCheckpointer(parts, async_options=options)
        if not read_only and _is_primary():
            self.directory.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def save(self, step: int, parts: dict[str, Any], metadata: dict) -> None:
        """Starts saving; returns once `parts` are on the host, so its buffers may be donated.

        A save that fails (a full disk) is reported through `logging.error` as soon as that is
        known, its remains are removed, and nothing is raised: `steps` says what there is.

        Args:
          step: the iteration count.
          parts: `model`, `training` and perhaps `averages`, trees of jax.Arrays, no typed keys.
          metadata: what JSON can hold (tuples come back as lists).

        Raises:
          ValueError: there is a finished checkpoint of this step, or the directory is read-only.
          TypeError: `metadata` is no JSON.
        """
        if self._read_only:
            raise ValueError(f"{self.directory} was opened read-only")
        self.wait()
        json.dumps(metadata)
        args = ocp.args.Composite(
            **{part: ocp.args.StandardSave(tree) for part, tree in parts.items()},
            metadata=ocp.args.JsonSave(metadata),
        )
        if obstacle := by_first(lambda: self._obstacle(parts)):
            self._report_failed(step, obstacle)
            return
        try:
            if step in self.steps() and step not in self._damaged:
                raise ValueError(f"{self.directory} already has a checkpoint of step {step}")
            # force: replaces the damaged or unfinished folder of this step, if there is one
            with reached(self.directory):
                self._orbax.save(self.directory / str(step), args=args, force=True)
        except OSError as error:
            self._report_failed(step, error)
            return
        self._finishing = threading.Thread(target=self._finish, args=(step,), name="checkpoint")
        self._finishing.start()

    def wait(self) -> None:
        """Waits until the pending save, if any, is finished or has failed."""
        if self._finishing is not None:
            self._finishing.join()
            self._finishing = None

    def close(self) -> None:
        """Waits for the pending save and frees the threads behind it; may be called twice."""
        self.wait()
        self._orbax.close()

    def steps(self) -> list[int]:
        """Returns the finished checkpoints' iteration counts, oldest first."""
        if not self.directory.exists():
            return []
        return sorted(int(f.name) for f in _step_folders(self.directory) if _is_finished(f))

    def restore(
        self,
        abstract: dict[str, Any] | Callable[[dict], dict[str, Any]],
        step: int | None = None,
        *,
        part: str = "",
    ) -> tuple[dict[str, Any], dict, int] | None:
        """Returns (parts, metadata, step), or None if there is no finished checkpoint at all.

        Every file is read and compared with the manifest first. A damaged checkpoint is named in a
        warning and the one before it is used; a later `save` may replace it.

        Args:
          abstract: the parts that are wanted, as saved but of jax.ShapeDtypeStruct. Leaves go where
            their shardings say, whatever the topology that saved them; to the first local device
            where they have none. Parts that are left out are not read into memory. Or a function
            of the metadata that returns such parts.
          step: the iteration count, or None for the newest intact checkpoint.
          part: `averages/`, say, where only files in this folder are read and compared.

        Raises:
          UserError: there is no such step, all candidates are damaged, or the first leaf of
            another name, shape or dtype, which it names.
        """
        chosen = self._choose(step, part)
        if chosen is None:
            return None
        if step is None:
            self._damaged = {s for s in self.steps() if s > chosen}
        folder = self.directory / str(chosen)
        if callable(abstract):
            args = ocp.args.Composite(metadata=ocp.args.JsonRestore())
            abstract = abstract(self._orbax.restore(folder, args=args).metadata)
        saved = self._orbax.metadata(folder).item_metadata
        check_same(abstract, {part: saved[part].tree for part in abstract}, folder)
        restored = self._orbax.restore(
            folder,
            args=ocp.args.Composite(
                **{
                    part: ocp.args.StandardRestore(jax.tree.map(placed, tree))
                    for part, tree in abstract.items()
                },
                metadata=ocp.args.JsonRestore(),
            ),
        )
        return {part: restored[part] for part in abstract}, restored.metadata, chosen

    def metadata(self, step: int | None = None) -> dict:
        """Returns the JSON part of one checkpoint (None: the newest) without reading the arrays.

        Raises:
          UserError: there is no such checkpoint, or its JSON part is damaged.
        """
        chosen = self._choose(step, part="metadata/")
        if chosen is None:
            raise UserError(f"{self.directory}: no finished checkpoint here")
        args = ocp.args.Composite(metadata=ocp.args.JsonRestore())
        return self._orbax.restore(self.directory / str(chosen), args=args).metadata

    def _choose(self, step: int | None, part: str = "") -> int | None:
        """The newest candidate whose files under `part` are intact, the same in all processes."""
        self.wait()
        chosen = by_first(lambda: self._newest_intact(step, part))
        if chosen == _DAMAGED:
            what = "every checkpoint" if step is None else f"checkpoint {step}"
            raise UserError(f"{self.directory}: {what} is damaged (see the warnings above)")
        if chosen == _NONE and step is not None:
            raise UserError(f"{self.directory}: no checkpoint {step}; there are {self.steps()}")
        return None if chosen == _NONE else chosen

    def _newest_intact(self, step: int | None, part: str) -> int:
        candidates = [s for s in self.steps() if step in (None, s)]
        if not candidates:
            return _NONE
        return next((s for s in reversed(candidates) if self._is_intact(s, part)), _DAMAGED)

    def _is_intact(self, step: int, part: str) -> bool:
        damage = manifest.find_damage(self.directory / str(step), part)
        if damage:
            logging.warning("checkpoint %s is damaged: %s", self.directory / str(step), damage)
        return damage is None

    def _finish(self, step: int) -> None:
        """Background thread: the manifest once orbax has committed, and only then deletions."""
        try:
            self._orbax.wait_until_finished()
            if _is_primary():
                manifest.write(self.directory / str(step))
        except Exception as error:  # tensorstore reports a full disk as a ValueError
            self._report_failed(step, error)
        else:
            if _is_primary():
                _attempt(self._delete_old, step)

    def _obstacle(self, parts: dict[str, Any]) -> str | None:
        """Why a save must fail, seen before it starts: then no process waits for another in it."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(parts))
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            local = os.path.isdir(self.directory)
            free = shutil.disk_usage(self.directory).free if local else needed
        except OSError as error:
            return str(error)
        if free >= needed:
            return None
        return f"the disk is full: {needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free"

    def _report_failed(self, step: int, error: Exception | str) -> None:
        logging.error("CHECKPOINT %d WAS NOT SAVED under %s: %s", step, self.directory, error)
        if _is_primary():  # on a full disk, the remains are the first thing to give back
            _attempt(self._remove_leftovers)

    def _delete_old(self, newest: int) -> None:
        """Keeps `newest`, which was just saved, and the `keep - 1` intact ones before it."""
        others = [s for s in self.steps() if s != newest]
        intact = [s for s in others if s not in self._damaged and s != self.protected]
        overtaken = [s for s in others if s in self._damaged and s < newest]
        for step in overtaken + intact[: max(0, len(intact) - self._keep + 1)]:
            _remove(self.directory / str(step))

    def _remove_leftovers(self) -> None:
        if not self.directory.exists():  # a cloud has no empty folders
            return
        for folder in self.directory.iterdir():
            if _TEMPORARY in folder.name:
                folder.rmtree()
        for folder in _step_folders(self.directory):
            if folder.is_dir() and not _is_finished(folder):
                _remove(folder)


def locate(path: epath.PathLike) -> tuple[epath.Path, int | None]:
    """Finds the checkpoints that a user's `path` means.

    `path` is a workdir (it has `checkpoints/`), a folder of checkpoints, or one checkpoint.

    Returns:
      The folder of checkpoints, and the step if `path` is one checkpoint, else None. WORKDIR/best
      is the one that the run found best.

    Raises:
      UserError: `path` is missing, cannot be reached, or holds no finished checkpoint.
    """
    path = _absolute(path)
    try:
        with reached(path):
            if path.name == Path(BEST).stem and not path.exists():
                if not (record := path.parent / BEST).exists():
                    raise UserError(f"{path.parent}: none is best (config.evaluate.keep_best)")
                path = path.parent / FOLDER / str(json.loads(record.read_text())["step"])
            return _located(path)
    except OSError as error:
        raise UserError(str(error)) from error


def _located(path: epath.Path) -> tuple[epath.Path, int | None]:
    if not path.is_dir():
        raise UserError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}")
    if (path / FOLDER).is_dir():
        path = path / FOLDER
    elif path.name.isdecimal() and _is_finished(path):
        return path.parent, int(path.name)
    if not any(_is_finished(folder) for folder in _step_folders(path)):
        where = f"give a workdir, its {FOLDER}/ or one step in it"
        if path.name == FOLDER:
            where = "a run saves one every config.log.checkpoint_kimg, or when Ctrl-C stops it"
        raise UserError(f"{path}: no finished checkpoint here; {where}")
    return path, None


def _absolute(path: epath.PathLike) -> epath.Path:
    path = epath.Path(path).expanduser()  # `absolute` would make a local path of gs://...
    return path if path.is_absolute() else path.absolute()


def _attempt(delete: Callable[..., None], *args) -> None:
    """Runs a deletion whose failure must not stop a run.

    Repeated for a while: threads of a save that failed may still be writing into what is deleted.
    """
    for patience in (0.1, 0.5, 2.0, None):
        try:
            return delete(*args)
        except Exception as error:  # clouds fail in any way
            if patience is None:
                logging.error("cannot delete: %s", error)
            else:
                time.sleep(patience)


def _is_primary() -> bool:
    return jax.process_index() == 0


def _is_finished(folder: epath.Path) -> bool:
    return (folder / MANIFEST).exists()


def _step_folders(directory: epath.Path) -> Iterator[epath.Path]:
    return (f for f in directory.iterdir() if f.name.isdecimal())


def _remove(folder: epath.Path) -> None:
    (folder / MANIFEST).unlink(missing_ok=True)  # first: half a folder is no checkpoint
    folder.rmtree()
