"""What training costs, for people to read and as plain values for JSON."""

import dataclasses

from inr_gan_jax.costs.hardware import GIB
from inr_gan_jax.costs.program import Program, short
from inr_gan_jax.doctor.fit import Job

LEGEND = {
    "runs": "per iteration",
    "GiB": "memory of each device that the phase takes, as compiled",
    "GFLOP": "products and convolutions of each device, counted",
    "MB": "payload of each device's exchanges, as compiled",
    "GB moved": "between each device and its memory, estimated from the compiled program",
    "at least ms": "the longest of products at peak, memory and links at their bandwidth",
    "expected ms": "by the schedule of the TPU's compiler",
}


def text(job: Job, program: Program) -> str:
    """A table of phases, what its columns are, and what the phases add up to."""
    train, mesh, device = job.config.train, job.config.mesh, job.devices[0]
    title = (
        f"{program.devices} x {device.device_kind}, batch {train.batch_size}: {program.images} "
        f"images per device, {train.microbatches} microbatch(es), fsdp {mesh.fsdp}, {job.dtype}, "
        f"kernels {job.kernels}"
    )
    columns = {"phase": list(program.phases)} | _columns(program)
    cells = [[name, *column] for name, column in columns.items()]
    aligned = [[cell.rjust(max(map(len, column))) for cell in column] for column in cells]
    aligned[0] = [name.ljust(max(map(len, cells[0]))) for name in cells[0]]
    lines = map("  ".join, zip(*aligned, strict=True))
    legend = [
        f"{name}: {told}"
        for name, told in LEGEND.items()
        if any(column.startswith(name) for column in columns)
    ]
    return "\n".join([title, "", *lines, "", *legend, "", *_totals(program)])


def values(job: Job, program: Program) -> dict:
    """The same numbers; bytes, operations, seconds."""
    phases = {}
    for name, cost in program.phases.items():
        phases[name] = dataclasses.asdict(cost) | {"exchanged": cost.exchanged}
        del phases[name]["collectives"]  # every shape
        if program.hardware.bf16:
            phases[name]["limits"] = cost.limits(program.hardware)
    return {
        "device": job.devices[0].device_kind,
        "devices": program.devices,
        "batch_size": job.config.train.batch_size,
        "microbatches": job.config.train.microbatches,
        "fsdp": job.config.mesh.fsdp,
        "dtype": job.dtype,
        "kernels": job.kernels,
        "hardware": dataclasses.asdict(program.hardware),
        "phases": phases,
        "refused": program.refused,
        "memory": program.memory,
        "fits": program.fits,
        "flops_per_image": program.flops_per_image,
        "seconds_at_least": program.seconds,
        "seconds_expected": program.expected_seconds,
    }


def _columns(program: Program) -> dict[str, list[str]]:
    """Cells by heading, one for each phase; of an unknown device less can be said."""
    costs, device = program.phases.values(), program.hardware
    kinds = sorted({kind for cost in costs for kind in cost.exchanged})
    columns = {
        "runs": [f"1/{round(1 / cost.runs)}" if cost.runs < 1 else "1" for cost in costs],
        "GiB": [short((cost.held + cost.temporary) / GIB) for cost in costs],
        "GFLOP": [short(sum(cost.flops.values()) / 1e9) for cost in costs],
    }
    for kind in kinds:
        columns[f"MB {kind}"] = [short(cost.exchanged.get(kind, 0) / 1e6) for cost in costs]
    if device.bf16:
        limits = [cost.limits(device) for cost in costs]
        columns["GB moved"] = [short(cost.traffic.bytes / 1e9) for cost in costs]
        columns["at least ms"] = [short(max(one.values()) * 1e3) for one in limits]
        columns["limit"] = [max(one, key=one.get) for one in limits]
    if device.clock:
        cycles = [cost.traffic.cycles for cost in costs]
        columns["expected ms"] = [
            "not known" if n is None else short(n / device.clock * 1e3) for n in cycles
        ]
    return columns


def _totals(program: Program) -> list[str]:
    limit, costs = program.hardware.memory, program.phases.values()
    of_limit = f" of {limit / GIB:.2f}" if limit else ""
    held = short(max(cost.held for cost in costs) / GIB)
    code = short(sum(cost.code for cost in costs) / GIB)
    lines = [
        f"memory per device: {short(program.memory / GIB)}{of_limit} GiB "
        f"(of which train state and batch {held}, programs {code})"
    ]
    for name, needed in program.refused.items():
        lines.append(f"{name} needs {needed / GIB:.2f} GiB and was not compiled")
    if not program.refused:
        lines.append(f"work per image: {short(program.flops_per_image / 1e9)} GFLOP")
        if program.seconds:
            lines.append("speed: at most " + _speed(program, program.seconds))
        if program.expected_seconds:
            lines.append("speed: expected " + _speed(program, program.expected_seconds))
    if limit:
        lines.append("it fits" if program.fits else "it does not fit")
    return lines


def _speed(program: Program, seconds: float) -> str:
    each = program.images / seconds
    return f"{short(each)} images/s per device, {short(each * program.devices)} in all"
