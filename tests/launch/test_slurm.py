"""launch/slurm.sbatch on a Slurm cluster of one node, made here: `make test-slurm` (Debian, root).

A run of two tasks is killed, told that its time is up, and cancelled; each time it goes on from its
newest checkpoint, and at last it comes to its end.
"""

import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from helpers.scripts import LAUNCH, ROOT, until

pytestmark = pytest.mark.slurm

NODE = socket.gethostname().split(".")[0]
CONFIGURATION = f"""
ClusterName=test
SlurmctldHost={NODE}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket={{folder}}/munge.socket
SlurmUser=root
SlurmctldPidFile={{folder}}/slurmctld.pid
SlurmdPidFile={{folder}}/slurmd.pid
StateSaveLocation={{folder}}/state
SlurmdSpoolDir={{folder}}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={NODE} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def slurm(*command) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Runs munged, slurmctld and slurmd in a temporary folder, without systemd and cgroups."""
    for name in ["munged", "slurmctld", "slurmd", "sbatch"]:
        assert shutil.which(name), f"{name} is not installed: make test-slurm installs it"
    (tmp_path / "slurm.conf").write_text(CONFIGURATION.format(folder=tmp_path))
    (tmp_path / "state").mkdir()
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(secrets.token_bytes(1024))
    monkeypatch.setenv("SLURM_CONF", f"{tmp_path}/slurm.conf")
    munge = {"key-file": "key", "socket": "munge.socket", "pid-file": "munge.pid"}
    munge |= {"log-file": "munge.log", "seed-file": "munge.seed"}
    files = [f"--{name}={tmp_path}/{file}" for name, file in munge.items()]
    daemons = []
    with (tmp_path / "daemons.log").open("w") as log:
        for command in [["munged", "--foreground", "--force", *files], ["slurmctld", "-D"],
                        ["slurmd", "-D"]]:  # fmt: skip
            daemons.append(subprocess.Popen(command, stdout=log, stderr=log))
            if command[0] == "munged":
                until((tmp_path / "munge.socket").exists)
    try:
        until(lambda: "idle" in subprocess.run("sinfo", capture_output=True, text=True).stdout)
        yield tmp_path
        slurm("scancel", "--user=root")
        until(lambda: not slurm("squeue", "--noheader"), 60)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


class Job:
    """The run's job in the queue; what it has printed is `text`."""

    def __init__(self, folder):
        self.output = folder / "output"
        command = [
            sys.executable, "-m", "inr_gan_jax.main", "--config=configs/digits.py",
            f"--workdir={folder}/run", "--config.train.kimg=3", "--config.log.metrics_kimg=0.25",
            "--config.log.checkpoint_kimg=0.5", "--config.log.grid_kimg=0",
            "--config.evaluate.kimg=0",
        ]  # fmt: skip
        options = ["--parsable", "--ntasks-per-node=2", f"--output={self.output}"]
        script = LAUNCH.relative_to(ROOT) / "slurm.sbatch"
        self.id = slurm("sbatch", *options, script, *command).strip()

    @property
    def text(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    @property
    def state(self) -> str:
        return re.search(r"JobState=(\w+)", slurm("scontrol", "show", "job", self.id))[1]

    def says(self, pattern: str, times: int = 1, seconds: float = 200) -> list[str]:
        """Waits until the pattern has been printed that often; what its groups matched."""
        end = time.monotonic() + seconds
        while len(found := re.findall(pattern, self.text)) < times:
            assert time.monotonic() < end, f"no {pattern!r} in:\n{self.text}"
            time.sleep(0.2)
        return found


def task(index: int) -> psutil.Process:
    """The Python process of a task."""
    for process in psutil.process_iter(["cmdline", "environ"]):
        command, environ = process.info["cmdline"] or [], process.info["environ"] or {}
        wanted = command[:3] == [sys.executable, "-m", "inr_gan_jax.main"]
        if wanted and environ.get("SLURM_PROCID") == str(index):
            return process
    raise AssertionError("the task does not run")


PROGRESS = r"kimg [\d.]+/3 "


def test_a_run_survives_what_a_cluster_does_to_it(cluster, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # one device in each process
    job = Job(cluster)
    job.says(r" in 2 processes")
    job.says(PROGRESS, 3)  # a checkpoint every second one

    both = [task(0), task(1)]
    both[1].send_signal(signal.SIGKILL)
    psutil.wait_procs(both, timeout=45)
    assert not any(process.is_running() for process in both)
    job.says(r"launch/slurm.sbatch: exit code 1\d\d")
    assert float(job.says(r"going on from ([\d.]+) kimg")[0]) >= 0.5

    job.says(PROGRESS, 5)
    slurm("scancel", "--signal=TERM", "--batch", job.id)  # as before the end of its time
    saved = job.says(r"stopped and saved at ([\d.]+) kimg; the same command goes on")
    job.says("not done yet, to the queue again")
    until(lambda: job.state == "PENDING", 60)
    slurm("scontrol", "update", f"JobId={job.id}", "StartTime=now")  # Slurm waits two minutes
    assert job.says(r"going on from ([\d.]+) kimg", 2)[1] == saved[0]

    job.says(PROGRESS, 8)
    slurm("scancel", job.id)
    until(lambda: job.state == "CANCELLED", 60)
    until(lambda: not slurm("squeue", "--noheader"), 60)
    again = Job(cluster)  # its output goes on where that of the first ended
    assert float(again.says(r"going on from ([\d.]+) kimg", 3)[2]) > float(saved[0])
    again.says(r"\ndone: 3\.\d+ kimg")
    until(lambda: again.state == "COMPLETED", 60)
