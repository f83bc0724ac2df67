"""A released checkpoint -> our configuration and our arrays.

The file's own constructor arguments decide everything; what they ask for and our configuration
cannot say is an error, never a guess. Arrays that nothing would use are an error too.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath

from inr_gan_jax.config import Config, base, parse
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.opcodes import Inert
from inr_gan_jax.foreign.settings import ada_fields, discriminator_fields, generator_fields
from inr_gan_jax.foreign.unpickle import DAMAGE, opened, state_dict
from inr_gan_jax.foreign.weights import from_published, unused
from inr_gan_jax.models.networks import networks_of

NETWORKS = ("G", "D", "G_ema")
# Computed here, or kept elsewhere, under other names or none.
_DERIVED = (".resample_filter", ".log_basis")


@dataclass(frozen=True)
class Published:
    """A released checkpoint in our terms: nested dicts of float32 arrays, and `w_avg`.

    `g_buffers` and `ema_buffers` are what is never trained, equal in every trained file.

    `notes` are lines for the user: what the file has and training or rendering here leaves out.
    """

    config: Config
    g: dict
    g_ema: dict
    d: dict
    g_buffers: dict
    ema_buffers: dict
    w_avg: np.ndarray
    notes: tuple[str, ...]

    @property
    def class_counts(self) -> list[int]:
        """One per class: the file does not tell how often its data had each."""
        return [1] * self.config.model.num_classes


def open_published(path: epath.PathLike) -> Published:
    """Reads a released file; UserError, one line, where it is none or cannot be expressed."""
    with opened(path) as content:
        try:
            return _convert(content)
        except (UserError, *DAMAGE) as error:
            reason = " ".join((str(error) or type(error).__name__).split())
            raise UserError(f"{path}: {reason}") from None


def _convert(content: Any) -> Published:
    if not isinstance(content, dict):
        raise UserError("no released checkpoint: it is no dictionary")
    for name in NETWORKS:
        network = content.get(name)
        if not isinstance(network, Inert) or not isinstance(network.state, dict):
            raise UserError(f"no released checkpoint: it has no network {name!r}")
    config, notes = _config(content)
    arrays = {name: state_dict(content[name]) for name in NETWORKS}
    for network in arrays.values():  # where StyleGAN2-ADA has what INR-GAN's code calls an input
        if (constant := network.pop("synthesis.b4.const", None)) is not None:
            network["synthesis.b4.input.input"] = constant
    networks = networks_of(config.model, config.discriminator)
    g, buffers = jax.eval_shape(networks.init_generator, jax.random.key(0))
    d = jax.eval_shape(networks.init_discriminator, jax.random.key(0))
    for name, template, network in (
        ("G", (g, buffers), "generator"),
        ("G_ema", (g, buffers), "generator"),
        ("D", (d,), "discriminator"),
    ):
        left = [n for n in arrays[name] if n != "mapping.w_avg" and not n.endswith(_DERIVED)]
        for part in template:
            left = unused(left, part, network=network)
        if left:
            raise UserError(f"{name} has an array {left[0]} that {config.model.family} has not")
    w_avg = np.asarray(arrays["G_ema"].get("mapping.w_avg"), np.float32)
    if w_avg.shape != (config.model.w_dim,):
        raise UserError(f"G_ema has no mapping.w_avg of {config.model.w_dim} numbers")
    w_avg = np.broadcast_to(w_avg, config.model.w_avg_shape)  # one for all classes
    g_buffers, ema_buffers = (_filled(arrays[n], buffers, "generator") for n in ("G", "G_ema"))
    if not all(jax.tree.leaves(jax.tree.map(np.array_equal, g_buffers, ema_buffers))):
        notes = (*notes, "G and G_ema differ in arrays that are never trained; both take G_ema's")
    return Published(
        config=config,
        g=_filled(arrays["G"], g, "generator"),
        g_ema=_filled(arrays["G_ema"], g, "generator"),
        d=_filled(arrays["D"], d, "discriminator"),
        g_buffers=g_buffers,
        ema_buffers=ema_buffers,
        w_avg=w_avg,
        notes=notes,
    )


def _filled(arrays: dict[str, np.ndarray], template: dict, network: str) -> dict:
    filled = from_published(arrays, template, network=network)
    return jax.tree.map(lambda a: np.ascontiguousarray(a, np.float32).reshape(a.shape), filled)


def _config(content: dict) -> tuple[Config, tuple[str, ...]]:
    """The whole configuration: networks and data from the file, the recipe from the release."""
    arguments = {}
    for name in NETWORKS:
        state = content[name].state
        arguments[name] = state.get("_init_kwargs")
        if not isinstance(arguments[name], dict) or state.get("_init_args"):
            raise UserError(f"{name} does not keep its constructor's arguments by name")
    if arguments["G"] != arguments["G_ema"]:
        raise UserError("G and G_ema were made with different arguments")
    fields = generator_fields if "cfg" in arguments["G_ema"] else ada_fields
    family, model, classes, notes = fields(arguments["G_ema"])
    discriminator, more = discriminator_fields(arguments["D"], model, classes)
    config = base(family, **model)
    config.discriminator.update(discriminator)
    data = content.get("training_set_kwargs")
    data = data if isinstance(data, dict) else {}
    path = data.get("path")
    config.data.source = path if isinstance(path, str) and path else "unknown"
    config.data.labels = classes > 0
    config.data.mirror = bool(data.get("xflip", True))
    config.train.ema_rampup = 0.0  # the average in the file goes on; a ramp-up would drop it
    if family == "stylegan2":
        config.train.path_weight, config.train.mixing_prob = 2.0, 0.9
    unit = math.lcm(discriminator["group"] or 1, 2)
    config.train.batch_size = -(-config.train.batch_size // unit) * unit  # whole groups
    if model["height"] >= 1024:
        config.train.g_lr = config.train.d_lr = 0.002
    return parse(config, num_classes=classes), (*notes, *more)
