"""Accelerators that are not here: their compilers need none of them to compile for them."""

import importlib.util
import os
import re

import jax
from jax.experimental import topologies

from inr_gan_jax.errors import UserError, nearest, pip_install

# How libtpu is to see each kind: a v4 chip's two cores as one device, as they are used.
KINDS = {"v4": {"chip_config_name": "megacore"}, "v5e": {}, "v5p": {}, "v6e": {}}

# Without these libtpu looks for the chips of this machine, and lets one process in at a time.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


# GPUs, as XLA describes them: jax's name, bytes of memory, bytes per second. Both are Hopper.
GPUS = {
    "h100": ("NVIDIA H100 80GB HBM3", 84_929_347_584, 3_352_320_000_000),
    "h200": ("NVIDIA H200", 150_109_880_320, 4_800_000_000_000),
}
HOPPER = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448 registers_per_core_limit: 65536
  registers_per_block_limit: 65536 core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  l2_cache_size: 52428800 memory_bandwidth: {bandwidth} device_memory_size: {memory}
  cuda_compute_capability {{ major: 9 }}
}}
runtime_version {{ major: 13 }} dnn_version_info {{ major: 9 }}
platform_name: "CUDA" device_description_str: "{name}"
"""


def devices(topology: str) -> list[jax.Device]:
    """Devices to compile for: a TPU slice such as `v5e:4x4` or `v5p:2x2x2`, or GPUs of one machine,
    `h100:8`; this process computes on the CPU from then on.

    UserError without the compiler (libtpu, jax's CUDA plugin), and for what cannot be.
    """
    kind, _, shape = topology.partition(":")
    if kind not in (*KINDS, *GPUS):
        close = nearest(kind, (*KINDS, *GPUS))
        raise UserError(
            f"--topology={topology} must be a kind and its chips, like v5e:4x4, v5p:2x2x2 or "
            f"h100:8, of {', '.join((*KINDS, *GPUS))}{close}"
        )
    return _gpus(topology, kind, shape) if kind in GPUS else _tpus(topology, kind, shape)


def _gpus(topology: str, kind: str, count: str) -> list[jax.Device]:
    if not re.fullmatch(r"[1-8]", count):
        raise UserError(f"--topology={topology} must be a kind and 1 to 8 GPUs, like {kind}:8")
    _check_compiler(topology, "jax_cuda13_plugin", "the compiler for NVIDIA GPUs", "cuda13", "GPU")
    _compute_on_cpu()
    name, memory, bandwidth = GPUS[kind]
    target = HOPPER.format(name=name, memory=memory, bandwidth=bandwidth)
    found = topologies.get_topology_desc(
        kind, platform="cuda", target_config=target, topology=f"1x1x{count}"
    )
    return found.devices


def _tpus(topology: str, kind: str, shape: str) -> list[jax.Device]:
    example = "a kind and its chips, like v5e:4x4 or v5p:2x2x2"
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", shape):
        raise UserError(f"--topology={topology} must be {example}")
    _check_compiler(topology, "libtpu", "libtpu, the compiler for TPUs", "tpu", "TPU")
    os.environ.update(ENVIRONMENT)
    _compute_on_cpu()
    options = dict(KINDS[kind])
    if set(shape) <= set("1x"):  # by default hosts have 2x2 chips
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        found = topologies.get_topology_desc(topology, platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        why = str(error).splitlines()[0].split(": ", 1)[-1]
        raise UserError(f"--topology={topology}: {why}; it must be {example}") from error
    return found.devices


def _check_compiler(topology: str, package: str, what: str, extra: str, device: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"--topology={topology} needs {what}: {pip_install(extra)} (no {device} is needed)"
        )


def _compute_on_cpu() -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # of no use without the devices
