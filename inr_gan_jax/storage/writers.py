"""Where curves and pictures of a run go: TensorBoard's files, and programs that mirror them."""

import importlib
import json
import os
from collections.abc import Sequence

import jax
from etils import epath

from inr_gan_jax.errors import UserError, pip_install
from inr_gan_jax.runtime.processes import by_first
from inr_gan_jax.storage.atomic import replaced
from inr_gan_jax.storage.events import SummaryWriter
from inr_gan_jax.storage.mirror import Mirror

# Programs that mirror a run, and what pip installs for each.
PROGRAMS = {"wandb": "wandb", "mlflow": "mlflow-skinny sqlalchemy alembic"}
IDS = "trackers.json"  # of a workdir: a program's name -> its own name of the run


def writer_of(programs: Sequence[str], directory: epath.PathLike) -> SummaryWriter | None:
    """The writer of a run in `directory`, on process 0; all processes make this call.

    `programs` mirror it (see PROGRAMS). Raises UserError in all processes for one that is not
    installed, does not answer, or does not know the run any more.
    """
    made: list[SummaryWriter] = []

    def make() -> None:
        if jax.process_index() == 0:
            mirrors = [_mirror(name, epath.Path(directory)) for name in programs]
            made.append(SummaryWriter(directory, mirrors))

    by_first(make)
    return made[0] if made else None


def _mirror(name: str, workdir: epath.Path) -> Mirror:
    """Of a program's run: that of earlier starts, whose name the workdir keeps, or a new one."""
    try:
        module = importlib.import_module(f"inr_gan_jax.storage.{name}_run")
    except ImportError as error:
        raise UserError(
            f"config.log.writers: {name} is not installed ({error}): pip install {PROGRAMS[name]} "
            f"(here: {pip_install(name)})"
        ) from None
    path, title, before = workdir / IDS, os.path.basename(os.path.abspath(workdir)), None
    try:
        ids = json.loads(path.read_text()) if path.exists() else {}
        before = ids.get(name)
        program = module.opened(workdir, title, before)
        if program.id != before:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(path) as file:
                file.write(json.dumps(ids | {name: program.id}).encode())
        return Mirror(program)
    except UserError:
        raise
    except Exception as error:  # of its own, of its network's library, of the disk
        why = " ".join(str(error).split())[:300] or type(error).__name__
        again = f"; without {path} another run begins" if before else ""
        raise UserError(f"config.log.writers: {name} cannot be used: {why}{again}") from None
