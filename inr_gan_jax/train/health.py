"""Whether a run still learns: losses that are no numbers end it, and are never saved."""

import collections

import jax
import numpy as np

LAG = 2  # iterations: younger losses would be waited for


class Health:
    """Counts the newest iterations in a row whose losses are not finite."""

    def __init__(self, limit: int):
        """`limit` iterations in a row are too many."""
        self.limit, self.row, self.since = limit, 0, 0
        self._pending = collections.deque()

    def add(self, iteration: int, metrics: list[dict[str, jax.Array]]) -> bool:
        """Notes an iteration's metrics, still on the device; returns whether it is time to look."""
        losses = {k: v for phase in metrics for k, v in phase.items() if k.startswith("loss/")}
        self._pending.append((iteration, losses))
        return len(self._pending) >= self.limit + LAG

    def look(self, lag: int = LAG) -> bool:
        """Reads all but the `lag` newest losses; returns whether there were too many in a row.

        `row` is then how many in a row were not finite, from iteration `since` on.
        """
        due = [self._pending.popleft() for _ in range(len(self._pending) - lag)]
        for iteration, losses in jax.device_get(due):
            if np.isfinite(list(losses.values())).all():
                self.row = 0
            elif self.row < self.limit:  # what came too late to stop it changes nothing
                self.since = self.since if self.row else int(iteration)
                self.row += 1
        return self.row >= self.limit
