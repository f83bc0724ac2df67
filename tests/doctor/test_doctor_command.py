"""The command: what it says of this machine, and each mistake in one line."""

import importlib.util
import json
import subprocess
import sys

import jax
import pytest
from absl import flags
from absl.testing import flagsaver
from helpers.environment import ROOT

from inr_gan_jax.cli.config import parse_flags
from inr_gan_jax.costs.hardware import KINDS
from inr_gan_jax.costs.program import Cost, Program
from inr_gan_jax.costs.traffic import Traffic
from inr_gan_jax.doctor import __main__ as doctor
from inr_gan_jax.doctor import fit, machine, topology
from inr_gan_jax.errors import UserError
from inr_gan_jax.runtime import devices
from inr_gan_jax.train import means

FFHQ = f"--config={ROOT}/configs/ffhq.py"


def doctor_here(*arguments: str) -> None:
    """The command, in this process."""
    with flagsaver.flagsaver():
        for name in flags.FLAGS:  # other commands require theirs, if their tests ran before
            flags.FLAGS[name].validators.clear()
        parse_flags(["doctor", *arguments])
        doctor.main([])


def test_what_this_machine_has(tmp_path, monkeypatch, capsys):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/jit_f-1-cache").write_bytes(bytes(3 * 2**20))
    (tmp_path / "cache/jit_f-1-atime").write_bytes(bytes(8))
    told = machine.values(tmp_path)
    lines = dict(line.split(maxsplit=1) for line in machine.text(told).splitlines())
    assert f"jax {jax.__version__}, jaxlib" in lines["packages"]
    assert lines["devices"] == f"{jax.device_count()} x cpu (cpu)"
    assert lines["compiled"] == f"1 programs, 3.0 MiB in {tmp_path / 'cache'}"
    assert "1 NVIDIA GPU, unused" in lines["warning:"]
    monkeypatch.setattr(machine, "_version", lambda name: None)
    assert "jax MISSING" in machine.text(machine.values(tmp_path))
    assert "libtpu" not in machine.text(machine.values(tmp_path))
    monkeypatch.setattr(devices, "idle_accelerator", lambda root: None)
    doctor_here(f"--json={tmp_path / 'machine.json'}")
    assert capsys.readouterr().out.startswith("inr_gan_jax  ")
    told = json.loads((tmp_path / "machine.json").read_text())
    assert told["device_count"] == jax.device_count() and told["warnings"] == []


def doctor_of(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "inr_gan_jax.doctor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_mistakes_are_one_line(tmp_path):
    done = doctor_of("--topology=v5e:4x4")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: --topology needs a configuration: --config=configs/ffhq_1024.py"
    ]


@pytest.mark.parametrize(
    "name, told",
    [
        ("v5x:4x4", "v5p:2x2x2 or h100:8, of v4, v5e, v5p, v6e, h100, h200; did you mean"),
        ("4x4", "must be a kind and its chips, like v5e:4x4, v5p:2x2x2 or h100:8"),
        ("h100:0", "must be a kind and 1 to 8 GPUs, like h100:8"),
        ("h200:4x2", "must be a kind and 1 to 8 GPUs, like h200:8"),
        ("h100:8", "needs the compiler for NVIDIA GPUs: pip install"),
        ("v5e", "must be a kind and its chips"),
        ("v5e:16", "must be a kind and its chips"),
        ("v5e:0x4", "must be a kind and its chips"),
        (
            "v5e:4x4",
            "needs libtpu, the compiler for TPUs: pip install -c constraints.txt -e .[tpu]",
        ),
    ],
)
def test_topologies_that_cannot_be(name, told, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        topology.devices(name)
    assert f"--topology={name} " in str(caught.value) and told in str(caught.value)
    assert "\n" not in str(caught.value)


def program(refused: dict) -> Program:
    cost = Cost(1.0, {"bfloat16": 10**12}, Traffic(10**9, 10**6), (), 10**9, 10**9, 10**6)
    return Program({"g_main": cost}, refused, 1, 16, KINDS["TPU v5 lite"])


@pytest.mark.parametrize("fits", [True, False])
def test_the_flags_that_make_it_fit_are_printed(fits, tmp_path, monkeypatch, capsys):
    needs = {"d_main": 20 * 2**30}

    def measure(job, first=()):
        enough = fits and job.config.train.microbatches >= 4
        return program({} if enough else needs)

    monkeypatch.setattr(fit, "measure", measure)
    monkeypatch.setattr(devices, "use_compilation_cache", lambda: None)
    monkeypatch.setattr(means, "quicker_dtype", lambda: "float32")
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
    path = tmp_path / "report.json"
    doctor_here(FFHQ, f"--json={path}")
    out, told = capsys.readouterr().out, json.loads(path.read_text())
    assert "d_main needs 20.00 GiB and was not compiled" in out
    assert told["refused"] == needs and not told["fits"]
    if fits:
        assert "it fits with --config.train.microbatches=4" in out and out.endswith("it fits\n")
        assert told["flags"] == "--config.train.microbatches=4" and told["fitting"]["fits"]
    else:
        assert out.endswith("nor config.mesh.fsdp make it fit\n")


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--json=.* cannot be written"):
        doctor_here(f"--json={tmp_path / 'file/report.json'}")
