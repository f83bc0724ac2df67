"""What a compiled program moves through its device's memory, read from its HLO text.

Every operation that runs by itself (a fusion is one) reads its operands and writes its results;
what lies in a nearer memory (`S(1)` in a TPU's layouts: its vector memory) is no traffic. An
operation that takes a part of an array reads that part. This is an estimate: caches that hardware
manages and the padding of tiled layouts are not seen, and a loop that ends when its values say so
counts once.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inr_gan_jax.costs.hlo import Instruction, bits, called, computations, known_length, named

_NOTHING = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier",
}  # fmt: skip
_PARTIAL = {"slice", "dynamic-slice", "gather"}


@dataclass(frozen=True)
class Traffic:
    """Bytes moved, and the cycles that a TPU's compiler expects.

    `near`: bytes that only pass a nearer memory, which are no part of `bytes`. Cycles are 0 where
    this compiler does not say, None where part of the program are kernels, of which none knows.
    """

    bytes: int
    cycles: int | None
    near: int = 0


def traffic(text: str) -> Traffic:
    """Of a compiled program, `compiled.as_text()`; a loop's body counts as often as it runs.

    Raises ValueError for text that is no HLO module.
    """
    program, entry = computations(text)
    moved, near, cycles, kernels = 0, 0, 0, False
    for instruction, types, times in _executed(entry, 1, program):
        moved += times * _moved(instruction, types, program)
        near += times * _moved(instruction, types, program, _near)
        expected = re.search(r'"estimated_cycles":"(\d+)"', instruction.rest)
        cycles += times * int(expected[1]) if expected else 0
        kernels |= _told_bytes(instruction) is not None
    return Traffic(moved, None if kernels else cycles, near)


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


def _far(type_: str) -> int:
    """Bytes of those of its arrays that lie in the device's main memory."""
    return sum(size for layout, size in _arrays(type_) if not re.search(r"S\([1-9]", layout))


def _near(type_: str) -> int:
    """Bytes of those that lie in a nearer one."""
    return _size(type_) - _far(type_)


def _moved(one: Instruction, types: dict[str, str], program: dict, of: Callable = _far) -> int:
    """Bytes of what an operation reads and writes; `of` a type: in the memory that is meant."""
    written = of(one.type)
    if one.opcode in ("copy-start", "slice-start"):  # between memories: what leaves or enters one
        return min(size for _, size in _arrays(one.type)[:2]) if of is _far else 0
    if one.opcode in _PARTIAL:
        return 2 * written
    if (told := _told_bytes(one)) is not None and of is _far:
        return told
    if 'custom_call_target="AllocateBuffer"' in one.rest:
        return 0
    if one.opcode == "dynamic-update-slice":  # in place
        return 2 * of(types[_operands(one)[1]])
    read = [of(types[name]) for name in _operands(one)]
    if one.opcode == "fusion":
        inside = _Fused(called(one.rest)[0], program)
        read = [min(n, inside.read(number)) for number, n in enumerate(read)]
        written = min(written, inside.written())
    return written + sum(read)


def _operands(one: Instruction) -> list[str]:
    return re.findall(r"[\w.$-]+", re.sub(r"/\*.*?\*/", "", one.rest[: one.rest.index(")")]))


class _Fused:
    """The computation of a fusion: what it reads and writes of arrays that it takes in part."""

    def __init__(self, name: str, program: dict):
        instructions, self.program = program[name], program
        self.types = {one.name: one.type for one in instructions}
        self.by_name = {one.name: one for one in instructions}
        self.parameters, self.users = {}, {}
        for one in instructions:
            if one.opcode == "parameter":
                self.parameters[int(one.rest[: one.rest.index(")")])] = one.name
            elif one.opcode != "constant":
                for place, name in enumerate(_operands(one)):
                    self.users.setdefault(name, []).append((one, place))
        self.root = [one for one in instructions if one.name not in self.users][-1]

    def read(self, number: int) -> int | float:
        """Bytes of a parameter: of what it takes of it, if it never takes all (then inf)."""
        return self._read(self.parameters[number])

    def _read(self, name: str) -> int | float:
        total = 0
        for one, place in self.users.get(name, ()):
            if _is_alias(one):
                total += self._read(one.name)
            elif one.opcode == "fusion":
                total += _Fused(called(one.rest)[0], self.program).read(place)
            elif one.opcode in _PARTIAL and place == 0:
                total += _size(one.type)
            elif one.opcode != "dynamic-update-slice" or place:  # that one writes in place
                return math.inf
        return total

    def written(self) -> int | float:
        """Bytes of its result: of an array that is changed in place, the change."""
        names = _operands(self.root) if self.root.opcode == "tuple" else [self.root.name]
        return sum(map(self._written, names))

    def _written(self, name: str) -> int:
        one = self.by_name[name]
        while _is_alias(one):
            one = self.by_name[_operands(one)[0]]
        if one.opcode == "fusion":
            return _Fused(called(one.rest)[0], self.program).written()
        changed = one.opcode == "dynamic-update-slice"
        return _size(self.types[_operands(one)[1]] if changed else one.type)


def _is_alias(one: Instruction) -> bool:
    """Whether its result is its operand, by another name."""
    return one.opcode == "bitcast" or "output_to_operand_aliasing" in one.rest


def _told_bytes(one: Instruction) -> int | None:
    """What a kernel of our own says that it moves."""
    told = re.search(r'"bytes_accessed":"(\d+)"', one.rest)
    return int(told[1]) if told else None


def _size(type_: str) -> int:
    """Bytes of its arrays, wherever they lie."""
    return sum(size for _, size in _arrays(type_))


def _arrays(type_: str) -> list[tuple[str, int]]:
    """(layout, bytes) of each array of a type, tuples flattened."""
    found = re.findall(r"\b([a-z]\w*)\[([\d,<=]*)\]((?:\{[^{}]*\})?)", type_)
    return [
        (layout, bits(dtype) * math.prod(map(int, re.findall(r"\d+", shape))) // 8)
        for dtype, shape, layout in found
    ]
