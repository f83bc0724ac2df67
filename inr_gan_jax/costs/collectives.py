"""What the devices of a compiled program exchange, read from its HLO text."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from inr_gan_jax.costs.hlo import Instruction, bits, called, computations, known_length, named

KINDS = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all",
    "collective-permute", "collective-broadcast",
)  # fmt: skip

Shape = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Collective:
    """One exchange among groups of `group` devices; a permutation's groups are its pairs.

    `shapes` are dtype and shape of each array of its result, tuples flattened. `bytes` is one
    execution's payload on each device: of an all-gather its result, of a reduce-scatter its input,
    of all others their arrays. A run of the program executes it `times` times.
    """

    kind: str
    shapes: tuple[Shape, ...]
    bytes: int
    times: int
    group: int


def collectives(text: str) -> list[Collective]:
    """All exchanges of a compiled program, given as `compiled.as_text()` (CPU, GPU or TPU).

    An asynchronous one counts where it starts; each branch of a conditional as if it were taken; a
    reduce-scatter that is written as an all-reduce and a slice (TPUs: small arrays) as the former.
    Raises ValueError for a loop around a collective whose number of iterations the text does not
    say, and for text that is no HLO module.
    """
    program = _Program(text)
    return list(program.exchanges(program.entry, 1))


class _Program:
    def __init__(self, text: str):
        self.computations, self.entry = computations(text)
        # Groups that are not written out are of all devices.
        sizes = re.findall(r"\b(?:replica_count|num_partitions)=(\d+)", text.split("\n", 1)[0])
        self.devices = math.prod(map(int, sizes))
        # A TPU computes while it exchanges: the steps of one exchange stand in several fusions,
        # each of which names all of it, and the chain that it is a link of.
        self.chains = set()

    def exchanges(self, name: str, times: int) -> Iterator[Collective]:
        """Of a computation that is executed so often."""
        for one in self.computations[name]:
            kind = one.opcode.removesuffix("-start")
            if kind in KINDS:
                chain = re.search(r"\bchain_id=\"?(\d+)", one.rest)
                if not chain or chain[1] not in self.chains:
                    yield _collective(one, kind, times, self.devices)
                self.chains |= {chain[1]} if chain else set()
            elif one.opcode == "while":
                yield from self._of_loop(one, times)
            elif not one.opcode.endswith(("-update", "-done")):  # of what counted at its start
                for name in called(one.rest):
                    yield from self.exchanges(name, times)

    def _of_loop(self, loop: Instruction, times: int) -> Iterator[Collective]:
        count = known_length(loop)
        iterations = 1 if count is None else count
        # A condition is evaluated once more than the body that it allows.
        for part, runs in ("body", iterations), ("condition", iterations + 1):
            for found in self.exchanges(named(part, loop), times * runs):
                if count is None:
                    raise ValueError(
                        f"the loop {loop.name} exchanges data ({found.kind}) in a number of "
                        "iterations that the program does not say (known_trip_count)"
                    )
                yield found


def _collective(one: Instruction, kind: str, times: int, devices: int) -> Collective:
    result, group = one.type, _group(one, devices)
    if one.opcode.endswith("-start"):
        parts = _parts(result)
        # (input, result, ...); of all-reduce-start the result alone, unless it is a generic pair.
        if kind != "all-reduce" or (parts and parts[0].startswith("(")):
            result = parts[1]
    shapes = tuple(
        (dtype, tuple(int(n) for n in re.findall(r"\d+", shape)))
        for dtype, shape in re.findall(r"\b([a-z]\w*)\[([\d,<=]*)\]", result)
    )
    size = sum(math.ceil(bits(dtype) * math.prod(shape) / 8) for dtype, shape in shapes)
    size *= group if kind == "reduce-scatter" else 1
    return Collective(kind, shapes, size, times, group)


def _parts(tuple_type: str) -> list[str]:
    """Types of the elements of a tuple; of another type none."""
    if not tuple_type.startswith("("):
        return []
    parts, depth = [""], 0
    for letter in re.sub(r"/\*.*?\*/", "", tuple_type[1:-1]):
        depth += (letter in "({[") - (letter in ")}]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _group(one: Instruction, devices: int) -> int:
    if one.opcode.startswith("collective-permute"):
        return 2
    # Named: mesh['data'=4,'fsdp'=2] {'data'}, or a part of an axis: {'data':(1)2}.
    if named := re.search(r"\breplica_groups=@?mesh\w*\[([^\]]*)\][^{]*\{([^}]*)\}", one.rest):
        lengths = dict(re.findall(r"'?(\w+)'?=(\d+)", named[1]))
        axes = re.findall(r"'?(\w+)'?(?::\(\d+\)(\d+))?(?:,|$)", named[2])
        return math.prod(int(part or lengths[axis]) for axis, part in axes)
    groups = re.search(r"\breplica_groups=(\{\{[\d,]*\}|\[[\d,]*\]<=|\{\})", one.rest)
    if not groups:
        if "replica_groups=" not in one.rest:
            return devices
        raise ValueError(f"the groups of {one.name} are written in an unknown way: {one.rest}")
    numbers = re.findall(r"\d+", groups[1])
    if groups[1].startswith("["):
        return int(numbers[1])
    return len(numbers) or devices
