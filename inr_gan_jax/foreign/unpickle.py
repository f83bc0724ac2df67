"""Opens files that PyTorch wrote, without PyTorch and without running anything in them.

Released checkpoints are plain pickles whose storages are byte strings in PyTorch's legacy format,
that is, pickles again; detector weights (`.pth`) are legacy files or zip archives of a pickle and
its storages. All of these pickles go through one `Machine` and one allow-list, the one below.
"""

import contextlib
import re
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign import spans, tensors
from inr_gan_jax.foreign.opcodes import Inert, Machine, RefusedError
from inr_gan_jax.foreign.plain import Plain
from inr_gan_jax.foreign.spans import Span, SpanFile
from inr_gan_jax.foreign.tensors import Storage, Tensor

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of PyTorch's legacy files
_NESTING = 3  # storages are one pickle deep
_ZIP_HEADER = "<4s22xHH"  # of a file in an archive: its mark; lengths of its name and of the rest
_LEAVES = ("AnyNode", "BooleanNode", "EnumNode", "FloatNode", "IntegerNode", "StringNode")
_INERT = frozenset(
    [
        *tensors.STORAGES,
        *(f"torch.nn.modules.container.{n}" for n in ("ModuleList", "ModuleDict", "Sequential")),
        *(f"omegaconf.nodes.{name}" for name in _LEAVES),
        "omegaconf.base.ContainerMetadata",
        "omegaconf.base.Metadata",
        "argparse.Namespace",
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.listconfig.ListConfig",
        *(f"typing.{name}" for name in ("Any", "Dict", "List", "Optional", "Tuple", "Union")),
        *(f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "str", "tuple")),
        "numpy.dtype",
        "numpy.ndarray",
    ]
)
# What a damaged or foreign file makes the code below raise; UserError and RefusedError are not
# among them.
DAMAGE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError),
    *(TypeError, ValueError, struct.error, zipfile.BadZipFile),
)


class Refused(UserError):
    """A file that asks for a class or function, `name`, that is not on the list."""

    def __init__(self, message: str, name: str):
        super().__init__(message)
        self.name = name


@contextlib.contextmanager
def opened(path: epath.PathLike) -> Iterator[Any]:
    """The content of a `.pkl`, `.pt` or `.pth` file as data, while the file is open.

    Tensors and parameters are `Tensor`s: they stay in the file until `np.asarray` reads them. NumPy
    arrays are arrays, mappings are dicts; configuration objects are plain dicts, lists and values;
    networks are `Inert` objects of which `state` holds `_parameters`, `_buffers`, `_modules`,
    `_init_args` and `_init_kwargs`.

    Raises UserError, one line, also for what the body meets: no such file, a damaged or foreign
    one, or one that asks for a class that is not on the list, which it names.
    """
    path = epath.Path(path)
    try:
        with spans.opened(path) as span:
            reader = _Reader(len(span))
            yield Plain(reader.spend).convert(reader.load(span))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except RefusedError as error:
        raise Refused(
            f"{path} is refused: it asks for {printable(error.name)}, which has no place in a "
            "published checkpoint; nothing in the file was run",
            error.name,
        ) from None
    except DAMAGE as error:
        reason = printable(str(error) or type(error).__name__)
        raise UserError(f"{path} is no whole PyTorch checkpoint: {reason}") from None


def read(path: epath.PathLike) -> Any:
    """The same with every tensor read: a read-only array."""
    with opened(path) as content:
        return _read_all(content, {})


def _read_all(value: Any, done: dict[int, Any]) -> Any:
    """`value` with arrays in place of tensors; what is shared stays shared."""
    if isinstance(value, Tensor):
        array = np.asarray(value)
        array.flags.writeable = False
        return array
    if not isinstance(value, (dict, list, tuple, Inert)) or id(value) in done:
        return done.get(id(value), value)
    done[id(value)] = value
    if isinstance(value, dict):
        for key, child in value.items():
            value[key] = _read_all(child, done)
    elif isinstance(value, list):
        value[:] = [_read_all(child, done) for child in value]
    elif isinstance(value, tuple):
        done[id(value)] = value = tuple(_read_all(child, done) for child in value)
    else:
        value.args, value.state = _read_all(value.args, done), _read_all(value.state, done)
    return value


def read_weights(path: epath.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a `.pth` file by name; UserError if it is no dictionary of tensors."""
    weights = read(path)
    if not isinstance(weights, dict) or not weights:
        raise UserError(f"{path} holds no dictionary of weights")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise UserError(f"{path}: {printable(str(name))} is no tensor")
    return weights


def state_dict(network: Inert) -> dict[str, Tensor]:
    """All parameters and buffers of a network by dotted name; ValueError if it has no such thing.

    A module stands in one place: one inside itself, or in many places, is refused.
    """
    arrays: dict[str, Tensor] = {}
    seen: set[int] = set()

    def collect(module: Any, prefix: str) -> None:
        state = module.state if isinstance(module, Inert) else None
        if not isinstance(state, dict) or id(module) in seen:
            what = "is no network" if id(module) not in seen else "stands in two places"
            raise ValueError(f"{printable(prefix.removesuffix('.')) or 'it'} {what}")
        seen.add(id(module))
        for kind in ("_parameters", "_buffers"):
            for name, value in state.get(kind, {}).items():
                if isinstance(value, (Tensor, np.ndarray)):
                    arrays[f"{prefix}{name}"] = value
        for name, child in state.get("_modules", {}).items():
            if child is not None:
                collect(child, f"{prefix}{name}.")

    collect(network, "")
    return arrays


class _Reader:
    """One file's containers: which bytes are a pickle, and where its storages lie."""

    def __init__(self, size: int):
        self._budget = size * _NESTING  # bytes that may become storages, or pickles in pickles
        self._depth = 0
        self._calls = {
            "collections.OrderedDict": dict,
            "collections.defaultdict": lambda *_: {},
            "dnnlib.EasyDict": dict,
            "dnnlib.util.EasyDict": dict,
            "builtins.set": lambda items=(): set(map(str, items)),
            "_codecs.encode": self._encode,
            "torch.Size": _size,
            "torch._utils._rebuild_tensor": tensors.tensor,
            "torch._utils._rebuild_tensor_v2": tensors.tensor,
            "torch._utils._rebuild_parameter": tensors.parameter,
            "torch.storage._load_from_bytes": self._nested,
            "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
        }
        for core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
            self._calls[f"{core}.multiarray.scalar"] = tensors.scalar
            self._calls[f"{core}.multiarray._reconstruct"] = lambda *_: Inert("numpy.ndarray")

    def load(self, data: Span) -> Any:
        """The object in `data`, whichever of the three formats it has."""
        file = data.open()
        if file.peek(4).startswith(b"PK\x03\x04"):
            return self._zip(data)
        value = self._follow(file)
        if type(value) is int and value == _MAGIC:
            return self._legacy(file)
        return value

    def _follow(self, file: SpanFile, persistent=None) -> Any:
        return Machine(self._calls, _INERT, persistent).run(file)

    def spend(self, size: int) -> None:
        """Counts bytes that become storages: a file that uses its own bytes twice is no file."""
        self._budget -= size
        if self._budget < 0:
            raise ValueError("it claims more storages than it has bytes")

    def _nested(self, data: Any) -> Any:
        """`torch.storage._load_from_bytes`: a whole file as a byte string."""
        if isinstance(data, bytes):
            data = Span(data, 0, len(data))
        if not isinstance(data, Span) or self._depth >= _NESTING:
            raise ValueError("a storage is no byte string")
        self.spend(len(data))
        self._depth += 1
        try:
            return self.load(data)
        finally:
            self._depth -= 1

    def _encode(self, text: Any, encoding: Any) -> bytes:
        """Byte strings in pickles of protocol 2."""
        if not isinstance(text, str) or encoding != "latin1":
            raise ValueError("a byte string is not in latin1")
        self.spend(len(text))
        return text.encode("latin1")

    def _legacy(self, file: SpanFile) -> Any:
        """After the magic number: version, system, object, keys, then the storages' bytes."""
        if self._follow(file) != _PROTOCOL or not self._follow(file)["little_endian"]:
            raise ValueError("it is of another version, or big-endian")
        storages: dict[Any, Storage] = {}
        claimed = 0

        def persistent(pid: Any) -> Storage:
            nonlocal claimed
            key, storage, view = tensors.storage_of(pid)
            if key not in storages:
                claimed += storage.nbytes
                if claimed > len(file.span):
                    raise ValueError("a storage claims more bytes than the file has")
                storages[key] = storage  # where it lies, is told below: the bytes come last
            if view is None:
                return storages[key]
            _, first, count = view
            return storages[key].part(first, count)

        value = self._follow(file, persistent)
        keys = self._follow(file)
        if not isinstance(keys, list) or set(keys) != storages.keys():
            raise ValueError("its storages are not those that its tensors name")
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            if count != storages[key].count:
                raise ValueError("a storage has another size than its tensors say")
            here, size = file.tell(), storages[key].nbytes
            storages[key].span = file.span.part(here, size)
            file.seek(here + size)
        return value

    def _zip(self, data: Span) -> Any:
        """`torch.save` since PyTorch 1.6: uncompressed `NAME/data.pkl` and `NAME/data/KEY`."""
        file = data.open()
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            roots = [name for name in names if re.fullmatch(r"[^/]*/data\.pkl", name)]
            if len(roots) != 1:
                raise ValueError(f"the archive has {'more than one' if roots else 'no'} data.pkl")
            root = roots[0].removesuffix("data.pkl")

            def member(name: str) -> tuple[Span, int]:
                """Where a file's bytes lie, and their CRC-32."""
                info = archive.getinfo(root + name)
                if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                    raise ValueError("the archive is compressed or encrypted")
                self.spend(info.file_size)
                file.seek(info.header_offset)
                header = struct.unpack(_ZIP_HEADER, file.read(struct.calcsize(_ZIP_HEADER)))
                if header[0] != b"PK\x03\x04":
                    raise ValueError("a file in the archive is not where it is said to be")
                return data.part(file.tell() + sum(header[-2:]), info.file_size), info.CRC

            def whole(name: str) -> bytes:
                span, crc = member(name)
                if span.crc32() != crc:
                    raise ValueError(f"{name} in the archive is damaged: its checksum is another")
                return span.bytes()

            if f"{root}byteorder" in names and whole("byteorder") != b"little":
                raise ValueError("it is big-endian")
            storages: dict[Any, Storage] = {}

            def persistent(pid: Any) -> Storage:
                key, storage, _ = tensors.storage_of(pid)
                known = storages.get(key)
                if known is None:
                    storage.span, storage.crc = member(f"data/{key}")
                    known = storages[key] = storage
                if (known.count, known.dtype) != (storage.count, storage.dtype):
                    raise ValueError("a storage has another size than its tensors say")
                if len(known.span) != known.nbytes:
                    raise ValueError("a storage has another size than its tensors say")
                return known

            content = whole("data.pkl")
            return self._follow(Span(content, 0, len(content)).open(), persistent)


def _persistent_object(meta: Any) -> Inert:
    """A network of the released code: its class's source code (`module_src`) is left alone."""
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise ValueError("a network is not described by a class")
    if not isinstance(meta.get("class_name"), str) or not isinstance(meta.get("state"), dict):
        raise ValueError("a network has no class name or no state")
    return Inert(meta["class_name"], (), meta["state"])


def _size(items: Any = ()) -> tuple:
    if not isinstance(items, (list, tuple)) or len(items) > 32:
        raise ValueError("a tensor's size is none")
    return tuple(items)


def printable(text: str, most: int = 200) -> str:
    """What a file says of itself, as a line of at most so many characters can show it."""
    line = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return line if len(line) <= most else f"{line[:most]}..."
