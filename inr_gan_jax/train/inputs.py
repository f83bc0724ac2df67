"""What a phase works on: the latents it draws, and its rows of the real images.

Random keys are folds of (seed, phase, iteration, image), so a resumed run needs no stored key, and
how a batch is spread over devices and microbatches changes nothing.
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from inr_gan_jax.models.networks import Networks
from inr_gan_jax.runtime.sharding import AXES
from inr_gan_jax.train.accumulate import split
from inr_gan_jax.train.recipe import Phase, Recipe
from inr_gan_jax.train.state import TrainState

# Purposes of a phase's key beside the latents': the i-th of n split keys is fold_in(key, i).
FAKE, REAL, NOISE, NUDGE, JITTER = 4, 5, 6, 7, 100


def to_floats(images: jax.Array) -> jax.Array:
    """uint8 -> [-1, 1]."""
    return images.astype(float) / 127.5 - 1


class Inputs:
    """Draws for a device of the mesh: all arrays are its part of a batch, split in microbatches."""

    def __init__(self, recipe: Recipe, networks: Networks, mesh: Mesh):
        self.recipe, self.networks, self.mesh = recipe, networks, mesh

    def key(self, state: TrainState, phase: Phase, purpose: int | None = None) -> jax.Array:
        """That of a phase of this iteration, or of one of its purposes."""
        key = jax.random.fold_in(jax.random.key(self.recipe.seed), 2 + phase)
        key = jax.random.fold_in(key, state.iteration)
        return key if purpose is None else jax.random.fold_in(key, purpose)

    def image_keys(self, key: jax.Array, size: int) -> jax.Array:
        """A key for each of this device's images of a batch of `size`, by their places in it."""
        own = size // self.mesh.size
        places = jax.lax.axis_index(AXES) * own + jnp.arange(own)
        return jax.vmap(jax.random.fold_in, (None, 0))(key, places)

    def normal(self, key: jax.Array, size: int, shape: tuple[int, ...]) -> jax.Array:
        """N(0, 1) of a shape for each of this device's images of a batch of `size`."""
        draw = jax.vmap(lambda key: jax.random.normal(key, shape))
        return draw(self.image_keys(key, size))

    def latents(self, state: TrainState, phase: Phase, size: int, batch: dict) -> dict:
        """Inputs of the generator for one phase: this device's part of `size` images.

        Patches have the windows of the batch's real images.
        """
        config = self.networks.generator_config
        z_key, class_key, mix_key, noise_key = jax.random.split(self.key(state, phase), 4)
        z = self.normal(z_key, size, (config.z_dim,))
        inputs = {"z": z, "classes": None, "noise_keys": None, "jitter_keys": None}
        inputs["fake_keys"] = self.augment_keys(state, phase, FAKE, size)
        if config.num_classes:
            logits = jnp.log(jnp.asarray(self.recipe.class_counts, float))
            keys = self.image_keys(class_key, size)
            classes = jax.vmap(lambda key: jax.random.categorical(key, logits))(keys)
            inputs["classes"] = jax.nn.one_hot(classes, config.num_classes)
        if config.has_noise:
            inputs["noise_keys"] = self.image_keys(noise_key, size)
        inputs["windows"] = None
        if self.recipe.patches:  # of half a batch every second one: on any number of devices alike
            inputs["windows"] = batch["window"][:: len(batch["window"]) // len(z)]
        if self.recipe.jitter:
            inputs["jitter_keys"] = self.image_keys(self.key(state, phase, JITTER), size)
        if self.recipe.mixing_prob > 0:
            other_key, cut_key, coin_key = jax.random.split(mix_key, 3)
            styles = self.networks.num_styles
            cut = jax.random.randint(cut_key, (), 1, styles)
            mixed = jax.random.uniform(coin_key) < self.recipe.mixing_prob
            inputs["mix_z"] = self.normal(other_key, size, (config.z_dim,))
            inputs["mix_from"] = jnp.full((len(z),), jnp.where(mixed, cut, styles))
        return split(inputs, self.recipe.microbatches)

    def real(self, state: TrainState, phase: Phase, batch: dict) -> dict:
        """Real images (uint8) and one-hot labels of one phase."""
        classes = self.networks.generator_config.num_classes
        inputs = {"real": batch["image"], "real_classes": None}
        inputs["real_keys"] = self.augment_keys(state, phase, REAL, self.recipe.batch_size)
        if classes:
            inputs["real_classes"] = jax.nn.one_hot(batch["label"], classes)
        return split(inputs, self.recipe.microbatches)

    def pairs(self, state: TrainState, phase: Phase, batch: dict) -> dict:
        """Latents and real images of one phase.

        Where the loss compares them in pairs, both of a pair have one class and one augmentation.
        """
        inputs = self.latents(state, phase, self.recipe.batch_size, batch)
        inputs |= self.real(state, phase, batch)
        if self.recipe.loss == "relativistic":
            inputs |= {"classes": inputs["real_classes"], "real_keys": inputs["fake_keys"]}
        return inputs

    def augment_keys(self, state: TrainState, phase: Phase, purpose: int, size: int):
        """A key for each image, so that what happens to one does not depend on the others.

        None where images are not augmented.
        """
        if not self.recipe.pipeline:
            return None
        return self.image_keys(self.key(state, phase, purpose), size)
