"""What worker processes need that neither grain nor concurrent.futures gives them."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Processes started within never get an interrupt from the keyboard, from their birth on.

    One that died of it while it started would leave its pool waiting.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(*_) -> None:
    """Makes this worker process end as soon as its parent does, however the parent was killed.

    A daemon thread waits for the operating system to close the parent's end of a pipe. Interrupts
    from the keyboard, and SIGTERM, which schedulers send to all, are the parent's to handle.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=_outlive, args=(parent,), daemon=True, name="end-with-parent").start()


def _outlive(parent) -> None:
    parent.join()
    os._exit(1)
