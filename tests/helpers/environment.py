"""Where things are, and the environment of the processes that tests start."""

import os
import sys
from pathlib import Path

import jaxlib

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
PROGRAMS = ROOT / ".pytest_cache" / "programs"  # compiled once, for all tests
# An older way to write loops, where XLA has it: programs compile in half the time.
_OLDER = "--xla_cpu_use_fusion_emitters=false" if jaxlib.__version__ < "0.11" else ""


def xla_flags(devices: int) -> str:
    """XLA_FLAGS for so many devices of the host, and quick compilation."""
    return f"--xla_force_host_platform_device_count={devices} {_OLDER}".rstrip()


def environment(cache: Path | None = None, *, devices: int = 1, **changes) -> dict[str, str]:
    """For a process on the CPU, with little optimisation; `changes` come on top.

    Processes that share `cache` keep data there.
    """
    ours = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": xla_flags(devices),
    }
    if cache is not None:
        ours["INR_GAN_JAX_CACHE"] = str(cache)
    return os.environ | ours | {name: str(value) for name, value in changes.items()}
