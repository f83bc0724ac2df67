"""One run at a time in a workdir: a lock that is renewed, so that a killed run lets go of it."""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path

from absl import logging
from etils import epath

from inr_gan_jax.errors import UserError
from inr_gan_jax.storage.atomic import replaced
from inr_gan_jax.storage.paths import is_cloud, reached

FILE = "lock.json"
RENEWAL = 10.0  # seconds between two renewals
PATIENCE = 40.0  # a lock that was not renewed for this long is nobody's
SETTLING = 0.3  # of two that take it at once the later one has it; both have looked by then


class Lease:
    """The right to write to a workdir; `lost` says that another run has taken it."""

    def __init__(self, workdir: epath.Path):
        self.path = workdir / FILE
        self.token = uuid.uuid4().hex
        self.lost = False
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)

    def take(self, say=print) -> "Lease":
        """Takes the lock; UserError while another run renews it.

        A lock whose process is gone is taken at once. Where that cannot be seen (another machine)
        the lock is watched for `PATIENCE` seconds; `say` tells so.
        """
        held = self._read()
        if held is not None and not _is_dead(held):
            self._refuse_if(_is_alive(held), held)
            say(f"{self.path} is another run's: watching for {PATIENCE:g} s whether it is alive")
            self._refuse_if(self._is_renewed(held), held)
        self._write()
        time.sleep(SETTLING * (10 if is_cloud(self.path) else 1))
        holder = self._read()
        self._refuse_if(holder is None or holder["token"] != self.token, holder or {})
        self._renewing.start()
        return self

    def sees(self, token: str) -> bool:
        """Whether the lock that some process of this run took can be seen from this one."""
        until = time.monotonic() + RENEWAL  # a network disk may show it late
        while (self._read() or {}).get("token") != token:
            if time.monotonic() > until:
                return False
            time.sleep(0.2)
        return True

    def release(self) -> None:
        """Gives the lock back, if it was taken and is still this run's."""
        self._over.set()
        if not self._renewing.ident:
            return
        self._renewing.join()
        with contextlib.suppress(OSError), reached(self.path):
            if not self.lost and (self._read() or {}).get("token") == self.token:
                self.path.unlink(missing_ok=True)

    def _is_renewed(self, held: dict) -> bool:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            time.sleep(1)
            if (now := self._read()) != held:
                return now is not None
        return False

    def _refuse_if(self, taken: bool, holder: dict) -> None:
        if taken:
            where = f"process {holder.get('pid')} on {holder.get('host')}"
            raise UserError(
                f"another run is at work in {self.path.parent} ({where}): stop it, or choose "
                "another --workdir"
            )

    def _renew(self) -> None:
        while not self._over.wait(RENEWAL):
            try:
                holder = self._read()
                if holder is not None and holder["token"] != self.token:
                    self.lost = True
                    return
                self._write()
            except OSError as error:
                logging.warning("%s cannot be renewed now: %s", self.path, error)

    def _read(self) -> dict | None:
        try:
            with reached(self.path):
                text = self.path.read_bytes()
            held = json.loads(text)
        except FileNotFoundError:
            return None
        except ValueError:
            return {"token": ""}
        return held if isinstance(held, dict) and "token" in held else {"token": ""}

    def _write(self) -> None:
        record = {"token": self.token, "renewed": time.time(), **_self()}
        with replaced(self.path) as file:
            file.write(json.dumps(record).encode())


def _self() -> dict:
    """Which process this is: of which machine, and of which container on it."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str:
    """When a process of this machine began, in words that no other process has; empty: unknown."""
    with contextlib.suppress(OSError):
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink(f"/proc/{os.getpid()}/ns/pid")
        moment = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{machine} {space} {moment}"
    return ""


def _here(held: dict) -> bool:
    """Whether the holder would be among the processes that this one can see."""
    theirs, ours = str(held.get("started", "")).split(), _started(os.getpid()).split()
    return held.get("host") == socket.gethostname() and bool(ours) and theirs[:2] == ours[:2]


def _is_alive(held: dict) -> bool:
    return _here(held) and _started(held["pid"]) == held["started"]


def _is_dead(held: dict) -> bool:
    return not held.get("token") or _here(held) and not _is_alive(held)
