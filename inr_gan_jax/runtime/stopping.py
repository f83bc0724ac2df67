"""Stopping by request: what runs for long ends at a good moment, and at once if asked twice."""

import contextlib
import os
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def stop_signals(answer: str = "") -> Iterator[list[int]]:
    """Notes SIGTERM and Ctrl-C in the list that it gives; a second one is a KeyboardInterrupt.

    `answer` is a line that the first one prints on stderr.
    """
    received: list[int] = []

    def handle(number, _):
        if received:
            raise KeyboardInterrupt
        received.append(number)
        if answer:
            os.write(2, f"{answer}\n".encode())  # print may not nest

    before = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
