"""Opens files that PyTorch wrote, without PyTorch and without running anything in them.

Released checkpoints are plain pickles whose storages are byte strings in PyTorch's legacy format,
that is, pickles again; detector weights (`.pth`) are legacy files or zip archives of a pickle and
its storages. All of these pickles go through one `Machine` and one allow-list, the one below.
"""

import io
import re
import struct
import zipfile
from typing import Any

import numpy as np
from etils import epath

from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign import tensors
from inr_gan_jax.foreign.opcodes import Inert, Machine, RefusedError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of PyTorch's legacy files
_NESTING = 3  # storages are one pickle deep
_LEAVES = ("AnyNode", "BooleanNode", "EnumNode", "FloatNode", "IntegerNode", "StringNode")
_INERT = frozenset(
    [
        *tensors.STORAGES,
        *(f"torch.nn.modules.container.{n}" for n in ("ModuleList", "ModuleDict", "Sequential")),
        *(f"omegaconf.nodes.{name}" for name in _LEAVES),
        "omegaconf.base.ContainerMetadata",
        "omegaconf.base.Metadata",
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


def read(path: epath.PathLike) -> Any:
    """The content of a `.pkl` or `.pth` file as data.

    Tensors, parameters and numpy arrays are read-only NumPy arrays; mappings are dicts;
    configuration objects are plain dicts, lists and values; networks are `Inert` objects of which
    `state` holds `_parameters`, `_buffers`, `_modules`, `_init_args` and `_init_kwargs`.

    Raises UserError, one line: no such file, a damaged or foreign one, or one that asks for a
    class that is not on the list, which it names.
    """
    path = epath.Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        return _Plain().convert(_Reader(len(data)).load(data))
    except RefusedError as error:
        raise UserError(
            f"{path} is refused: it asks for {_printable(error.name)}, which has no place in a "
            "published checkpoint; nothing in the file was run"
        ) from None
    except DAMAGE as error:
        reason = _printable(str(error) or type(error).__name__)
        raise UserError(f"{path} is no whole PyTorch checkpoint: {reason}") from None


def read_weights(path: epath.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a `.pth` file by name; UserError if it is no dictionary of tensors."""
    weights = read(path)
    if not isinstance(weights, dict) or not weights:
        raise UserError(f"{path} holds no dictionary of weights")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise UserError(f"{path}: {_printable(str(name))} is no tensor")
    return weights


def state_dict(network: Inert) -> dict[str, np.ndarray]:
    """All parameters and buffers of a network by dotted name; ValueError if it has no such thing.

    A module stands in one place: one inside itself, or in many places, is refused.
    """
    arrays: dict[str, np.ndarray] = {}
    seen: set[int] = set()

    def collect(module: Any, prefix: str) -> None:
        state = module.state if isinstance(module, Inert) else None
        if not isinstance(state, dict) or id(module) in seen:
            raise ValueError(f"{_printable(prefix) or 'it'} is no network")
        seen.add(id(module))
        for kind in ("_parameters", "_buffers"):
            for name, value in state.get(kind, {}).items():
                if isinstance(value, np.ndarray):
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
            "_codecs.encode": _encode,
            "torch.Size": lambda items=(): tuple(items),
            "torch._utils._rebuild_tensor": tensors.tensor,
            "torch._utils._rebuild_tensor_v2": tensors.tensor,
            "torch._utils._rebuild_parameter": tensors.parameter,
            "torch.storage._load_from_bytes": self._nested,
            "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
        }
        for core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
            self._calls[f"{core}.multiarray.scalar"] = tensors.scalar
            self._calls[f"{core}.multiarray._reconstruct"] = lambda *_: Inert("numpy.ndarray")

    def load(self, data: bytes) -> Any:
        """The object in `data`, whichever of the three formats it has."""
        if data.startswith(b"PK\x03\x04"):
            return self._zip(data)
        file = io.BytesIO(data)
        value = self._follow(file)
        if type(value) is int and value == _MAGIC:
            return self._legacy(file, len(data))
        return value

    def _follow(self, file: io.BytesIO, persistent=None) -> Any:
        return Machine(self._calls, _INERT, persistent).run(file)

    def _spend(self, size: int) -> None:
        """Counts bytes that become storages: a file that uses its own bytes twice is no file."""
        self._budget -= size
        if self._budget < 0:
            raise ValueError("it claims more storages than it has bytes")

    def _nested(self, data: Any) -> Any:
        """`torch.storage._load_from_bytes`: a whole file as a byte string."""
        if not isinstance(data, bytes) or self._depth >= _NESTING:
            raise ValueError("a storage is no byte string")
        self._spend(len(data))
        self._depth += 1
        try:
            return self.load(data)
        finally:
            self._depth -= 1

    def _legacy(self, file: io.BytesIO, size: int) -> Any:
        """After the magic number: version, system, object, keys, then the storages' bytes."""
        if self._follow(file) != _PROTOCOL or not self._follow(file)["little_endian"]:
            raise ValueError("it is of another version, or big-endian")
        storages: dict[Any, np.ndarray] = {}
        claimed = 0

        def persistent(pid: Any) -> np.ndarray:
            nonlocal claimed
            key, dtype, count, view = tensors.storage_of(pid)
            if key not in storages:
                claimed += count * dtype.itemsize
                if claimed > size:
                    raise ValueError("a storage claims more bytes than the file has")
                storages[key] = np.zeros(count, dtype)  # filled below: the bytes come last
            if view is None:
                return storages[key]
            _, offset, length = view
            return storages[key][offset : offset + length]

        value = self._follow(file, persistent)
        keys = self._follow(file)
        if not isinstance(keys, list) or set(keys) != storages.keys():
            raise ValueError("its storages are not those that its tensors name")
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            if count != storages[key].size:
                raise ValueError("a storage has another size than its tensors say")
            data = file.read(storages[key].nbytes)
            storages[key][...] = tensors.elements(data, storages[key].dtype)
        return value

    def _zip(self, data: bytes) -> Any:
        """`torch.save` since PyTorch 1.6: uncompressed `NAME/data.pkl` and `NAME/data/KEY`."""
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
            root = next((n for n in names if re.fullmatch(r"[^/]*/data\.pkl", n)), None)
            if root is None:
                raise ValueError("the archive has no data.pkl")
            root = root.removesuffix("data.pkl")

            def member(name: str) -> bytes:
                info = archive.getinfo(root + name)
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                    raise ValueError("the archive is compressed, or claims more than it has")
                self._spend(info.file_size)
                return archive.read(info)

            if f"{root}byteorder" in names and member("byteorder") != b"little":
                raise ValueError("it is big-endian")
            storages: dict[Any, np.ndarray] = {}

            def persistent(pid: Any) -> np.ndarray:
                key, dtype, count, _ = tensors.storage_of(pid)
                if key not in storages:
                    storages[key] = tensors.elements(member(f"data/{key}"), dtype)
                if storages[key].size != count or storages[key].dtype != dtype:
                    raise ValueError("a storage has another size than its tensors say")
                return storages[key]

            return self._follow(io.BytesIO(member("data.pkl")), persistent)


class _Plain:
    """Turns what pickles wrap (configurations, numpy arrays) into plain values, each once."""

    def __init__(self):
        self._done: dict[int, Any] = {}

    def convert(self, value: Any) -> Any:
        """`value`, in which shared objects stay shared and cycles stay cycles."""
        if not isinstance(value, (dict, list, tuple, Inert)):
            return value
        if id(value) not in self._done:
            self._convert(value)
        return self._done[id(value)]

    def _convert(self, value: Any) -> None:
        done, here = self._done, id(value)
        if isinstance(value, dict):
            done[here] = made = {}
            made.update((key, self.convert(child)) for key, child in value.items())
        elif isinstance(value, list):
            done[here] = made = []
            made.extend(map(self.convert, value))
        elif isinstance(value, tuple):
            done[here] = tuple(map(self.convert, value))
        elif value.name == "numpy.ndarray":
            done[here] = tensors.array(value.state)
        elif value.name.startswith("omegaconf.") and isinstance(value.state, dict):
            content = value.state.get("_content", value.state.get("_val"))
            done[here] = self.convert(_resolved(value, content))
        else:
            done[here] = value
            value.args, value.state = self.convert(value.args), self.convert(value.state)


def _resolved(node: Inert, content: Any) -> Any:
    """`${a.b}` in a configuration -> what stands at a.b from its root; all else as it is."""
    reference = re.fullmatch(r"\$\{(\w+(?:\.\w+)*)\}", content) if type(content) is str else None
    if reference is None:
        return content
    for _ in range(100):  # a chain of parents that is longer is a circle
        if not isinstance(node.state.get("_parent"), Inert):
            break
        node = node.state["_parent"]
    for key in reference[1].split("."):
        node = node.state["_content"][key]
    return node


def _persistent_object(meta: Any) -> Inert:
    """A network of the released code: its class's source code (`module_src`) is left alone."""
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise ValueError("a network is not described by a class")
    if not isinstance(meta.get("class_name"), str) or not isinstance(meta.get("state"), dict):
        raise ValueError("a network has no class name or no state")
    return Inert(meta["class_name"], (), meta["state"])


def _encode(text: Any, encoding: Any) -> bytes:
    """Byte strings in pickles of protocol 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("a byte string is not in latin1")
    return text.encode("latin1")


def _printable(text: str) -> str:
    line = "".join(c if c.isprintable() else "?" for c in text)
    return line if len(line) <= 200 else f"{line[:200]}..."
