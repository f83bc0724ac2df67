"""launch/tpu_pod.sh and launch/tpu_worker.sh, with a `gcloud` whose two hosts are folders."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from helpers.scripts import LAUNCH, ROOT, finish, run, script, stand_in, until

SLICE = ["--name=faces", "--zone=us-east5-b", "--type=v6e-16"]
WORKDIR = "--workdir=gs://bucket/faces"
WAIT = "for try in {1..300}; do [[ ! -e end ]] || break; sleep 1; done"  # a tenth of it: see cloud
GCLOUD = r"""
echo "$*" >>calls
command() { for word; do [[ $word != --command=* ]] || echo "${word#--command=}"; done; }
case "$*" in
    "compute tpus queued-resources list"*)
        if [[ -s queue ]]; then head -n 1 queue; sed -i 1d queue; else cat state; fi ;;
    "compute tpus tpu-vm list"*) echo READY ;;
    "compute tpus queued-resources create"*) echo ACTIVE >state ;;
    "compute tpus queued-resources delete"*) : >state ;;
    "compute tpus tpu-vm scp"*) for host in 0 1; do cp "$5" "$host/inr_gan_jax.tar.gz"; done ;;
    "compute tpus tpu-vm ssh"*)
        for host in 0 1; do
            (cd "$host" && HOST=$host HOME=$PWD bash -c "$(command "$@")") & hosts[host]=$!
        done
        code=0
        for host in 1 0; do wait "${hosts[host]}" || code=$?; done
        exit "$code" ;;
    *) exit 2 ;;
esac
"""


@pytest.fixture
def cloud(tmp_path):
    """Where the scripts run: this gcloud, a git that packs launch/ as it is now, a short sleep."""
    folder = tmp_path / "cloud"
    stand_in(folder, "gcloud", GCLOUD)
    stand_in(folder, "git", f'tar -czf "$5" -C {shlex.quote(str(ROOT))} launch')
    stand_in(folder, "sleep", "exec /bin/sleep 0.1")
    for host in "01":
        python = folder / host / "inr_gan_jax/.venv/bin"
        stand_in(python, "python", 'echo "python $*"')
        stand_in(python, "pip", 'echo "pip $*" >>pip_calls')
    (folder / "state").write_text("")
    return folder


def calls(cloud: Path) -> list[str]:
    """Verbs of gcloud in order, as far as they change something."""
    lines = [line.split() for line in (cloud / "calls").read_text().splitlines()]
    return [line[3] for line in lines if line[3] != "list"]


def on_slice(cloud: Path, body: str, *options):
    return script("tpu_pod.sh", *SLICE, *options, "bash", "-c", body, WORKDIR, path=cloud)


def test_a_slice_is_made_used_and_deleted(cloud):
    """The queue is waited for; all hosts get the code, the pinned packages and the command."""
    (cloud / "queue").write_text("\nWAITING_FOR_RESOURCES\nPROVISIONING\n")
    code, out, err = finish(script("tpu_pod.sh", *SLICE, "python", "-m", "x", WORKDIR, path=cloud))
    assert code == 0, err
    assert calls(cloud) == ["create", "scp", "ssh", "ssh", "delete"]
    assert out.count(f"python -m x {WORKDIR}\n") == 2
    assert (cloud / "faces.log").read_text() == out
    for host in "01":
        pip = (cloud / host / "inr_gan_jax/pip_calls").read_text()
        assert "-c constraints.txt -e .[tpu,gcs]" in pip
    assert "WAITING_FOR_RESOURCES" in err and "PROVISIONING" in err


def test_a_slice_that_was_taken_away_is_made_again(cloud):
    body = (
        'echo x >>starts; (($(wc -l <starts) == 2)) && echo "done here" && exit 0; '
        "[[ $HOST = 0 ]] && echo SUSPENDED >../../state; exit 134"
    )
    code, out, err = finish(on_slice(cloud, body))
    assert code == 0 and "the run ended with exit code 134" in err and "SUSPENDED" in err
    once = ["scp", "ssh", "ssh"]
    assert calls(cloud) == ["create", *once, "delete", "create", *once, "delete"]
    assert out.count("done here") == 2


@pytest.mark.parametrize(
    "body, options, expected, runs",
    [("exit 2", [], 2, 1), ("exit 134", ["--restarts=2"], 134, 3)],
)
def test_what_is_not_tried_again(cloud, body, options, expected, runs):
    code, _, _ = finish(on_slice(cloud, body, *options))
    assert code == expected
    assert calls(cloud) == ["create", *["scp", "ssh", "ssh"] * runs, "delete"]


def test_where_only_another_host_had_to_stop_it_goes_on(cloud):
    stopped = "stopped and saved at 3 kimg; the same command goes on"
    body = f'echo x >>starts; (($(wc -l <starts) == 2)) || echo "{stopped}"'
    code, _, err = finish(on_slice(cloud, body))
    assert code == 0 and "exit code 75" in err


@pytest.mark.parametrize("options, last", [([], "delete"), (["--keep"], "ssh")])
def test_a_stop_lets_all_hosts_save(cloud, options, last):
    stopped = "stopped and saved at 3 kimg; the same command goes on"
    body = f"trap 'echo \"{stopped}\"; exit 0' TERM; echo up >up; {WAIT}"
    (cloud / "state").write_text("ACTIVE\n")
    pod = on_slice(cloud, body, *options)
    until(lambda: all((cloud / host / "inr_gan_jax/up").exists() for host in "01"))
    pod.terminate()
    code, out, err = finish(pod)
    assert code == 0, err
    assert out.count(stopped) == 2 and "told to save" in err
    assert calls(cloud)[0] == "scp" and calls(cloud)[-1] == last  # it was there already


def test_an_interrupted_connection_does_not_start_a_second_run(cloud):
    """A host that runs the command lets the same request follow, and keeps its code as it is."""
    home = cloud / "0/inr_gan_jax"
    subprocess.run(["cp", "-r", LAUNCH, home], check=True)
    body = f"echo x >>starts; {WAIT}; echo ended; exit 7"

    def follow():
        command = [home / "launch/tpu_worker.sh", "run", "bash", "-c", body]
        env = {**os.environ, "PATH": f"{cloud}:{os.environ['PATH']}"}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)

    first = follow()
    until((home / "starts").exists)
    busy = subprocess.run([home / "launch/tpu_worker.sh", "busy"])
    assert busy.returncode == 0
    first.kill()
    first.wait()
    second = follow()
    (home / "end").touch()
    assert second.communicate(timeout=30)[0] == "ended\n" and second.returncode == 7
    assert (home / "starts").read_text() == "x\n"
    assert subprocess.run([home / "launch/tpu_worker.sh", "busy"]).returncode == 1


def test_dry_run_names_every_command(cloud):
    (cloud / "gcloud").unlink()
    (cloud / "git").unlink()
    options = [*SLICE, "--project=p", "--spot", "--dry_run"]
    code, out, err = run("tpu_pod.sh", *options, "python", "-m", "x", WORKDIR, "a b", path=cloud)
    assert (code, err) == (0, "")
    where = ["--zone=us-east5-b", "--project=p", "--quiet"]
    git, *gcloud = [shlex.split(line) for line in out.splitlines()]
    assert git[0] == "git" and git[-4:] == ["archive", "-o", "inr_gan_jax.tar.gz", "HEAD"]
    assert all(line[:3] == ["gcloud", "compute", "tpus"] for line in gcloud)
    assert all(line[-3:] == where for line in gcloud)
    create, copy, install, command, delete = [line[3:-3] for line in gcloud]
    assert create == [
        "queued-resources", "create", "faces", "--node-id=faces", "--accelerator-type=v6e-16",
        "--runtime-version=v2-alpha-tpuv6e", "--spot",
    ]  # fmt: skip
    archive = "inr_gan_jax.tar.gz"
    assert copy == ["tpu-vm", "scp", archive, f"faces:{archive}", "--worker=all"]
    assert install[:4] == command[:4] == ["tpu-vm", "ssh", "faces", "--worker=all"]
    assert install[-1].endswith("inr_gan_jax/launch/tpu_worker.sh install; }")
    there = shlex.split(command[-1].removeprefix("--command="))
    assert there == [
        "inr_gan_jax/launch/tpu_worker.sh", "run", "python", "-m", "x", WORKDIR, "a b"
    ]  # fmt: skip
    assert delete == ["queued-resources", "delete", "faces", "--force"]


@pytest.mark.parametrize(
    "kind, runtime",
    [
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p-16", "v2-alpha-tpuv5"),
        ("v4-16", "tpu-ubuntu2204-base"),
    ],
)
def test_software_of_the_machines(kind, runtime):
    options = ["--name=a", "--zone=b", f"--type={kind}", "--dry_run"]
    assert f"--runtime-version={runtime} " in run("tpu_pod.sh", *options, "x", WORKDIR)[1]
    chosen = run("tpu_pod.sh", *options, "--runtime=own", "x", WORKDIR)[1]
    assert "--runtime-version=own " in chosen


@pytest.mark.parametrize(
    "args, complaint",
    [
        (["x", WORKDIR], "--name"),
        (SLICE, "no command"),
        ([*SLICE, "x", "--workdir=runs/faces"], "--workdir=gs://"),
        ([*SLICE, "--restarts=x", "x", WORKDIR], "--restarts=x"),
        ([*SLICE, "--spotty", "x", WORKDIR], "--spotty"),
    ],
)
def test_mistakes_are_told(args, complaint):
    code, out, err = run("tpu_pod.sh", *args)
    assert code == 2 and out == "" and complaint in err
