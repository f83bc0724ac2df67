"""Writes files in the released formats, byte for byte as PyTorch does, without PyTorch.

`Global`, `Call` and `New` stand for what a pickle names, calls and makes: pickled by `dump`, they
become the opcodes that the real classes and functions would.
"""

import io
import json
import pickle
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from helpers.golden import load, part

MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage", "b1": "BoolStorage"}
BUFFERS = ("resample_filter", "log_basis", "random_basis", "w_avg", "noise_const")


@dataclass(frozen=True, eq=False)
class Global:
    module: str
    name: str


@dataclass(eq=False)
class Call:
    """`function(*args)`, then its state is set."""

    function: Global
    args: tuple = ()
    state: Any = None


@dataclass(eq=False)
class New:
    """`function.__new__(function)`, then its state is set."""

    function: Global
    state: Any = None


@dataclass(eq=False)
class Storage:
    key: str
    array: np.ndarray


class _Pickler(pickle._Pickler):
    dispatch = pickle._Pickler.dispatch.copy()

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        kind = Global("torch", STORAGES[obj.array.dtype.str[1:]])
        return ("storage", kind, obj.key, "cpu", obj.array.size, None)

    def save_name(self, obj):
        if self.proto >= 4:
            self.save(obj.module)
            self.save(obj.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())

    def save_call(self, obj):
        self.save(obj.function)
        self.save(obj.args if isinstance(obj, Call) else ())
        self.write(pickle.REDUCE if isinstance(obj, Call) else pickle.NEWOBJ)
        self.memoize(obj)
        if obj.state is not None:
            self.save(obj.state)
            self.write(pickle.BUILD)

    dispatch[Global] = save_name
    dispatch[Call] = dispatch[New] = save_call


def dump(obj, protocol: int = 4) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol).dump(obj)
    return file.getvalue()


def ordered(values=None) -> Call:
    return Call(Global("collections", "OrderedDict"))


def storage_bytes(array: np.ndarray, inner: Any = None) -> bytes:
    """A storage (or `inner` in its place) as PyTorch's legacy file."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    head = b"".join(pickle.dumps(x, 2) for x in (MAGIC, 1001, system))
    storage = Storage("94000000", array.ravel())
    body = dump(storage if inner is None else inner, 2)
    keys = pickle.dumps(["94000000"], 2)
    return head + body + keys + struct.pack("<q", array.size) + array.tobytes()


def load_from_bytes(data: bytes) -> Call:
    return Call(Global("torch.storage", "_load_from_bytes"), (data,))


def tensor(array: np.ndarray, **changes) -> Call:
    """A tensor; `storage`, `offset`, `size` and `stride` may claim something else."""
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    fields = {
        "storage": load_from_bytes(storage_bytes(array)),
        "offset": 0,
        "size": array.shape,
        "stride": tuple(s // array.itemsize for s in array.strides),
        **changes,
    }
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, (*fields.values(), False, ordered()))


def parameter(array: np.ndarray) -> Call:
    return Call(Global("torch._utils", "_rebuild_parameter"), (tensor(array), True, ordered()))


def configuration(value: Any, parent: Any = None) -> Any:
    """Nested plain values as the objects of omegaconf 2.0, which know their parents."""
    metadata = Global("omegaconf.base", "ContainerMetadata")
    node = {"_parent": parent, "_metadata": New(metadata, {"ref_type": Global("typing", "Any")})}
    if not isinstance(value, dict):
        return New(Global("omegaconf.nodes", "AnyNode"), {**node, "_val": value})
    made = New(Global("omegaconf.dictconfig", "DictConfig"), node)
    made.state["_content"] = {key: configuration(v, made) for key, v in value.items()}
    return made


def network(name: str, arrays: dict[str, np.ndarray], arguments: dict | None = None) -> Call:
    """A persistent network whose modules are nested as the dotted names of `arrays` say."""
    state = {"training": False, "_parameters": {}, "_buffers": {}, "_modules": {}}
    if arguments is not None:
        state |= {"_init_args": (), "_init_kwargs": arguments}
    children: dict[str, dict] = {}
    for key, value in arrays.items():
        first, _, rest = key.partition(".")
        if rest:
            children.setdefault(first, {})[rest] = value
        elif first in BUFFERS:
            state["_buffers"][first] = tensor(value)
        else:
            state["_parameters"][first] = parameter(value)
    for key, child in children.items():
        state["_modules"][key] = network("Module", child)
    meta = {
        "type": "class",
        "version": 6,
        "module_src": "raise SystemExit('the source in the file was run')",
        "class_name": name,
        "state": state,
    }
    return Call(Global("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,))


def generator_arguments(name: str) -> dict:
    """Constructor arguments of a golden generator."""
    golden = load(f"generator_{name}")
    return {
        "z_dim": 16,
        "c_dim": int(golden["c_dim"]),
        "w_dim": 16,
        "img_resolution": 32,
        "img_channels": 3,
        "mapping_kwargs": {"num_layers": 2},
        "synthesis_kwargs": {"channel_base": 512, "channel_max": 16, "num_fp16_res": 0},
        "cfg": json.loads(str(golden["config"])),
    }


def discriminator_arguments(name: str) -> dict:
    """Constructor arguments of a golden discriminator."""
    golden = load(f"discriminator_{name}")
    published = json.loads(str(golden["config"]))
    return {
        "c_dim": int(golden["c_dim"]),
        "img_resolution": 32,
        "img_channels": 3,
        "architecture": published["architecture"],
        "channel_base": 512,
        "channel_max": 16,
        "mapping_kwargs": {"num_layers": 2},
        "epilogue_kwargs": {"mbstd_group_size": published["mbstd_group_size"]},
    }


def checkpoint(g: dict, d: dict, g_arrays: dict, d_arrays: dict, protocol: int = 3) -> bytes:
    """A released checkpoint of these arguments and arrays (PyTorch 1.7, omegaconf 2.0)."""

    def generator():
        return network("Generator", g_arrays, {**g, "cfg": configuration(g["cfg"])})

    easy = New(Global("dnnlib.util", "EasyDict"))
    content = {
        "G": generator(),
        "D": network("Discriminator", d_arrays, d),
        "G_ema": generator(),
        "augment_pipe": None,
        "training_set_kwargs": {"path": "data.zip", "xflip": False, "more": easy},
    }
    return dump(content, protocol)


def golden_checkpoint(generator: str, discriminator: str, protocol: int = 3, **changes) -> bytes:
    """Golden arrays of two networks as one released checkpoint; `changes` to G's arguments."""
    return checkpoint(
        {**generator_arguments(generator), **changes},
        discriminator_arguments(discriminator),
        part(load(f"generator_{generator}"), "param/"),
        part(load(f"discriminator_{discriminator}"), "param/"),
        protocol,
    )
