"""launch/local.sh: several processes of one run, here short shell scripts in place of training."""

import os
import shlex
import signal
import time
from pathlib import Path

import pytest
from helpers.scripts import finish, run, script, until

START = 'echo "$JAX_COORDINATOR_ADDRESS" >>"$HERE/starts$JAX_PROCESS_ID"; '
FIRST = '(($(wc -l <"$HERE/starts$JAX_PROCESS_ID") == 1))'
# Saves for a second when told to stop, and notes how often it was told.
SAVING = (
    "trap 'echo term >>\"$HERE/terms$JAX_PROCESS_ID\"; stop=yes' TERM; "
    + START
    + "while [[ ! ${stop:-} ]]; do sleep 0.05; done; sleep 1; echo saved; "
)


def local(here: Path, body: str, *options, processes: int = 2):
    """Starts the launcher on a shell script, of which every process finds `here` in $HERE."""
    args = ["-n", processes, "--grace=0", f"--logs={here}", *options, "--", "bash", "-c", body]
    return script("local.sh", *args, HERE=here)


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"


def test_all_start_again_after_one_died(tmp_path):
    """The one that hangs is ended; what the first says is seen; the second start ends well."""
    body = (
        f'{START} echo "hello of $JAX_PROCESS_ID of $JAX_NUM_PROCESSES"; {FIRST} || exit 0; '
        '((JAX_PROCESS_ID == 1)) && sleep 0.5 && kill -KILL $$; trap "" TERM; '
        "while true; do sleep 1; done"
    )
    code, out, err = finish(local(tmp_path, body))
    assert code == 0
    assert out == "hello of 0 of 2\n" * 2
    assert (tmp_path / "process-1.log").read_text() == "hello of 1 of 2\n" * 2
    assert err.count("died") == 1 and err.count("starting all") == 1
    assert "process 1 (pid" in err and "died: exit code 137, signal KILL; see " in err
    assert "starting all processes again (1 of 3)" in err
    ports = lines(tmp_path / "starts0")
    assert ports == lines(tmp_path / "starts1") and len(set(ports)) == 2


def test_a_users_error_is_not_tried_again(tmp_path):
    code, _, err = finish(local(tmp_path, START + "exit 2"))
    assert code == 2 and "starting all" not in err
    assert len(lines(tmp_path / "starts0")) == 1


def test_gives_up_after_the_restarts(tmp_path):
    body = START + "((JAX_PROCESS_ID == 0)) || sleep 0.4; exit $((134 + JAX_PROCESS_ID))"
    code, _, err = finish(local(tmp_path, body, "--restarts=1"))
    assert code == 134 and "(1 of 1)" in err
    assert len(lines(tmp_path / "starts0")) == len(lines(tmp_path / "starts1")) == 2


@pytest.mark.parametrize("last, expected", [("exit 0", 0), ("exit $((JAX_PROCESS_ID * 7))", 7)])
def test_a_stop_lets_them_save(tmp_path, last, expected):
    """TERM reaches each process once, the launcher waits, and nothing starts again."""
    launcher = local(tmp_path, SAVING + last, processes=3)
    until(lambda: all((tmp_path / f"starts{i}").exists() for i in range(3)))
    launcher.terminate()
    code, out, err = finish(launcher)
    assert code == expected and out == "saved\n" and "starting all" not in err
    assert all(lines(tmp_path / f"terms{i}") == ["term"] for i in range(3))
    assert (tmp_path / "process-2.log").read_text() == "saved\n"


def test_a_second_stop_kills(tmp_path):
    launcher = local(tmp_path, f'trap "" TERM; {START} while true; do sleep 0.1; done')
    until((tmp_path / "starts1").exists)
    launcher.send_signal(signal.SIGINT)
    time.sleep(0.3)
    launcher.send_signal(signal.SIGTERM)  # by the same sender: not heard
    time.sleep(2)
    assert launcher.poll() is None
    launcher.terminate()
    assert finish(launcher)[0] == 137


@pytest.mark.parametrize("end", ["exit 0", "sleep 1000"])
def test_nothing_is_left_behind(tmp_path, end):
    """Not even children of the processes, and also where the launcher itself is killed."""
    body = f'{START} sleep 1001 & echo $$ $! >"$HERE/pids$JAX_PROCESS_ID"; sleep 0.5; {end}'
    launcher = local(tmp_path, body)
    until(lambda: len(lines(tmp_path / "pids0") + lines(tmp_path / "pids1")) == 4)
    pids = [int(pid) for i in range(2) for pid in lines(tmp_path / f"pids{i}")]
    assert all(map(alive, pids))
    if end != "exit 0":
        launcher.kill()
    finish(launcher)
    until(lambda: not any(map(alive, pids)), 5)


def test_dry_run_names_environment_and_command():
    options = ["-n", 2, "--devices_per_process=3", "--dry_run"]
    code, out, err = run("local.sh", *options, "python", "-m", "x", "a b", XLA_FLAGS="--y")
    assert (code, err) == (0, "")
    for index, line in enumerate(out.splitlines()):
        words = shlex.split(line)
        assert words[-4:] == ["python", "-m", "x", "a b"]
        assert f"JAX_PROCESS_ID={index}" in words and "JAX_NUM_PROCESSES=2" in words
        assert "XLA_FLAGS=--y --xla_force_host_platform_device_count=3" in words
    assert index == 1


def test_gpus_are_shared_out():
    def given(*options, gpus="4,5,6,7", platforms=""):
        env = {"CUDA_VISIBLE_DEVICES": gpus, "JAX_PLATFORMS": platforms}
        code, out, err = run("local.sh", *options, "--dry_run", "x", **env)
        pairs = [word.split("=") for word in shlex.split(out)]
        return code, [pair[1] for pair in pairs if pair[0] == "CUDA_VISIBLE_DEVICES"], err

    assert given("-n", 2)[:2] == (0, ["4,5", "6,7"])
    assert given("-n", 3)[:2] == (0, ["4", "5", "6"])
    assert given("-n", 2, "--devices_per_process=1")[:2] == (0, ["4", "5"])
    assert given("-n", 5, platforms="cpu")[:2] == (0, [])
    code, _, err = given("-n", 5)
    assert code == 2 and "5 processes with 1 GPU each do not fit on 4" in err
    assert given("-n", 2, "--devices_per_process=3")[0] == 2


@pytest.mark.parametrize(
    "args, complaint",
    [
        ([], "no command"),
        (["-n", 0, "true"], "-n 0"),
        (["--restarts=x", "true"], "--restarts=x"),
        (["--devices_per_process=0", "true"], "--devices_per_process=0"),
        (["--grace=-1", "true"], "--grace=-1"),
        (["--mistake", "true"], "--mistake"),
    ],
)
def test_mistakes_are_told(args, complaint):
    code, out, err = run("local.sh", *args)
    assert code == 2 and out == "" and complaint in err
