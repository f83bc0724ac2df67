"""An accelerator that stands idle is found in the system's files, told of, and refused."""

import importlib.util

import jax
import pytest

from inr_gan_jax import errors
from inr_gan_jax.errors import UserError
from inr_gan_jax.runtime import devices


def files(root, **contents):
    for path, text in contents.items():
        path = root / path.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(autouse=True)
def plain_installation(monkeypatch):
    """jax as a CPU installation has it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    platforms = jax.config.jax_platforms
    jax.config.update("jax_platforms", None)
    yield
    jax.config.update("jax_platforms", platforms)


def gpus(root):
    files(root, dev__nvidia0="", dev__nvidia1="", dev__nvidiactl="")


def tpus(root):
    """Four chips beside Google's network card and disk."""
    for k, kind in enumerate(["0x120000"] * 4 + ["0x020000", "0x010802"]):
        place = root / f"sys/bus/pci/devices/0000:00:0{k}.0"
        place.mkdir(parents=True)
        (place / "vendor").write_text("0x1ae0\n")
        (place / "class").write_text(f"{kind}\n")
    files(root, dev__vfio__0="", dev__vfio__vfio="")


def test_nothing_besides_the_cpu(tmp_path):
    assert devices.idle_accelerator(tmp_path) is None
    files(tmp_path, dev__nvidiactl="", dev__accel__accel0="", dev__vfio__vfio="")  # another's NPU
    assert devices.idle_accelerator(tmp_path) is None
    devices.refuse_idle_accelerator(False, tmp_path)


def test_google_cards_alone_are_no_tpu(tmp_path):
    tpus(tmp_path)
    (tmp_path / "dev/vfio/0").unlink()
    assert devices.idle_accelerator(tmp_path) is None


@pytest.mark.parametrize(
    "present, told",
    [
        (
            gpus,
            "this machine has 2 NVIDIA GPUs, unused: pip install -c constraints.txt -e .[cuda13]",
        ),
        (
            tpus,
            "this machine has 4 TPU chips, unused: pip install -c constraints.txt -e .[tpu,gcs]",
        ),
    ],
)
def test_what_is_idle_and_what_mends_it(present, told, tmp_path):
    present(tmp_path)
    assert devices.idle_accelerator(tmp_path) == told
    with pytest.raises(UserError) as caught:
        devices.refuse_idle_accelerator(False, tmp_path)
    assert str(caught.value) == f"{told}; or train on the CPU: --allow_cpu"
    devices.refuse_idle_accelerator(True, tmp_path)


def test_a_gpu_without_its_device_file(tmp_path):
    (tmp_path / "proc/driver/nvidia/gpus/0000:3b:00.0").mkdir(parents=True)
    assert devices.idle_accelerator(tmp_path).startswith("this machine has 1 NVIDIA GPU, unused")


def test_other_reasons(tmp_path, monkeypatch):
    gpus(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "jax_cuda13_plugin")
    assert "jax_cuda13_plugin is installed, but jax cannot" in devices.idle_accelerator(tmp_path)
    jax.config.update("jax_platforms", "cpu")
    assert devices.idle_accelerator(tmp_path).endswith("unused: unset JAX_PLATFORMS=cpu")


def test_an_accelerator_at_work_is_not_idle(tmp_path, monkeypatch):
    gpus(tmp_path)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert devices.idle_accelerator(tmp_path) is None


def test_extras_beside_a_wheel(tmp_path, monkeypatch):
    """Where no constraints.txt lies beside the package they are named as pip finds them."""
    assert errors.pip_install("tpu,gcs") == "pip install -c constraints.txt -e .[tpu,gcs]"
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "inr_gan_jax" / "errors.py"))
    assert errors.pip_install("tpu,gcs") == 'pip install "inr_gan_jax[tpu,gcs]"'
