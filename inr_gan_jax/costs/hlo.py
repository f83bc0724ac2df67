"""The text of a compiled program (an HLO module, `compiled.as_text()`), taken apart."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    type: str
    opcode: str
    rest: str  # operands and attributes


def computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """(computations by name, name of the one that is the program)."""
    computations, entry, current = {}, None, None
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.$-]+) (?:\(.*)?\{$", line)
        if header:
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif match := re.match(r"\s+(?:ROOT )?%?([\w.$-]+) = (.*)", line):
            end = _end_of_type(match[2])
            operation = re.match(r" ([\w-]+)\((.*)", match[2][end:])
            current.append(Instruction(match[1], match[2][:end], *operation.groups()))
    if entry is None:
        raise ValueError("this is not the text of an HLO module: it has no ENTRY computation")
    return computations, entry


def _end_of_type(text: str) -> int:
    """Where the type ends that a text begins with: `f32[8]{0:T(128)}`, or a tuple of such."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter in "({[") - (letter in ")}]")
        if letter == " " and not depth:
            return place
    raise ValueError(f"no operation follows the type in {text!r}")


def called(attributes: str) -> list[str]:
    """Names of the computations that an instruction runs."""
    lists = re.findall(
        r"\b(?:calls|to_apply|called_computations|branch_computations|\w+_computation)="
        r"(\{[^}]*\}|%?[\w.$-]+)",
        attributes,
    )
    return [name for names in lists for name in re.findall(r"[\w.$-]+", names)]


def named(part: str, loop: Instruction) -> str:
    """The computation that is a loop's `body` or `condition`."""
    return re.search(rf"\b{part}=%?([\w.$-]+)", loop.rest)[1]


def known_length(loop: Instruction) -> int | None:
    """How often a loop runs, where the text says it."""
    count = re.search(r'known_trip_count\\?":\s*\{\\?"n\\?":\s*\\?"?(\d+)', loop.rest)
    return int(count[1]) if count else None


def bits(dtype: str) -> int:
    """Of `f32`, `bf16`, `f8e4m3fn`, `s4`, `c64`; a truth value takes a byte, a token nothing."""
    number = re.search(r"\d+", dtype)
    return int(number[0]) if number else {"pred": 8, "token": 0}[dtype]
