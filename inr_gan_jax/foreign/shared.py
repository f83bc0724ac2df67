"""Generators that people share: arrays (.safetensors), with JSON that says what they are of.

What convert.exports writes. Nothing in such a file is code.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from safetensors import SafetensorError
from safetensors.numpy import load

from inr_gan_jax.config import parse
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.published import Published
from inr_gan_jax.models.networks import networks_of
from inr_gan_jax.storage.leaves import check_same

FILE = "model.safetensors"  # of a folder that is shared
FORMAT = "inr_gan_jax generator"  # the metadata's `format`
LARGEST = 1 << 27  # bytes of a header


def header_size(head: bytes) -> int:
    """Bytes of the header that a safetensors file begins with; 0: it is another file."""
    size = int.from_bytes(head[:8], "little")
    return size if len(head) > 9 and head[8:9] == b"{" and size < LARGEST else 0


def about(header: bytes) -> dict[str, str] | None:
    """What a header says of a generator; None: it is not of one of ours."""
    try:
        found = json.loads(header).get("__metadata__")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def open_shared(path: epath.Path) -> Published | None:
    """A shared generator; None for another file. UserError where it is damaged, or does not fit."""
    with path.open("rb") as file:
        head = file.read(10)
        size = header_size(head)
        said = about(head[8:] + file.read(size - 2)) if size else None
    if said is None:
        return None
    try:
        arrays = load(path.read_bytes())
        counts, names = (list(json.loads(said[key])) for key in ("class_counts", "class_names"))
        config, images = json.loads(said["config"]), int(said["images"])
        draws = said.get("draws", "")
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: fetch it again ({error!r})"[:400]) from None
    config = parse(config, num_classes=len(counts))
    networks = networks_of(config.model, config.discriminator)
    templates = jax.eval_shape(networks.init_generator, jax.random.key(0))
    names_of = [traverse_util.flatten_dict(template, sep=".") for template in templates]
    w_avg = jax.ShapeDtypeStruct(config.model.w_avg_shape, np.float32)
    check_same({"w_avg": w_avg} | names_of[0] | names_of[1], arrays, path)
    g_ema, buffers = (_nested(flat, arrays) for flat in names_of)
    return Published(
        system="a shared generator",
        config=config,
        g=None,
        g_ema=g_ema,
        d=None,
        buffers=buffers,
        w_avg=jnp.asarray(arrays["w_avg"]),
        draws=draws,
        counts=tuple(counts),
        class_names=tuple(names),
        images=images,
    )


def _nested(flat: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict:
    """The arrays of these dotted names."""
    return traverse_util.unflatten_dict({n: jnp.asarray(arrays[n]) for n in flat}, sep=".")
