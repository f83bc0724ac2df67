"""Storages, tensors and NumPy arrays of a pickle -> read-only NumPy arrays.

Whatever a file claims about sizes is compared with the bytes that are there before anything is
allocated. Everything raises ValueError (or TypeError) for what does not fit.
"""

import itertools
import math
import re
from typing import Any

import ml_dtypes
import numpy as np

from inr_gan_jax.foreign.opcodes import Inert, Name

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


def storage_of(pid: Any) -> tuple[Any, np.dtype, int, Any]:
    """A persistent id -> (key, element type, number of elements, view or None)."""
    kind, storage, key, _, count, *view = pid
    if kind != "storage" or not isinstance(storage, Name) or storage.text not in STORAGES:
        raise ValueError("it has a persistent id that is no storage")
    if type(count) is not int or count < 0 or not isinstance(key, (str, int)):
        raise ValueError("a storage has no size")
    return key, STORAGES[storage.text], count, view[0] if view else None


def elements(data: bytes, dtype: np.dtype) -> np.ndarray:
    """All of `data` as a flat array; other bytes than 0 and 1 are true, too."""
    if dtype.kind == "b":
        return np.frombuffer(data, np.uint8) != 0
    return np.frombuffer(data, dtype)


def tensor(storage: Any, offset: Any, size: Any, stride: Any, *_) -> np.ndarray:
    """A strided view of a flat `storage`; gradients, hooks and metadata are dropped."""
    if not isinstance(storage, np.ndarray) or storage.ndim != 1:
        raise ValueError("a tensor has no storage")
    size, stride = tuple(size), tuple(stride)
    for n in (offset, *size, *stride):
        if type(n) is not int or n < 0:
            raise ValueError("a tensor's size, stride or offset is no natural number")
    if len(size) != len(stride) or len(size) > 32:
        raise ValueError("a tensor's size and stride do not match")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > storage.size or (count and last >= storage.size):
        raise ValueError(f"a tensor of size {size} claims more than its storage holds")
    if not count:
        return np.broadcast_to(np.zeros((), storage.dtype), size)
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)


def parameter(data: Any, *_) -> np.ndarray:
    """A parameter is its tensor."""
    if not isinstance(data, np.ndarray):
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
    if not isinstance(data, bytes):
        raise ValueError("a numpy array is no plain data")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
