"""Both networks of a configuration in halves: static definitions here, arrays elsewhere.

With its arrays (plain nested dicts) a definition becomes a module again, also under jit.
"""

from dataclasses import dataclass

import jax
from flax import nnx

from inr_gan_jax.models.discriminator import Discriminator, DiscriminatorConfig
from inr_gan_jax.models.families import GeneratorConfig, inr_spec
from inr_gan_jax.models.generator import Generator
from inr_gan_jax.models.layers import Buffer, Draws
from inr_gan_jax.models.parameters import InrSpec


@dataclass(frozen=True)
class Networks:
    """The static halves of generator and discriminator."""

    generator_config: GeneratorConfig
    discriminator_config: DiscriminatorConfig
    generator_def: nnx.GraphDef
    discriminator_def: nnx.GraphDef
    num_styles: int

    @property
    def spec(self) -> InrSpec | None:
        """The coordinate network's structure; None for the StyleGAN2 baseline, which is none."""
        config = self.generator_config
        return None if config.family == "stylegan2" else inr_spec(config)

    def generator(self, params: dict, buffers: dict) -> Generator:
        """The generator with these arrays."""
        return nnx.merge(self.generator_def, params, buffers)

    def discriminator(self, params: dict) -> Discriminator:
        """The discriminator with these arrays."""
        return nnx.merge(self.discriminator_def, params)

    def init_generator(self, key: jax.Array) -> tuple[dict, dict]:
        """Fresh (parameters, buffers); call it under jit or eval_shape."""
        return split(_drawn(Generator, self.generator_config, key))[1:]

    def init_discriminator(self, key: jax.Array) -> dict:
        """Fresh parameters; call it under jit or eval_shape."""
        return split(_drawn(Discriminator, self.discriminator_config, key))[1]


def networks_of(generator: GeneratorConfig, discriminator: DiscriminatorConfig) -> Networks:
    """The networks of a configuration, without making any array; ValueError if there are none."""
    g = nnx.eval_shape(lambda: Generator(generator, rngs=Draws()))
    d = nnx.eval_shape(lambda: Discriminator(discriminator, rngs=Draws()))
    return Networks(generator, discriminator, split(g)[0], split(d)[0], g.num_styles)


def _drawn(module: type[nnx.Module], config, key: jax.Array) -> nnx.Module:
    counted = Draws()
    nnx.eval_shape(lambda: module(config, rngs=counted))
    return module(config, rngs=Draws(key, counted.taken))


def split(module: nnx.Module) -> tuple[nnx.GraphDef, dict, dict]:
    """(definition, trained parameters, buffers), the latter two plain nested dicts of arrays."""
    graphdef, params, buffers = nnx.split(module, nnx.Param, Buffer)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(buffers)


def count_parameters(params: dict) -> int:
    """Number of trained values in a nested dict of arrays (or of their shapes)."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
