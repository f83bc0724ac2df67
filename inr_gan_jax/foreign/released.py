"""Checkpoints of INR-GAN's code and of its parent, StyleGAN2-ADA: pickled networks.

The file's own constructor arguments decide everything; what they ask for and our configuration
cannot say is an error, never a guess. Arrays that nothing would use are an error too.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from inr_gan_jax.config import Config, base, parse
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.opcodes import Inert
from inr_gan_jax.foreign.published import Published, own
from inr_gan_jax.foreign.settings import (
    ada_fields,
    discriminator_fields,
    generator_fields,
    require_plain,
)
from inr_gan_jax.foreign.unpickle import state_dict
from inr_gan_jax.foreign.weights import from_published, unused
from inr_gan_jax.models.networks import networks_of

NETWORKS = ("G", "D", "G_ema")
# Computed here, or kept elsewhere, under other names or none.
_DERIVED = (".resample_filter", ".log_basis")


def is_network(value: Any) -> bool:
    """Whether a part of a file's content is a pickled network."""
    return isinstance(value, Inert) and isinstance(value.state, dict)


def convert(content: dict) -> Published:
    """A dictionary of networks, `G_ema` at least; UserError for what cannot be expressed."""
    there = [name for name in NETWORKS if content.get(name) is not None]
    for name in there:
        if not is_network(content[name]):
            raise UserError(f"no released checkpoint: its {name!r} is no network")
    complete = len(there) == len(NETWORKS)
    alone = ()
    if not complete:
        alone = tuple(f"{name} is left out: training needs G, D and G_ema" for name in there[:-1])
        there = ["G_ema"]
    state = content["G_ema"].state.get("_init_kwargs")
    system = "INR-GAN's code" if isinstance(state, dict) and "cfg" in state else "StyleGAN2-ADA"
    try:
        published = _converted(content, there, complete, system)
        return dataclasses.replace(published, notes=(*published.notes, *alone))
    except UserError as error:
        named = f"a checkpoint of {system}, but "
        raise UserError(str(error) if "checkpoint" in str(error) else f"{named}{error}") from None


def _converted(content: dict, there: list[str], complete: bool, system: str) -> Published:
    config, notes = _config(content, there)
    arrays = {name: state_dict(content[name]) for name in there}
    for network in arrays.values():  # where StyleGAN2-ADA has what INR-GAN's code calls an input
        if (constant := network.pop("synthesis.b4.const", None)) is not None:
            network["synthesis.b4.input.input"] = constant
    networks = networks_of(config.model, config.discriminator)
    g, buffers = jax.eval_shape(networks.init_generator, jax.random.key(0))
    d = jax.eval_shape(networks.init_discriminator, jax.random.key(0))
    for name in there:
        template, network = ((d,), "discriminator") if name == "D" else ((g, buffers), "generator")
        left = [n for n in arrays[name] if n != "mapping.w_avg" and not n.endswith(_DERIVED)]
        for part in template:
            left = unused(left, part, network=network)
        if left:
            raise UserError(f"{name} has an array {left[0]} that {config.model.family} has not")
    w_avg = np.asarray(arrays["G_ema"].get("mapping.w_avg"))
    if w_avg.shape != (config.model.w_dim,):
        raise UserError(f"G_ema has no mapping.w_avg of {config.model.w_dim} numbers")
    w_avg = np.asarray(own(w_avg))

    def filled(name: str, template: dict, network: str = "generator") -> dict:
        return from_published(arrays[name], template, network=network, of=own)

    kept = filled("G_ema", buffers)
    g_buffers = filled("G", buffers) if complete else kept
    if not all(jax.tree.leaves(jax.tree.map(np.array_equal, g_buffers, kept))):
        notes = (*notes, "G and G_ema differ in arrays that are never trained; both take G_ema's")
    return Published(
        system=system,
        config=config,
        g=filled("G", g) if complete else None,
        g_ema=filled("G_ema", g),
        d=filled("D", d, "discriminator") if complete else None,
        buffers=kept,
        g_buffers=g_buffers,
        w_avg=np.broadcast_to(w_avg, config.model.w_avg_shape),  # one for all classes
        notes=notes,
    )


def _config(content: dict, there: list[str]) -> tuple[Config, tuple[str, ...]]:
    """(configuration, notes): networks and data from the file, the recipe as released."""
    arguments = {}
    for name in there:
        state = content[name].state
        arguments[name] = state.get("_init_kwargs")
        if not isinstance(arguments[name], dict) or state.get("_init_args"):
            raise UserError(f"{name} does not keep its constructor's arguments by name")
        require_plain(arguments[name])
    if arguments.get("G", arguments["G_ema"]) != arguments["G_ema"]:
        raise UserError("G and G_ema were made with different arguments")
    fields = generator_fields if "cfg" in arguments["G_ema"] else ada_fields
    family, model, classes, notes = fields(arguments["G_ema"])
    config, discriminator, more = base(family, **model), {}, ()
    if "D" in arguments:
        discriminator, more = discriminator_fields(arguments["D"], model, classes)
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
    unit = math.lcm(discriminator.get("group") or 1, 2)
    config.train.batch_size = -(-config.train.batch_size // unit) * unit  # whole groups
    if model["height"] >= 1024:
        config.train.g_lr = config.train.d_lr = 0.002
    return parse(config, num_classes=classes), (*notes, *more)
