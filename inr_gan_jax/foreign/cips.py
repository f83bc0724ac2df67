"""CIPS as its authors released it (Anokhin et al. 2021): a state dict -> our configuration, names.

Its files say nothing but arrays: sizes, widths and depth follow from their shapes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inr_gan_jax.config import base, parse
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.published import Published, own
from inr_gan_jax.models.fourier import Embedding
from inr_gan_jax.models.networks import Networks, networks_of

MARKS = ("lff.ffm.conv.weight", "emb.input")
_MOST_LEVELS, _MOST_Z = 12, 1 << 16  # 16,384 pixels a side
MEAN_OF = 10_000  # latents, of which the mean w is estimated: the files hold none
_KERNEL = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64  # of D's blurs


_EMBEDDING = {
    "shared_basis": "lff.ffm.conv.weight",
    "shared_shift": "lff.ffm.conv.bias",
    "table": "emb.input",
}


def convert(generator: dict, g: dict | None = None, d: dict | None = None) -> Published:
    """The state of an averaged generator, and of a training's networks where they are there."""
    family, model = generator_fields(generator)
    config, notes = base(family, **model), []
    config.data.source, config.train.ema_rampup = "unknown", 0.0
    if (g is None) != (d is None):
        notes.append("g and d are there one without the other: training cannot go on from them")
        g = d = None
    if d is not None:
        try:
            config.discriminator.update(discriminator_fields(d, model["height"]))
        except UserError as error:
            notes.append(f"{error}: training cannot go on from this file")
            g = d = None
    parsed = parse(config)
    networks = networks_of(parsed.model, parsed.discriminator)
    g_shapes, _ = jax.eval_shape(networks.init_generator, jax.random.key(0))
    d_shapes = jax.eval_shape(networks.init_discriminator, jax.random.key(0))
    by_path = names(_paths(g_shapes), family == "cips_res")
    g_ema = _filled(generator, g_shapes, by_path, "g_ema")
    if d is not None:
        size = model["height"]
        d_names = {path: discriminator_name(path, size) for path in _paths(d_shapes)}
        g = _filled(g, g_shapes, by_path, "g")
        d = _filled(d, d_shapes, d_names, "d")
    notes.append(
        f"the mean w is estimated from {MEAN_OF:,} latents, as the file holds none; seeds give "
        "other images than its own code, which draws latents by PyTorch"
    )
    return Published(
        system="CIPS",
        config=parsed,
        g=g,
        g_ema=g_ema,
        d=d,
        buffers={},
        w_avg=_mean_w(networks, g_ema),
        draws="",
        notes=tuple(notes),
    )


def _mean_w(networks: Networks, g: dict) -> np.ndarray:
    random, z_dim = np.random.RandomState(0), networks.generator_config.z_dim

    @jax.jit
    def mean(params, z):
        return jnp.mean(networks.generator(params, {}).mapping(z), axis=0)

    total = 0.0
    for _ in range(MEAN_OF // 1000):  # by parts: a file may have a large z
        total = total + np.asarray(mean(g, random.randn(1000, z_dim).astype(np.float32)))
    return total / (MEAN_OF // 1000)


def _paths(template: dict) -> list[tuple[str, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(template)
    return [tuple(str(key.key) for key in path) for path, _ in leaves]


def _filled(arrays: dict, template: dict, by_path: dict, network: str) -> dict:
    """Our arrays; UserError for one that is missing, of another shape, or that nothing uses."""
    blurs = {name for name in arrays if network == "d" and name.endswith(".kernel")}
    left = arrays.keys() - blurs - set(by_path.values())
    if left:
        raise UserError(f"{network} has an array {min(left)} that CIPS has not")

    def fill(key_path, leaf):
        name = by_path[tuple(str(key.key) for key in key_path)]
        if name not in arrays:
            raise UserError(f"{network} has no array {name}")
        if np.prod(arrays[name].shape) != np.prod(leaf.shape):
            raise UserError(f"{network}: {name} is {arrays[name].shape}, not {leaf.shape}")
        array = np.asarray(arrays[name])
        if array.ndim == 4 and len(leaf.shape) == 4:  # OIHW -> HWIO
            array = array.transpose(2, 3, 1, 0)
        return own(array.reshape(leaf.shape))

    return jax.tree_util.tree_map_with_path(fill, template)


def is_generator(arrays: Any) -> bool:
    """Whether a dictionary is the state of such a generator."""
    return isinstance(arrays, dict) and all(mark in arrays for mark in MARKS)


def generator_fields(arrays: dict) -> tuple[str, dict[str, Any]]:
    """(family, fields of GeneratorConfig) from the shapes of a generator's arrays."""
    residual = "to_rgb_last.bias" in arrays
    last = "linears.{}.conv2.conv.weight" if residual else "linears.{}.conv.weight"
    step = 1 if residual else 2
    widths = []
    while (name := last.format(len(widths) * step + 1)) in arrays:
        widths.append(_shape(arrays, name, 5)[1])
        if len(widths) > _MOST_LEVELS:
            raise UserError(f"it has more than {_MOST_LEVELS} levels")
    if not widths:
        raise UserError("it has no layers after the first")
    size = 2 ** (len(widths) + 1)
    hidden = _shape(arrays, "lff.ffm.conv.weight", 4)[0]
    _, features, side, other = _shape(arrays, "emb.input", 4)
    if features != hidden or side != other:
        raise UserError(f"its table is [{features}, {side}, {other}] for {hidden} directions")
    layers = 0
    while f"style.{layers + 1}.weight" in arrays:
        layers += 1
    if not 0 < layers <= 100:
        raise UserError("it has no mapping network of 1 to 100 layers")
    z_dim = _shape(arrays, "style.1.weight", 2)[1]
    if z_dim > _MOST_Z:
        raise UserError(f"its latents have {z_dim:,} dimensions, more than {_MOST_Z:,}")
    rgb = "to_rgb_last.bias" if residual else "to_rgbs.0.bias"
    fields = {
        "height": size,
        "width": size,
        "channels": _shape(arrays, rgb, 4)[1],
        "z_dim": z_dim,
        "w_dim": _shape(arrays, f"style.{layers}.weight", 2)[0],
        "mapping_layers": layers,
        "channels_at": tuple(
            (4 << i, width)
            for i, width in enumerate(widths)
            if width != min(32768 // (4 << i), 512)
        ),
    }
    embedding = Embedding(
        shared=hidden,
        shifted=True,
        table=hidden,
        distribution="uniform",
        scale=1.5 * 2**0.5,
        table_side=0 if side == size else side,
    )
    fields |= {"embedding_coarse": embedding, "embedding_fine": embedding}
    return ("cips_res" if residual else "cips_skip"), fields


def discriminator_fields(arrays: dict, size: int) -> dict[str, Any]:
    """Fields of DiscriminatorConfig; UserError where D is of another size or shape."""
    widths, found = [_shape(arrays, "convs.0.0.weight", 4)[0]], 4
    while (name := f"convs.{len(widths)}.conv2.1.weight") in arrays:
        widths.append(_shape(arrays, name, 4)[0])
        found *= 2
    if found != size:
        raise UserError(f"D sees {found}x{found} pixels (crops), G makes {size}x{size}")
    fields = {
        "architecture": "resnet",
        "channel_base": widths[0] * size,
        "channel_max": max(widths),
        "group": 4,
    }
    expected = [min(widths[0] * size // (size >> i), max(widths)) for i in range(len(widths))]
    if widths != expected:
        raise UserError(f"D's widths {widths} follow no rule that is known here")
    for name, kernel in arrays.items():
        if name.endswith(".kernel") and (
            kernel.shape != _KERNEL.shape or not np.allclose(np.asarray(kernel), _KERNEL, atol=1e-6)
        ):
            raise UserError(f"{name} is not [1, 3, 3, 1]")
    return fields


def names(paths: list[tuple[str, ...]], residual: bool) -> dict[tuple[str, ...], str]:
    """The name there of each of a generator's arrays, by where it lies here."""
    found = {}
    for path in paths:
        if path[0] == "mapping":
            found[path] = f"style.{int(path[1].removeprefix('dense')) + 1}.{path[2]}"
            continue
        _, block, layer, *leaf = path
        if layer == "embedding":
            found[path] = _EMBEDDING[leaf[0]]
            continue
        nominal = int(block.removeprefix("block"))
        index = nominal.bit_length() - 3  # 0 for block4
        where = _layer(index, layer, residual)
        if layer == "skip":
            found[path] = f"{where}.weight"
            continue
        bias = f"{where}.bias" if layer == "rgb" else f"{where}.activate.bias"
        found[path] = {
            ("weight",): f"{where}.conv.weight",
            ("bias",): bias,
            ("noise",): f"{where}.noise.weight",
            ("affine", "weight"): f"{where}.conv.modulation.weight",
            ("affine", "bias"): f"{where}.conv.modulation.bias",
        }[tuple(leaf)]
    return found


def _layer(index: int, layer: str, residual: bool) -> str:
    if layer == "layer0":
        return "linears.0" if residual else "conv1"
    if layer == "rgb":
        return "to_rgb_last" if residual else f"to_rgbs.{index}"
    if layer == "skip":
        return f"linears.{index + 1}.skip.0"
    number = int(layer.removeprefix("layer"))
    if residual:
        return f"linears.{index + 1}.conv{number}"
    return f"linears.{2 * index + number - 1}"


def discriminator_name(path: tuple[str, ...], size: int) -> str:
    """The same for the discriminator."""
    part, *leaf = path
    if part in ("dense", "out"):
        return f"final_linear.{int(part == 'out')}.{leaf[0]}"
    number = {"weight": 0, "bias": 1}
    if part == "conv":
        return f"final_conv.{number[leaf[0]]}.{leaf[0]}"
    layer, leaf = leaf
    if layer == "from_rgb":
        return f"convs.0.{number[leaf]}.{leaf}"
    index = (size // int(part.removeprefix("block"))).bit_length()
    if layer == "conv0":
        return f"convs.{index}.conv1.{number[leaf]}.{leaf}"
    inner = "conv2" if layer == "conv1" else "skip"
    return f"convs.{index}.{inner}.{number[leaf] + 1}.{leaf}"


def _shape(arrays: dict, name: str, ndim: int) -> tuple[int, ...]:
    shape = getattr(arrays.get(name), "shape", None)
    if shape is None or len(shape) != ndim or not all(shape):
        raise UserError(f"it has no array {name} of {ndim} dimensions, none of them 0")
    return tuple(shape)
