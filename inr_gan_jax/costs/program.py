"""The cost of training, or of anything that is made of compiled phases.

Memory and exchanged bytes are what the compiler laid out. Operations are counted (see flops), bytes
moved are estimated (see traffic). From these follows a bound on a phase's time: its products at the
device's peak, its bytes at the bandwidth of memory and links, whichever takes longest. It is never
shorter; how long it is, is known when it runs.
"""

import math
from dataclasses import dataclass

import jax

from inr_gan_jax.costs import flops
from inr_gan_jax.costs.collectives import Collective, collectives
from inr_gan_jax.costs.hardware import GIB, Hardware
from inr_gan_jax.costs.traffic import Traffic, traffic


@dataclass(frozen=True)
class Cost:
    """One run of a phase on one device; `runs` per iteration, below 1 for lazy phases.

    `flops` by the type of the factors. Bytes: `held` are arguments and results (the train state and
    the batch), `temporary` what it needs besides, `code` the program.
    """

    runs: float
    flops: dict[str, int]
    traffic: Traffic
    collectives: tuple[Collective, ...]
    held: int
    temporary: int
    code: int

    @property
    def exchanged(self) -> dict[str, int]:
        """Bytes of each kind of collective, their payload on one device."""
        total = {}
        for one in self.collectives:
            total[one.kind] = total.get(one.kind, 0) + one.bytes * one.times
        return total

    def limits(self, device: Hardware) -> dict[str, float]:
        """Seconds that products, memory and links take at least."""
        rates = {"bfloat16": device.bf16, "float16": device.bf16}
        sent = sum(_sent(one) * one.times for one in self.collectives)
        return {
            "products": sum(n / rates.get(kind, device.f32) for kind, n in self.flops.items()),
            "memory": self.traffic.bytes / device.bandwidth,
            "links": sent / device.links,
        }

    def seconds(self, device: Hardware) -> float:
        """The bound on its time."""
        return max(self.limits(device).values())


@dataclass(frozen=True)
class Program:
    """Training on one of `devices` equal devices, with `images` of each batch on it.

    `refused`: phases that its compiler had no room for, and the bytes they need.
    """

    phases: dict[str, Cost]
    refused: dict[str, int]
    devices: int
    images: int
    hardware: Hardware

    @property
    def memory(self) -> int:
        """Bytes: the greediest phase, and the code of all (what was refused: that alone)."""
        costs = self.phases.values()
        compiled = max((cost.held + cost.temporary for cost in costs), default=0)
        return max(compiled + sum(cost.code for cost in costs), *self.refused.values(), 0)

    @property
    def fits(self) -> bool:
        """Whether the memory is there, as far as it is known how much there is."""
        limit = self.hardware.memory
        return not self.refused and (not limit or self.memory <= limit)

    @property
    def flops_per_image(self) -> float:
        """Of a mean iteration."""
        return self._mean(lambda cost: sum(cost.flops.values())) / self.images

    @property
    def seconds(self) -> float:
        """The bound on the time of a mean iteration; 0 where the device is not known."""
        return self._mean(lambda cost: cost.seconds(self.hardware)) if self.hardware.bf16 else 0.0

    @property
    def expected_seconds(self) -> float:
        """What a TPU's compiler expects of a mean iteration; 0 where none does, and of kernels."""
        if any(cost.traffic.cycles is None for cost in self.phases.values()):
            return 0.0
        cycles = self._mean(lambda cost: cost.traffic.cycles)
        return cycles / self.hardware.clock if self.hardware.clock else 0.0

    def summary(self) -> str:
        """One line: memory and operations, and what they allow."""
        limit = self.hardware.memory
        of_limit = f" of {limit / GIB:.1f}" if limit else ""
        parts = [
            f"memory {short(self.memory / GIB)}{of_limit} GiB per device",
            f"{short(self.flops_per_image / 1e9)} GFLOP per image",
        ]
        if self.seconds:
            parts.append(f"at most {short(self.images / self.seconds)} images/s per device")
        return ", ".join(parts)

    def _mean(self, of) -> float:
        """Over iterations: lazy phases by how often they run."""
        return sum(cost.runs * of(cost) for cost in self.phases.values())


def cost_of(compiled: jax.stages.Compiled, traced: jax.stages.Traced, runs: float) -> Cost:
    """What one run of a compiled program costs; `traced` is what it was compiled from.

    Raises ValueError for the text of a compiler that is newer than the reader.
    """
    text, memory = compiled.as_text(), compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Cost(
        runs=runs,
        flops=dict(flops.count(traced.jaxpr)),
        traffic=traffic(text),
        collectives=tuple(collectives(text)),
        held=memory.argument_size_in_bytes + results,
        temporary=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
    )


def short(number: float) -> str:
    """Three digits or more, never an exponent's: 0.0123, 4.57, 78.9, 1,234."""
    if number >= 100 or not number:
        return f"{number:,.0f}"
    return f"{number:.{max(0, 2 - math.floor(math.log10(number)))}f}"


def _sent(one: Collective) -> float:
    """Bytes that each device sends at least: a ring's share."""
    others = (one.group - 1) / one.group
    return one.bytes * {"all-reduce": 2 * others, "collective-permute": 1}.get(one.kind, others)
