"""A run that may still be training: its newest checkpoint, and its curves."""

import math
import threading
from collections.abc import Callable

from absl import logging
from etils import epath

from inr_gan_jax.errors import UserError
from inr_gan_jax.storage.checkpoint import Checkpoints, locate

POINTS = 300  # of a curve


class Watch:
    """Looks for newer checkpoints of a workdir every few seconds, in a thread of its own."""

    def __init__(self, workdir: str, shown: str, newer: Callable[[], None], seconds: float = 5):
        """`shown`: the step that is shown now; `newer` is called where there is a later one."""
        self._workdir = epath.Path(workdir).expanduser()
        self._shown, self._newer = shown, newer
        self._ended, self._curves = threading.Event(), None
        self._seconds = seconds
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def curves(self) -> dict[str, list[tuple[int, float | None]]]:
        """(images, value) of every scalar that the run has written down, some 300 of each.

        None stands for a value that is not finite.
        """
        from tensorboard.backend.event_processing.event_accumulator import (
            SCALARS,
            EventAccumulator,
        )

        with self._lock:
            if self._curves is None:
                self._curves = EventAccumulator(str(self._workdir), {SCALARS: POINTS})
            self._curves.Reload()
            names = self._curves.Tags()["scalars"]
            return {n: [(e.step, e.value if math.isfinite(e.value) else None)
                        for e in self._curves.Scalars(n)] for n in names}  # fmt: skip

    def end(self) -> None:
        """Ends the thread."""
        self._ended.set()

    def _watch(self) -> None:
        said, (folder, _) = "", locate(self._workdir)
        with Checkpoints(folder, read_only=True) as checkpoints:
            while not self._ended.wait(self._seconds):
                try:
                    if not (steps := checkpoints.steps()):
                        raise UserError("there is no checkpoint any more")
                    if (newest := str(steps[-1])) != self._shown:
                        self._newer()
                        self._shown = newest
                    said = ""
                except Exception as error:  # it may be moving: look again, but say it once
                    if said != (said := f"{self._workdir}: {error}"):
                        logging.warning("%s", said)
