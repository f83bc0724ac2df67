"""A generator as one file: its arrays (safetensors), the whole function (StableHLO), a picture."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from jax import export
from safetensors.numpy import save
from tqdm import tqdm

from inr_gan_jax.config import to_plain
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.shared import FORMAT
from inr_gan_jax.model import Model
from inr_gan_jax.models import mapping
from inr_gan_jax.pictures.encode import encode_png
from inr_gan_jax.pictures.pixels import tile, to_uint8
from inr_gan_jax.storage.atomic import replaced

PLATFORMS = ("cpu", "cuda", "tpu")


def arrays_of(model: Model) -> dict[str, np.ndarray]:
    """Parameters, buffers and `w_avg` of the averaged generator under dotted names."""
    params, buffers = model.arrays
    flat = {**traverse_util.flatten_dict(params, sep="."), "w_avg": model.w_avg}
    return jax.tree.map(np.asarray, flat | traverse_util.flatten_dict(buffers, sep="."))


def write_safetensors(model: Model, dest: epath.PathLike) -> None:
    """Writes `safetensors_of`; `load` opens it. Raises UserError where `dest` cannot be written."""
    _write(dest, safetensors_of(model))


def safetensors_of(model: Model) -> bytes:
    """The arrays, in our layout, with the configuration as JSON in the file's metadata.

    Metadata (strings, as the format wants): `format`, `config`, `class_counts`, `class_names`,
    `images`, the images seen in training, and `draws`, how a seed becomes a latent.
    """
    metadata = {
        "format": FORMAT,
        "config": json.dumps(to_plain(model.config)),
        "class_counts": json.dumps(list(model.class_counts)),
        "class_names": json.dumps(list(model.class_names)),
        "images": str(model.images_seen),
        "draws": model.draws,
    }
    return save(arrays_of(model), metadata)


def picture_of(model: Model, count: int, columns: int) -> bytes:
    """A PNG: images of the seeds from 0 on, drawn one by one, of classes as the data has them."""
    seeds = range(count)
    classes = model.classes(seeds) if model.num_classes else None
    images = [
        model.images(seeds=[seed], classes=None if classes is None else classes[seed : seed + 1])[0]
        for seed in tqdm(seeds, desc="drawing", unit="image", delay=2)
    ]
    return encode_png(tile(to_uint8(np.stack(images)), columns))


def write_stablehlo(model: Model, dest: epath.PathLike) -> None:
    """Writes latents -> images as a function that needs jax only: `jax.export.deserialize`.

    It takes latents `[b, z_dim]` for any b, then, if the model is class-conditional, one-hot
    classes `[b, num_classes]`, then truncation (a number; 1 is none), all float32, and returns
    images `[b, H, W, C]`, float32, about [-1, 1], unclipped. Raises UserError where `dest` cannot
    be written.
    """
    _write(dest, exported(model).serialize())


def exported(model: Model) -> export.Exported:
    """The function of `write_stablehlo`, its parameters baked in, lowered for all platforms."""
    params, buffers, w_avg = jax.tree.map(jnp.asarray, (*model.arrays, model.w_avg))

    def image(z_z, *rest):
        *classes, truncation = rest
        generator = model.networks.generator(params, buffers)
        w_bw = generator.mapping(z_z[None], *(one_hot[None] for one_hot in classes))
        ws = mapping.broadcast_styles(w_bw, generator.num_styles)
        one_hot = classes[0][None] if classes else None
        return generator.image(mapping.truncate(ws, w_avg, truncation, None, one_hot))[0]

    config = model.config.model
    (b,) = export.symbolic_shape("b")
    widths = [config.z_dim] + [config.num_classes] * (config.num_classes > 0)
    inputs = [jax.ShapeDtypeStruct((b, n), jnp.float32) for n in widths]
    # One image under vmap: the networks then see a batch of 1 and no symbolic sizes.
    batch = jax.vmap(image, in_axes=(*(0 for _ in inputs), None))
    with jax.default_matmul_precision("float32"):  # the same images on every platform
        return export.export(jax.jit(batch), platforms=PLATFORMS)(
            *inputs, jax.ShapeDtypeStruct((), jnp.float32)
        )


def _write(dest: epath.PathLike, data: bytes) -> None:
    path = epath.Path(dest)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:
            file.write(data)
    except OSError as error:
        raise UserError(f"--dest={dest} cannot be written: {error.strerror or error}") from None
