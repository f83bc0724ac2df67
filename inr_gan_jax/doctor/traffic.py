"""What a compiled program moves through its device's memory, read from its HLO text.

Every operation that runs by itself (a fusion is one) reads its operands and writes its results;
what lies in a nearer memory (`S(1)` in a TPU's layouts: its vector memory) is no traffic. An
operation that takes a part of an array reads that part. This is an estimate: caches that hardware
manages and the padding of tiled layouts are not seen, and a loop that ends when its values say so
counts once.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from inr_gan_jax.doctor.hlo import Instruction, bits, called, computations, known_length, named

_NOTHING = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier",
}  # fmt: skip
_PARTIAL = {"slice", "dynamic-slice", "gather"}


@dataclass(frozen=True)
class Traffic:
    """Bytes moved, and the cycles that a TPU's compiler expects (0: this compiler does not say)."""

    bytes: int
    cycles: int


def traffic(text: str) -> Traffic:
    """Of a compiled program, `compiled.as_text()`; a loop's body counts as often as it runs.

    Raises ValueError for text that is no HLO module.
    """
    program, entry = computations(text)
    moved = cycles = 0
    for instruction, types, times in _executed(entry, 1, program):
        moved += times * _moved(instruction, types)
        expected = re.search(r'"estimated_cycles":"(\d+)"', instruction.rest)
        cycles += times * int(expected[1]) if expected else 0
    return Traffic(moved, cycles)


def _executed(name: str, times: int, program: dict) -> Iterator[tuple[Instruction, dict, int]]:
    """(instruction, types by name, how often it runs) of all that run by themselves."""
    types = {one.name: one.type for one in program[name]}
    for one in program[name]:
        if one.opcode == "while":
            body, condition = (named(part, one) for part in ("body", "condition"))
            length = _length(one, program[condition])
            yield from _executed(body, times * length, program)
        elif one.opcode in ("call", "conditional", "async-start"):
            for inner in called(one.rest):
                yield from _executed(inner, times, program)
        elif one.opcode not in _NOTHING and not one.opcode.endswith(("-done", "-update")):
            yield one, types, times


def _length(loop: Instruction, condition: list[Instruction]) -> int:
    """As the text says it; on a TPU it does not, but `scan` counts from 0 to below a constant."""
    known = known_length(loop)
    if known is not None:
        return known
    limits = [one.rest for one in condition if one.opcode == "constant"]
    compared = [one for one in condition if one.opcode == "compare"]
    if len(limits) != 1 or len(compared) != 1 or "direction=LT" not in compared[0].rest:
        return 1
    return int(re.match(r"\d+", limits[0])[0])


def _moved(one: Instruction, types: dict[str, str]) -> int:
    written = _far(one.type)
    if one.opcode in ("copy-start", "slice-start"):  # between memories: what leaves or enters one
        return min(size for _, size in _arrays(one.type)[:2])
    if one.opcode in _PARTIAL:
        return 2 * written
    if known := re.search(r'"bytes_accessed":"(\d+)"', one.rest):  # a kernel that says it itself
        return int(known[1])
    operands = re.sub(r"/\*.*?\*/", "", one.rest[: one.rest.index(")")])
    return written + sum(_far(types[name]) for name in re.findall(r"[\w.$-]+", operands))


def _far(type_: str) -> int:
    """Bytes of those of its arrays that lie in the device's main memory."""
    return sum(size for layout, size in _arrays(type_) if not re.search(r"S\([1-9]", layout))


def _arrays(type_: str) -> list[tuple[str, int]]:
    """(layout, bytes) of each array of a type, tuples flattened."""
    found = re.findall(r"\b([a-z]\w*)\[([\d,<=]*)\]((?:\{[^{}]*\})?)", type_)
    return [
        (layout, bits(dtype) * math.prod(map(int, re.findall(r"\d+", shape))) // 8)
        for dtype, shape, layout in found
    ]
