"""What this machine and this installation have."""

import importlib.metadata
import os
import platform

import jax
from etils import epath

import inr_gan_jax
from inr_gan_jax.costs.hardware import GIB
from inr_gan_jax.runtime import devices

NEEDED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy",
          "ml-collections", "clu", "tensorflow-datasets")  # fmt: skip
OPTIONAL = ("jax-cuda13-plugin", "libtpu", "gcsfs")


def values(root: str | os.PathLike = "/") -> dict:
    """Versions, devices, the cache of compiled programs, and what stands idle, as plain values.

    `root`: see devices.idle_accelerator.
    """
    found = jax.devices()
    versions = {name: _version(name) for name in (*NEEDED, *OPTIONAL)}
    versions = {name: version for name, version in versions.items() if version or name in NEEDED}
    cache = devices.compilation_cache()
    programs = _programs(cache)
    return {
        "inr_gan_jax": inr_gan_jax.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": versions,
        "devices": devices.describe(),
        "device_count": len(found),
        "processes": jax.process_count(),
        "device_memory": (found[0].memory_stats() or {}).get("bytes_limit"),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "compilation_cache": {
            "directory": cache,
            "programs": len(programs),
            "bytes": sum(programs),
        },
        "warnings": [line for line in [devices.idle_accelerator(root)] if line],
    }


def text(told: dict) -> str:
    """The same, to read."""
    cache, memory = told["compilation_cache"], told["device_memory"]
    versions = [f"{name} {version or 'MISSING'}" for name, version in told["versions"].items()]
    kept = f"{cache['programs']} programs, {cache['bytes'] / 2**20:.1f} MiB"
    rows = {
        "inr_gan_jax": f"{told['inr_gan_jax']}, Python {told['python']}, {told['system']}",
        "packages": ", ".join(versions),
        "machine": f"{told['cores']} cores, {told['memory'] / GIB:.1f} GiB of memory",
        "devices": told["devices"] + (f", {memory / GIB:.1f} GiB each" if memory else ""),
        "processes": f"{told['processes']}",
        "compiled": f"{kept} in {cache['directory']}" if cache["directory"] else "not kept",
    }
    lines = [f"{name:13}{value}" for name, value in rows.items()]
    return "\n".join(lines + [f"warning: {line}" for line in told["warnings"]])


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _programs(directory: str) -> list[int]:
    """Bytes of each compiled program that is kept."""
    folder = epath.Path(directory) if directory else None
    if folder is None or not folder.exists():
        return []
    return [path.stat().length for path in folder.iterdir() if path.name.endswith("-cache")]
