"""What event files hold, told to another program too (W&B, MLflow): each point once, none missing.

Such programs lose what they were told last when they are killed, or cannot be reached for a while.
So the event files are the record: at a start a mirror asks the program what it has, and sends what
is missing; while the run goes on it sends what is new, in a thread of its own.
"""

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from tensorboard.compat.proto.event_pb2 import Event


class Told(NamedTuple):
    """What is known at an image count: numbers, and pictures (PNG), by tag."""

    images: int
    scalars: dict[str, float]
    pictures: dict[str, bytes]


class Program(Protocol):
    """A run of another program, under the name that it gave it. All may raise any error."""

    name: str
    id: str

    def known(self) -> set[tuple[str, int]]:
        """(tag, image count) of all that it has."""

    def write(self, told: Told) -> None:
        """Adds to it."""

    def configure(self, values: Mapping[str, object]) -> None:
        """The configuration of this start."""

    def close(self) -> None:
        """Ends this start."""


class Mirror:
    """Hands what is told to a program, in its order; failing is told once, and made good later."""

    def __init__(self, program: Program):
        """Asks what is there, and raises what that raises."""
        self._program, self._there = program, program.known()
        self._known: set[tuple[str, int]] = set()
        self._waiting: deque[Told] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=program.name)
        self._sending, self._failed = None, False

    def catch_up(self, events: Iterable[Event]) -> None:
        """Sends what is missing there of a run's events; what is there is never sent again."""
        self._known = self._there
        for event in events:
            self.put(event)

    def put(self, event: Event) -> None:
        """Sends what an event tells, soon, but for what the program has already."""
        scalars, pictures = {}, {}
        for value in event.summary.value:
            if (place := (value.tag, event.step)) in self._known:
                continue
            if value.HasField("simple_value"):
                scalars[value.tag] = value.simple_value
            elif value.HasField("image"):
                pictures[value.tag] = value.image.encoded_image_string
            else:
                continue
            self._known.add(place)
        if scalars or pictures:
            self._waiting.append(Told(event.step, scalars, pictures))
            if self._sending is None or self._sending.done():
                self._sending = self._thread.submit(self._send)

    def configure(self, values: Mapping[str, object]) -> None:
        """The configuration of this start."""
        self._attempt(self._program.configure, values)

    def close(self) -> None:
        """Sends the rest, and ends the program's run."""
        self._thread.shutdown()
        self._send()
        if self._waiting:
            logging.error(
                "%s was not told of %d times: the next start of this run tells it",
                self._program.name,
                len(self._waiting),
            )
        self._attempt(self._program.close)

    def _send(self) -> None:
        while self._waiting and self._attempt(self._program.write, self._waiting[0]):
            self._waiting.popleft()

    def _attempt(self, act, *args) -> bool:
        try:
            act(*args)
        except Exception as error:  # networks, databases: no reason to end a run
            if not self._failed:
                why = " ".join(str(error).split())[:300] or type(error).__name__
                logging.warning("%s cannot be told now, but later: %s", self._program.name, why)
            self._failed = True
            return False
        self._failed = False
        return True
