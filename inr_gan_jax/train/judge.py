"""How D judges images: augmented, in one batch, and penalised for slopes that are too steep."""

import jax
import jax.numpy as jnp
from jax.tree_util import tree_map_with_path

from inr_gan_jax.config.augmentations import PSEUDO
from inr_gan_jax.models.discriminator import layer_paths
from inr_gan_jax.models.networks import Networks
from inr_gan_jax.models.products import at_least_float32
from inr_gan_jax.train import losses
from inr_gan_jax.train.accumulate import split
from inr_gan_jax.train.augment import augment
from inr_gan_jax.train.inputs import NUDGE, Inputs
from inr_gan_jax.train.recipe import Phase, Recipe
from inr_gan_jax.train.state import TrainState

PENALTIES = {"fake": "r2", "real": "r1"}  # on which images, and its name


class Judge:
    """A recipe's discriminator. `images` are `{"fake": ..., "real": ...}` or one of them.

    Generated images are lists of all that D sees, the image last; real ones are made smaller here.
    `inputs` are those of the images (see train.inputs), one microbatch.
    """

    def __init__(self, recipe: Recipe, networks: Networks, *, folded: bool = False):
        """`folded`: see models.folded."""
        self.recipe, self.networks, self.dtype = recipe, networks, jnp.dtype(recipe.dtype)
        self.folded = folded
        self.frozen = layer_paths(networks.discriminator_config)[: recipe.freeze_d]

    def logits(self, d: dict, images: dict, inputs: dict, p, dtype=None, *, along=False):
        """Logits of `fake` or `real` images in [-1, 1], or of both, augmented with probability p.

        Those of both are one batch, of which no group of the minibatch's deviation mixes kinds.
        `dtype`: other than the recipe's. `along`: see Discriminator.
        """
        pipeline, names = self.recipe.pipeline, {"fake": "classes", "real": "real_classes"}
        sizes = self.networks.discriminator_config.levels
        if "real" in images:
            real = images["real"]
            smaller = [losses.reduced(real, size) for size in sizes]
            images = images | {"real": [*smaller, real]}
        if pipeline and pipeline != PSEUDO:  # at every size alike
            images = {
                k: [augment(x, inputs[f"{k}_keys"], p, pipeline) for x in levels]
                for k, levels in images.items()
            }
        discriminator = self.networks.discriminator(tree_map_with_path(self._frozen, d))
        classes = [inputs[names[kind]] for kind in images]
        *smaller, whole = map(jnp.concatenate, zip(*images.values(), strict=True))
        return discriminator(
            whole,
            None if classes[0] is None else jnp.concatenate(classes),
            smaller,
            dtype=dtype or self.dtype,
            remat=self.recipe.remat,
            folded=self.folded,
            along=along,
            largest_group=min(len(levels[-1]) for levels in images.values()),
        )

    def pseudo(self, real: jax.Array, fake: list, inputs: dict, p) -> tuple[jax.Array, dict]:
        """(real images, with probability p generated ones in their place, the inputs of these).

        Jiang et al. 2021, "Deceive D": adaptive pseudo augmentation.
        """
        shown = jax.vmap(jax.random.uniform)(inputs["real_keys"]) < p
        images = jnp.where(shown[:, None, None, None], jax.lax.stop_gradient(fake[-1]), real)
        if inputs["classes"] is None:
            return images, inputs
        classes = jnp.where(shown[:, None], inputs["classes"], inputs["real_classes"])
        return images, inputs | {"real_classes": classes}

    def _frozen(self, path, parameter: jax.Array) -> jax.Array:
        """Layers that are not to learn have no gradient, and with it no Adam step."""
        names = tuple(key.key for key in path)
        fixed = any(names[: len(layer)] == layer for layer in self.frozen)
        return jax.lax.stop_gradient(parameter) if fixed else parameter

    def penalty(self, d: dict, images: dict, inputs: dict, state: TrainState, times: int = 1):
        """(gammas / 2 times the mean penalties, `times` that, the penalties by name).

        With respect to the images before augmentation (Karras et al. 2020b).
        """
        r = self.recipe

        def judge(images):
            return self.logits(d, images, inputs, state.ada_p)

        images = {kind: x for kind, x in images.items() if kind in r.gammas}
        if r.penalty == "exact":
            penalties = losses.gradient_penalties(judge, images)
            means = {k: sum(map(jnp.mean, jax.tree.leaves(p))) for k, p in penalties.items()}
        else:
            means = self._by_differences(d, images, inputs, state.ada_p)
        factors = {kind: 0.5 * r.gammas[kind](state.images) * times for kind in means}
        value = sum(factors[kind] * mean for kind, mean in means.items())
        return value, {f"{PENALTIES[kind]}/penalty": mean for kind, mean in means.items()}

    def _by_differences(self, d: dict, images: dict, inputs: dict, p) -> dict:
        """Mean penalties on the first quarter of the images, in whole groups, in float32."""
        group = min(self.networks.discriminator_config.group, len(inputs["real"]))
        few = max(len(inputs["real"]) // 4 // group, 1) * group
        inputs = jax.tree.map(lambda x: x[:few], inputs)
        images = jax.lax.stop_gradient(jax.tree.map(lambda x: x[:few], images))

        def judge(images):  # bfloat16 has no digits left for a difference
            return self.logits(d, images, inputs, p, at_least_float32(self.dtype))

        noise = {kind: inputs[f"{kind}_nudge"] for kind in images}
        penalties = losses.difference_penalties(judge, images, noise)
        means = map(jnp.mean, jnp.split(penalties, len(images)))
        return dict(zip(images, means, strict=True))

    def nudges(self, inputs: Inputs, state: TrainState, phase: Phase) -> dict:
        """Noise for penalties by differences."""
        r, config = self.recipe, self.networks.generator_config
        if r.penalty == "exact":
            return {}
        size = (config.height, config.width)
        sizes = {"real": [size], "fake": [*self.networks.discriminator_config.levels, size]}

        def drawn(kind, number):
            keys = [NUDGE + number + len(PENALTIES) * i for i in range(len(sizes[kind]))]
            noise = [
                inputs.normal(inputs.key(state, phase, key), r.batch_size, (*size, config.channels))
                for key, size in zip(keys, reversed(sizes[kind]), strict=True)
            ]
            return noise[0] if kind == "real" else noise[::-1]

        noise = {
            f"{kind}_nudge": drawn(kind, number)
            for number, kind in enumerate(PENALTIES)
            if kind in r.gammas
        }
        return split(noise, r.microbatches)
