"""What devices can do at best, by the kind that jax calls them.

Memory of a TPU is what its compiler lets programs use (it says so when one needs more): the chip's
less a reserve. Link bandwidth is that of all of a chip's links together, in one direction.

Sources: cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e} (links: half of the bidirectional figure there;
v4: six of 50 GB/s, Jouppi et al. 2023) and NVIDIA's data sheets, dense, without sparsity.
"""

import dataclasses
from dataclasses import dataclass

import jax

GIB = 2**30


@dataclass(frozen=True)
class Hardware:
    """One device. Bytes, operations per second, bytes per second; 0 is not known.

    `f32` is the rate of float32 products at jax's default precision: one pass in bfloat16 on a TPU,
    TF32 on NVIDIA GPUs from A100 on. `clock`: cycles per second of a TPU's cores.
    """

    memory: float
    bf16: float
    f32: float
    bandwidth: float
    links: float
    clock: float = 0


KINDS = {
    # Clocks follow from the peaks: 2 x 128 x 128 operations per cycle and matrix unit (v4 and v5p
    # have eight, v5e four). For v6e published figures do not agree on one.
    "TPU v4": Hardware(30.75 * GIB, 275e12, 275e12, 1.2e12, 300e9, 1.05e9),
    "TPU v5 lite": Hardware(15.75 * GIB, 197e12, 197e12, 819e9, 200e9, 1.5e9),
    "TPU v5": Hardware(95.74 * GIB, 459e12, 459e12, 2765e9, 600e9, 1.75e9),
    "TPU v6 lite": Hardware(31.25 * GIB, 918e12, 918e12, 1638e9, 400e9),
    # V100 and T4 multiply no bfloat16: XLA computes in float32 there.
    "Tesla V100-SXM2-16GB": Hardware(16 * GIB, 15.7e12, 15.7e12, 900e9, 150e9),
    "Tesla V100-SXM2-32GB": Hardware(32 * GIB, 15.7e12, 15.7e12, 900e9, 150e9),
    "Tesla T4": Hardware(16 * GIB, 8.1e12, 8.1e12, 320e9, 16e9),
    "NVIDIA A100-SXM4-40GB": Hardware(40 * GIB, 312e12, 156e12, 1555e9, 300e9),
    "NVIDIA A100-SXM4-80GB": Hardware(80 * GIB, 312e12, 156e12, 2039e9, 300e9),
    "NVIDIA L4": Hardware(24 * GIB, 121e12, 60e12, 300e9, 32e9),
    "NVIDIA H100 80GB HBM3": Hardware(80 * GIB, 989e12, 494e12, 3350e9, 450e9),
    "NVIDIA H200": Hardware(141e9, 989e12, 494e12, 4800e9, 450e9),
    "NVIDIA B200": Hardware(180e9, 2250e12, 1125e12, 8000e9, 900e9),
}  # fmt: skip
UNKNOWN = Hardware(0, 0, 0, 0, 0)


def hardware(device: jax.Device) -> Hardware:
    """What a device can do; its memory is what jax may use of it."""
    known = KINDS.get(device.device_kind, UNKNOWN)
    if device in jax.local_devices():
        told = device.memory_stats()
        return dataclasses.replace(known, memory=told["bytes_limit"]) if told else known
    if device.platform in ("gpu", "cuda"):  # XLA_PYTHON_CLIENT_MEM_FRACTION
        known = dataclasses.replace(known, memory=0.75 * known.memory)
    return known
