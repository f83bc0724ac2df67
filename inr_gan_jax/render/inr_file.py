"""`.inr` files: images as the parameters of their functions, opened without the checkpoint.

A safetensors file. Its tensors are the leaves of InrParams as the hypernetwork emits them, named
`shared/block/layer/part/leaf` (once) and `image/...` (`[n, ...]`, low-rank factors and styles);
the `inr_gan_jax` entry of its metadata is JSON: the format's version, the InrSpec, and the names
of parts that are there but hold no array.
"""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from inr_gan_jax.errors import UserError
from inr_gan_jax.models import inr
from inr_gan_jax.models.fourier import Embedding
from inr_gan_jax.models.parameters import Block, InrParams, InrSpec, Layer
from inr_gan_jax.storage.atomic import replaced

# 2: networks known at nodes; 3: nodes read by splines; 4: turned waves; 5: waves on a spiral
READS = (1, 2, 3, 4, 5)
KEY = "inr_gan_jax"  # in the metadata
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}


def save_images(path: epath.PathLike, params: InrParams, dtype: str = "float32") -> tuple[int, int]:
    """Writes a batch of images into one file.

    Args:
      path: the file, which is replaced if it exists.
      params: n images; leaves of `image` are `[n, ...]`.
      dtype: `float32` (exact) or `bfloat16` (half the size) of the stored numbers.

    Returns:
      The file's size and how much of it each image takes, in bytes.

    Raises UserError for another dtype, OSError where nothing can be written.
    """
    data, each = encoded(params, dtype)
    with replaced(epath.Path(path)) as file:
        file.write(data)
    return len(data), each


def encoded(params: InrParams, dtype: str = "float32") -> tuple[bytes, int]:
    """A file's bytes, and how many of them each image takes (see save_images)."""
    if dtype not in DTYPES:
        raise UserError(f"dtype = {dtype!r}: .inr files hold {' or '.join(DTYPES)} numbers")
    entries = [*_walk("shared", params.shared), *_walk("image", params.image)]
    arrays = {name: _stored(name, entry, dtype) for name, entry in entries if entry is not None}
    header = {
        "version": _version(params.spec),
        "spec": dataclasses.asdict(params.spec),
        "empty": [name for name, entry in entries if entry is None],
    }
    of_images = sum(a.nbytes for name, a in arrays.items() if name.startswith("image/"))
    return safetensors.numpy.save(arrays, {KEY: json.dumps(header)}), of_images // len(params)


def _version(spec: InrSpec) -> int:
    """The first that knows this network."""
    embeddings = [block.embedding for block in spec.blocks if block.embedding]
    if any(embedding.spiral for embedding in embeddings):
        return 5
    if any(embedding.turned for embedding in embeddings):
        return 4
    return 3 if spec.upsampling == "spline" else 2


def open_images(path: epath.PathLike) -> InrParams:
    """All images of a file, float32, leaf by leaf as they were saved.

    Raises UserError, one line, for a file that is missing, damaged, foreign or too new.
    """
    return _read(path, None)


def open_params(path: epath.PathLike, index: int) -> InrParams:
    """Image number `index` of a file, without batch axis; the rest is not read.

    Raises UserError, one line, for a file that is missing, damaged, foreign or too new, or that has
    fewer images.
    """
    return _read(path, int(index))


def _read(path: epath.PathLike, index: int | None) -> InrParams:
    """Reads one image (no batch axis) or, without an index, all."""
    trees: dict = {"shared": {}, "image": {}}

    def put(name, entry):
        *inner, leaf = name.split("/")
        node = trees
        for key in inner:
            node = node.setdefault(key, {})
        node[leaf] = entry

    with _opened(path) as file:
        header = _header(path, file.metadata())
        for name in file.keys():  # noqa: SIM118 (it is no dictionary)
            array = file.get_slice(name)
            wanted = slice(None)
            if index is not None and name.startswith("image/"):
                count = array.get_shape()[0]
                if not 0 <= index < count:
                    raise UserError(f"{path} has no image {index}: it holds 0 to {count - 1}")
                wanted = index
            put(name, jnp.asarray(array[wanted], jnp.float32))
    for name in header["empty"]:
        put(name, {})
    params = InrParams(trees["shared"], trees["image"], header["spec"])
    _check_complete(path, params if index is not None else params[0])
    return params


@contextlib.contextmanager
def _opened(path: epath.PathLike) -> Iterator:
    """The file through safetensors, which reads only what is asked for, and local files only."""
    path = epath.Path(path)
    with contextlib.ExitStack() as stack:
        try:
            local = str(path)
            if "://" in local:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                local = str(Path(folder) / "image.inr")
                Path(local).write_bytes(path.read_bytes())
            file = stack.enter_context(safetensors.safe_open(local, "np"))
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error
            raise UserError(f"{path} cannot be opened: {reason}") from None
        except safetensors.SafetensorError as error:
            raise UserError(f"{path} is no .inr file, or damaged: {error}") from None
        yield file


def _header(path: epath.PathLike, metadata: dict | None) -> dict:
    """`spec`, an InrSpec, and `empty`, a list of names."""
    try:
        header = json.loads(metadata[KEY])
        version = header["version"]
    except (TypeError, KeyError, ValueError):
        raise UserError(f"{path} is a safetensors file, but no .inr file") from None
    if version not in READS:
        raise UserError(
            f"{path} has version {version} of the .inr format; this inr_gan_jax reads "
            + ", ".join(map(str, READS))
        )
    try:
        return {"spec": _spec_of(header["spec"]), "empty": [str(name) for name in header["empty"]]}
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged: its network cannot be read ({error})") from None


def _spec_of(entry: dict) -> InrSpec:
    """The inverse of dataclasses.asdict, through JSON."""

    def block_of(block):
        embedding, rgb = block["embedding"], block["rgb"]
        return Block(
            **block
            | {
                "size": tuple(block["size"]),
                "embedding": embedding and Embedding(**embedding),
                "layers": tuple(Layer(**layer) for layer in block["layers"]),
                "rgb": rgb and Layer(**rgb),
            }
        )

    return InrSpec(**entry | {"blocks": tuple(block_of(block) for block in entry["blocks"])})


def _walk(name: str, tree: dict | jax.Array) -> Iterator[tuple[str, jax.Array | None]]:
    """(name, array) of all leaves, (name, None) of what is empty."""
    if isinstance(tree, dict):
        for key, inner in tree.items():
            yield from _walk(f"{name}/{key}", inner)
    if not isinstance(tree, dict) or not tree:
        yield name, None if isinstance(tree, dict) else tree


def _stored(name: str, array: jax.Array, dtype: str) -> np.ndarray:
    """Directions and phases stay float32: they are few, and rounded ones move what they draw."""
    keeps = "/embedding/" in name and not name.endswith("/table")
    return np.asarray(array, np.float32 if keeps else DTYPES[dtype], order="C")


def _check_complete(path: epath.PathLike, params: InrParams) -> None:
    """Raises UserError unless the arrays are those that the network needs."""
    try:  # evaluates shapes only
        jax.eval_shape(inr.grid_one, params)
    except Exception as error:  # whatever a missing or misshapen array leads to
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} is damaged: its arrays do not fit its network ({type(error).__name__}: "
            f"{reason})"
        ) from None
