"""Facts about the devices at hand, and what follows from them."""

import importlib.util
import os
from pathlib import Path

import jax
from absl import logging

from inr_gan_jax.errors import UserError, pip_install


def use_compilation_cache(directory: str | None = None) -> None:
    """Keeps compiled programs between runs; JAX_COMPILATION_CACHE_DIR has precedence.

    The default is `~/.cache/inr_gan_jax/xla`. Everything is kept, however quick to compile. A
    folder that cannot be had is done without, and a warning says so.
    """
    folder = directory or compilation_cache()
    if "://" not in folder and not _is_writable(folder):
        if os.environ.get("JAX_COMPILATION_CACHE_DIR") != "":  # which asks for none
            why = f"{folder} cannot be written" if folder else "there is no home folder"
            logging.warning("compiled programs are not kept: %s", why)
        jax.config.update("jax_compilation_cache_dir", None)
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compilation_cache() -> str:
    """Where compiled programs are kept by default; empty: they are not."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return os.environ["JAX_COMPILATION_CACHE_DIR"]
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return ""
    return str(Path(cache) / "inr_gan_jax" / "xla")


def _is_writable(folder: str) -> bool:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return bool(folder) and os.access(folder, os.W_OK)


def describe() -> str:
    """One line: how many devices of which kind, in how many processes."""
    devices = jax.devices()
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform}){processes}"


def idle_accelerator(root: str | os.PathLike = "/") -> str | None:
    """What this machine has besides the CPU that jax uses, and how to use it; None: nothing.

    `root` is the folder that holds dev, proc and sys, where Linux tells of devices.
    """
    if jax.default_backend() != "cpu":
        return None
    for name, count, extra, plugin in (
        ("NVIDIA GPU", _nvidia_gpus(Path(root)), "cuda13", "jax_cuda13_plugin"),
        ("TPU chip", _tpu_chips(Path(root)), "tpu,gcs", "libtpu"),
    ):
        if not count:
            continue
        present = f"this machine has {count} {name}{'s' if count > 1 else ''}, unused"
        if "cpu" in (jax.config.jax_platforms or ""):
            return f"{present}: unset JAX_PLATFORMS={jax.config.jax_platforms}"
        if not importlib.util.find_spec(plugin):
            return f"{present}: {pip_install(extra)}"
        return f"{present}: {plugin} is installed, but jax cannot use it (see its warnings)"
    return None


def refuse_idle_accelerator(allow_cpu: bool, root: str | os.PathLike = "/") -> None:
    """UserError where training would run on the CPU beside an accelerator; not if `allow_cpu`."""
    idle = None if allow_cpu else idle_accelerator(root)
    if idle:
        raise UserError(f"{idle}; or train on the CPU: --allow_cpu")


def _nvidia_gpus(root: Path) -> int:
    nodes = [*(root / "dev").glob("nvidia[0-9]*")]
    return len(nodes) or len([*(root / "proc/driver/nvidia/gpus").glob("*")])


def _tpu_chips(root: Path) -> int:
    """Google's PCI devices that are no network card or disk, where the system gives access."""
    if not [*(root / "dev").glob("accel*"), *(root / "dev/vfio").glob("[0-9]*")]:
        return 0
    chips = 0
    for vendor in (root / "sys/bus/pci/devices").glob("*/vendor"):
        kind = vendor.with_name("class")
        other = kind.exists() and kind.read_text().startswith(("0x01", "0x02"))
        chips += vendor.read_text().strip() == "0x1ae0" and not other
    return chips
