"""A run's folder: whose it is, so that no run goes on with another one's."""

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from typing import NamedTuple

import jax
from etils import epath

from inr_gan_jax import config as configs
from inr_gan_jax.config import Config
from inr_gan_jax.data.sources import Source
from inr_gan_jax.errors import UserError
from inr_gan_jax.models.networks import Networks
from inr_gan_jax.runtime.processes import any_fails, by_first
from inr_gan_jax.storage.atomic import replaced
from inr_gan_jax.storage.checkpoint import FOLDER
from inr_gan_jax.storage.paths import reached
from inr_gan_jax.train import changes
from inr_gan_jax.train.lease import Lease
from inr_gan_jax.train.means import Means, means_of

RUN_FILE = "run.json"
_SCRIPT = "inr-gan"  # the console command


@contextlib.contextmanager
def opened(
    workdir: epath.Path, config: Config, source: Source, networks: Networks
) -> Iterator[tuple[Means, Lease]]:
    """This run's hold on its workdir, which is made: (means of computing, lease) for the body.

    Process 0 looks, decides and writes; the others hear of it, and must see what it wrote.

    Raises UserError where the workdir holds another run, another run is at work in it, it cannot be
    written, or the processes do not share it.
    """
    lease = Lease(workdir)

    def take() -> list:
        try:
            with reached(workdir):
                return [*_claim(workdir, config, source, networks, lease), lease.token]
        except OSError as error:
            raise UserError(f"workdir {workdir} cannot be used: {error}") from error

    try:
        *means, token = by_first(take)
        error = None
        if not lease.sees(token):
            error = UserError(
                f"process {jax.process_index()} does not see in {workdir} what process 0 wrote "
                "there: give a --workdir that all processes share (gs://... or a network disk)"
            )
        any_fails(error)
        yield Means(*means), lease
    finally:
        lease.release()


def _claim(
    workdir: epath.Path, config: Config, source: Source, networks: Networks, lease: Lease
) -> Means:
    """Makes the workdir or checks that it holds this very run; returns the means of computing."""
    path = workdir / RUN_FILE
    ours = json.loads(json.dumps(configs.identity(config, source.content_hash)))
    record = {"identity": ours}
    if path.exists():
        record = _read_record(path)
        # A converted checkpoint is nobody's run yet: the first training makes it its own.
        theirs = record["identity"] or ours
        newer = configs.identity(Config(), "")  # keys that it had not had their released values
        record["identity"] = {k: newer[k] for k in ours if k not in theirs} | theirs
    elif (workdir / FOLDER).exists():
        raise UserError(f"{workdir} has {FOLDER} but no {RUN_FILE}; choose another --workdir")
    elif FOLDER in workdir.parts[-2:]:
        raise UserError(f"{workdir} lies inside a run; give the folder that holds {FOLDER}")
    changes.accept(record, ours, config, source, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    lease.take()
    record["config"] = configs.to_plain(config)
    _write_record(path, record)
    before = json.dumps(record)
    means = means_of(config, networks, record)
    if json.dumps(record) != before:
        _write_record(path, record)
    return means


def record_command(workdir: epath.Path) -> None:
    """Says in the run's record what trains it from here on; all processes call this."""

    def write() -> None:
        path = workdir / RUN_FILE
        _write_record(path, _read_record(path) | {"command": _command()})

    by_first(write)


def _command() -> str:
    """What started this process, as one types it."""
    python, *rest = sys.orig_argv
    if rest and os.path.basename(rest[0]) == _SCRIPT:  # the console script, a file for Python
        return shlex.join([_SCRIPT, *rest[1:]])
    return shlex.join([os.path.basename(python), *rest])


class Since(NamedTuple):
    """Since when a run is what it is now.

    `order`: the image count that the present order of images starts at. `augmented`: whether the
    probability of augmentation starts again now. `lines`: all that ever changed, in words.
    """

    order: int
    augmented: bool
    lines: list[str]


def since(workdir: epath.Path, images: int) -> Since:
    """Dates what changed at this start, which goes on from `images`; all processes call this."""

    def settle() -> list:
        path = workdir / RUN_FILE
        record = _read_record(path)
        if changes.dated(record, images):
            _write_record(path, record)
        order, anew = changes.order_from(record), changes.augmented_anew(record, images)
        return [order, anew, changes.lines(record)]

    return Since(*by_first(settle))


def _read_record(path: epath.Path) -> dict:
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); choose another --workdir") from None
    if not isinstance(record, dict) or not isinstance(record.get("identity"), dict):
        raise UserError(f"{path} is no record of a run; choose another --workdir")
    return record


def _write_record(path: epath.Path, record: dict) -> None:
    with replaced(path) as file:
        file.write(json.dumps(record, indent=1).encode())
