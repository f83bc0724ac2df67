"""Several processes of the main command that form one run."""

import socket
import subprocess
import sys
import time
from pathlib import Path

from helpers.environment import ROOT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Processes:
    """`count` processes of the main command, each writing to a file of its own."""

    def __init__(self, count: int, env: dict, logs: Path, *arguments: str, workdirs=None):
        logs.mkdir(parents=True, exist_ok=True)
        self.logs = [logs / f"{i}.log" for i in range(count)]
        port = free_port()
        self.running = []
        for i, log in enumerate(self.logs):
            told = {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(count),
                "JAX_PROCESS_ID": str(i),
            }
            command = [sys.executable, "-m", "inr_gan_jax.main", *map(str, arguments)]
            if workdirs:
                command.append(f"--workdir={workdirs[i]}")
            with log.open("wb") as file:
                self.running.append(
                    subprocess.Popen(
                        command, cwd=ROOT, env=env | told, stdout=file, stderr=subprocess.STDOUT
                    )
                )

    def said(self, index: int) -> str:
        return self.logs[index].read_text(errors="replace")

    def until_said(self, words: str, index: int = 0) -> None:
        limit = time.monotonic() + 300
        while words not in self.said(index):
            assert time.monotonic() < limit, self.said(index)
            assert self.running[index].poll() is None, self.said(index)
            time.sleep(0.05)

    def wait(self, limit: float = 300) -> list[int]:
        """Their exit statuses; those that take longer than `limit` seconds are killed."""
        until = time.monotonic() + limit
        try:
            return [p.wait(max(until - time.monotonic(), 0.01)) for p in self.running]
        finally:
            for process in self.running:
                process.kill()
