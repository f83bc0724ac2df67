"""Storages, tensors and NumPy arrays of a pickle, read when they are wanted.

Whatever a file claims about sizes is compared with the bytes that are there before anything is
allocated. Everything raises ValueError (or TypeError) for what does not fit.
"""

import itertools
import math
import re
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from inr_gan_jax.foreign.opcodes import Inert, Name
from inr_gan_jax.foreign.spans import Span

_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
# A class for each element type, on the CPU or on the GPU that wrote the file.
STORAGES = {
    f"{module}.{name}": np.dtype(code)
    for module, (name, code) in itertools.product(("torch", "torch.cuda"), _STORAGES.items())
}


@dataclass(eq=False)
class Storage:
    """`count` elements of `dtype`: `span` is where their bytes lie, `crc` what these add up to."""

    dtype: np.dtype
    count: int
    span: Span | None = None
    crc: int | None = None
    whole: "Storage | None" = None  # of which this one is a part, from element `first` on
    first: int = 0

    @property
    def nbytes(self) -> int:
        """The size of the elements in bytes."""
        return self.count * self.dtype.itemsize

    def part(self, first: int, count: int) -> "Storage":
        """Some of the elements."""
        if type(first) is not int or type(count) is not int or first < 0 or count < 0:
            raise ValueError("a part of a storage has no size")
        if first + count > self.count:
            raise ValueError("a part of a storage is larger than the whole")
        return Storage(self.dtype, count, whole=self, first=first)

    def read(self, first: int, count: int) -> np.ndarray:
        """Elements, flat; ValueError where they are not what was written."""
        if self.whole is not None:
            return self.whole.read(self.first + first, count)
        if self.span is None or len(self.span) != self.nbytes:
            raise ValueError("a storage has another size than its tensors say")
        if self.crc is not None:
            if self.span.crc32() != self.crc:
                raise ValueError("a storage is damaged: its checksum is another")
            self.crc = None  # once is enough
        size = self.dtype.itemsize
        bits = _aligned(count * size)
        self.span.part(first * size, count * size).into(bits)
        if self.dtype.kind == "b":  # other bytes than 0 and 1 are true, too
            return bits != 0
        return bits.view(self.dtype)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A strided view of a storage; `np.asarray` reads it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """That of the elements."""
        return self.storage.dtype

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def __repr__(self) -> str:
        return f"<an array {list(self.shape)}>"

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if not self.size:
            array = np.zeros(self.shape, self.dtype)
        else:
            last = sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
            flat = self.storage.read(self.offset, last + 1)
            strides = [step * flat.itemsize for step in self.stride]
            array = np.lib.stride_tricks.as_strided(flat, self.shape, strides)
        return array if dtype is None else array.astype(dtype, copy=False)


def _aligned(count: int) -> np.ndarray:
    """Bytes that begin where jax takes an array over without a copy."""
    whole = np.empty(count + 64, np.uint8)
    start = -whole.ctypes.data % 64
    return whole[start : start + count]


def storage_of(pid: Any) -> tuple[Any, Storage, Any]:
    """A persistent id -> (key, storage whose place is not known yet, view or None)."""
    kind, storage, key, _, count, *view = pid
    if kind != "storage" or not isinstance(storage, Name) or storage.text not in STORAGES:
        raise ValueError("it has a persistent id that is no storage")
    if type(count) is not int or count < 0 or not isinstance(key, (str, int)):
        raise ValueError("a storage has no size")
    return key, Storage(STORAGES[storage.text], count), view[0] if view else None


def tensor(storage: Any, offset: Any, size: Any, stride: Any, *_) -> Tensor:
    """A strided view of a flat `storage`; gradients, hooks and metadata are dropped."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    size, stride = tuple(size), tuple(stride)
    for n in (offset, *size, *stride):
        if type(n) is not int or n < 0:
            raise ValueError("a tensor's size, stride or offset is no natural number")
    if len(size) != len(stride) or len(size) > 32:
        raise ValueError("a tensor's size and stride do not match")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > storage.count or (count and last >= storage.count):
        raise ValueError(f"a tensor of size {size} claims more than its storage holds")
    return Tensor(storage, offset, size, stride)


def parameter(data: Any, *_) -> Tensor:
    """A parameter is its tensor."""
    if not isinstance(data, Tensor):
        raise ValueError("a parameter has no tensor")
    return data


def dtype_of(described: Any) -> np.dtype:
    """What the pickle of a numpy.dtype describes: plain numbers only, never Python objects."""
    code = described.args[0] if isinstance(described, Inert) and described.args else None
    if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
        raise ValueError(f"numpy data of type {code!r} is refused: plain numbers only")
    state = described.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
    return np.dtype(code).newbyteorder(order if order in ("<", ">") else "=")


def scalar(described: Any, data: Any = b"") -> int | float | bool:
    """A numpy scalar -> the Python number."""
    dtype = dtype_of(described)
    if not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise ValueError("a numpy number has another size")
    return np.frombuffer(data, dtype)[0].item()


def array(state: Any) -> np.ndarray:
    """The state that a pickle gives to a numpy.ndarray -> that array."""
    _, shape, described, fortran, data = state
    dtype = dtype_of(described)
    if isinstance(data, Span):
        data = data.bytes()
    if not isinstance(data, bytes):
        raise ValueError("a numpy array is no plain data")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
