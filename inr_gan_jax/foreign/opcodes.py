"""A pickle is a program; this machine follows one without being able to run anything.

`pickletools` parses the opcodes and never acts on them. What is left to do is a stack, a memo and
one decision: a name in the file stands for an entry of an allow-list, or the file is refused by
that name. Nothing is ever imported, and no object of ours takes an attribute from a file (unlike
under `pickle.Unpickler`, whose memo a few bytes can also make gigabytes large).
"""

import pickletools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inr_gan_jax.foreign.spans import Span, SpanFile

SMALL = 4096  # byte strings of so many bytes and more are not read
_CODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_LENGTHS = {"BINBYTES": pickletools.read_uint4, "BINBYTES8": pickletools.read_uint8}


class RefusedError(Exception):
    """The file asks for a class or function, `name`, that is not on the list."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


@dataclass(frozen=True)
class Name:
    """A class or function of the allow-list as a value: `module.name`, nothing behind it."""

    text: str


@dataclass(eq=False)
class Inert:
    """An object whose class only the file knows: its name, arguments and state; no behaviour."""

    name: str
    args: tuple = ()
    state: Any = None

    def __repr__(self) -> str:  # what a file nests can be endless
        return f"<{self.name}>"


class Machine:
    """Follows one pickle.

    `calls`: allowed functions -> what stands for them here, a function of positional arguments.
    `inert`: allowed classes, which become `Inert`. `persistent`: an object for a persistent id
    (none are allowed by default).
    """

    def __init__(
        self,
        calls: Mapping[str, Callable],
        inert: Collection[str],
        persistent: Callable[[Any], Any] | None = None,
    ):
        self._calls, self._inert, self._persistent = calls, inert, persistent
        self._stack: list = []
        self._marked: list[list] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: SpanFile) -> Any:
        """The value of the pickle at the position of a file (of a Span); leaves it behind its end.

        Raises RefusedError for a name that is not allowed; ValueError, TypeError, IndexError or
        KeyError for what is no pickle.
        """
        for name, argument in _opcodes(file):
            if name == "STOP":
                return self._stack.pop()
            if name in _CONSTANTS:
                self._push(_CONSTANTS[name]())
            elif name in _LITERALS:
                self._push(argument)
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise ValueError(f"opcode {name} has no place in a published file")
        raise AssertionError("opcodes end with STOP or an error")

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("the name of a class is no text")
        text = f"{module}.{name}"
        if text not in self._calls and text not in self._inert:
            raise RefusedError(text)
        self._push(Name(text))

    def _call(self, function: Any, args: Any) -> None:
        if not isinstance(function, Name) or not isinstance(args, tuple):
            raise ValueError("it calls what is no class or function")
        made = self._calls.get(function.text)
        self._push(made(*args) if made else Inert(function.text, args))

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _memoize(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def _pop_mark(self) -> list:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _mark(self, _) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _pop(self, _) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _global(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def _stack_global(self, _) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _reduce(self, _) -> None:
        args, function = self._stack.pop(), self._stack.pop()
        self._call(function, args)

    def _newobj_ex(self, _) -> None:
        if self._stack.pop():
            raise ValueError("an object has keyword arguments")
        self._reduce(None)

    def _inst(self, argument: str) -> None:
        args = tuple(self._pop_mark())
        self._global(argument)
        self._call(self._stack.pop(), args)

    def _obj(self, _) -> None:
        function, *args = self._pop_mark()
        self._call(function, tuple(args))

    def _build(self, _) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Inert):
            target.state = state
        elif not isinstance(target, dict):  # a mapping's attributes say nothing
            raise ValueError(f"it sets the state of a {type(target).__name__}")

    def _persid(self, pid: Any) -> None:
        if self._persistent is None:
            raise ValueError("it has a persistent id where none belongs")
        self._push(self._persistent(pid))

    def _extend(self, items: list) -> None:
        _only(self._stack[-1], list).extend(items)

    def _update(self, items: list) -> None:
        target = _only(self._stack[-1], dict)
        if len(items) % 2:
            raise ValueError("a mapping has a key without a value")
        target.update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _add_items(self, _) -> None:
        items = self._pop_mark()
        _only(self._stack[-1], set).update(map(_key, items))

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError("the stack is too short")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _dict(self, _) -> None:
        items = self._pop_mark()
        self._push({})
        self._update(items)


def _opcodes(file: SpanFile) -> Iterator[tuple[str, Any]]:
    """(name, argument) of each opcode; a long byte string is a `Span`, and stays in the file."""
    while True:
        opcode = _CODES.get(file.read(1).decode("latin-1"))
        if opcode is None:
            raise ValueError("it is no pickle, or it has no end")
        if opcode.name in _LENGTHS:
            yield opcode.name, _bytes(file, _LENGTHS[opcode.name](file))
        else:
            yield opcode.name, opcode.arg.reader(file) if opcode.arg else None


def _bytes(file: SpanFile, count: int) -> bytes | Span:
    if count < SMALL:
        found = file.read(count)
        if len(found) != count:
            raise ValueError("it ends in a byte string")
        return found
    here = file.tell()
    file.seek(here + count)
    return file.span.part(here, count)


def _only(target: Any, kind: type) -> Any:
    if type(target) is not kind:
        raise ValueError(f"a {type(target).__name__} is used as a {kind.__name__}")
    return target


def _key(value: Any) -> Any:
    """A key of a mapping or set: hashing deeply nested tuples would overflow the C stack."""
    if not isinstance(value, (str, bytes, int, float, Name, type(None))):
        raise ValueError(f"a {type(value).__name__} is used as a key")
    return value


_CONSTANTS = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_LITERALS = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    ]
)
_STEPS: dict[str, Callable[[Machine, Any], None]] = {
    "MARK": Machine._mark,
    "POP": Machine._pop,
    "POP_MARK": lambda m, _: m._pop_mark(),
    "DUP": lambda m, _: m._push(m._stack[-1]),
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._reduce,
    "NEWOBJ_EX": Machine._newobj_ex,
    "INST": Machine._inst,
    "OBJ": Machine._obj,
    "BUILD": Machine._build,
    "PERSID": Machine._persid,
    "BINPERSID": lambda m, _: m._persid(m._stack.pop()),
    "APPEND": lambda m, _: m._extend([m._stack.pop()]),
    "APPENDS": lambda m, _: m._extend(m._pop_mark()),
    "SETITEM": lambda m, _: m._update([m._stack.pop(-2), m._stack.pop()]),
    "SETITEMS": lambda m, _: m._update(m._pop_mark()),
    "ADDITEMS": Machine._add_items,
    "FROZENSET": lambda m, _: m._push(frozenset(map(_key, m._pop_mark()))),
    "TUPLE": lambda m, _: m._push(tuple(m._pop_mark())),
    "TUPLE1": lambda m, _: m._tuple(1),
    "TUPLE2": lambda m, _: m._tuple(2),
    "TUPLE3": lambda m, _: m._tuple(3),
    "LIST": lambda m, _: m._push(m._pop_mark()),
    "DICT": Machine._dict,
    "PUT": Machine._memoize,
    "BINPUT": Machine._memoize,
    "LONG_BINPUT": Machine._memoize,
    "MEMOIZE": Machine._memoize,
    "GET": lambda m, i: m._push(m._memo[i]),
    "BINGET": lambda m, i: m._push(m._memo[i]),
    "LONG_BINGET": lambda m, i: m._push(m._memo[i]),
}
