"""What training costs: read from the compiled program of each phase, none of which is run.

Memory and exchanged bytes are what the compiler laid out. Operations are counted (see flops), bytes
moved are estimated (see traffic). From these follows a bound on a phase's time: its products at the
device's peak, its bytes at the bandwidth of memory and links, whichever takes longest. It is never
shorter; how long it is, is known when it runs.
"""

import math
from dataclasses import dataclass

from inr_gan_jax.doctor import flops
from inr_gan_jax.doctor.collectives import Collective, collectives
from inr_gan_jax.doctor.hardware import GIB, Hardware, hardware
from inr_gan_jax.doctor.traffic import Traffic, traffic
from inr_gan_jax.train.recipe import Phase
from inr_gan_jax.train.trainer import Trainer


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

    def _mean(self, of) -> float:
        """Over iterations: lazy phases by how often they run."""
        return sum(cost.runs * of(cost) for cost in self.phases.values())


def program_of(trainer: Trainer, refused: dict[str, int] | None = None) -> Program:
    """What a trainer's compiled phases (see Trainer.compile) cost."""
    mesh = trainer.mesh
    return Program(
        {phase.name.lower(): _cost(trainer, phase) for phase in sorted(trainer.compiled)},
        refused or {},
        mesh.size,
        trainer.config.train.batch_size // mesh.size,
        hardware(mesh.local_devices[0] if mesh.local_devices else mesh.devices.flat[0]),
    )


def summary(trainer: Trainer) -> str:
    """One line before a compiled trainer starts: memory and operations, and what they allow."""
    try:
        program = program_of(trainer)
    except ValueError as error:  # of a compiler whose text is new: no reason not to train
        return f"what this costs could not be read: {error}"[:300]
    limit = program.hardware.memory
    of_limit = f" of {limit / GIB:.1f}" if limit else ""
    parts = [
        f"memory {short(program.memory / GIB)}{of_limit} GiB per device",
        f"{short(program.flops_per_image / 1e9)} GFLOP per image",
    ]
    if program.seconds:
        parts.append(f"at most {short(program.images / program.seconds)} images/s per device")
    return ", ".join(parts)


def short(number: float) -> str:
    """Three digits or more, never an exponent's: 0.0123, 4.57, 78.9, 1,234."""
    if number >= 100 or not number:
        return f"{number:,.0f}"
    return f"{number:.{max(0, 2 - math.floor(math.log10(number)))}f}"


def _cost(trainer: Trainer, phase: Phase) -> Cost:
    compiled = trainer.compiled[phase]
    text, memory = compiled.as_text(), compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Cost(
        runs=_runs(trainer, phase),
        flops=dict(flops.count(trainer.traced[phase].jaxpr)),
        traffic=traffic(text),
        collectives=tuple(collectives(text)),
        held=memory.argument_size_in_bytes + results,
        temporary=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
    )


def _runs(trainer: Trainer, phase: Phase) -> float:
    recipe = trainer.steps.recipe
    interval = {Phase.G_PATH: recipe.path_interval, Phase.D_R1: recipe.r1_interval}
    return 1 / interval.get(phase, 1)


def _sent(one: Collective) -> float:
    """Bytes that each device sends at least: a ring's share."""
    others = (one.group - 1) / one.group
    return one.bytes * {"all-reduce": 2 * others, "collective-permute": 1}.get(one.kind, others)
