"""Loss terms, one pure function each. R1 and path length take the network as a callable."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def generator_loss(logits: jax.Array) -> jax.Array:
    """Non-saturating logistic loss of G: mean softplus(-D(G(z))) (Goodfellow et al. 2014).

    Relativistic, `logits` are D(G(z)) - D(x) of pairs (Jolicoeur-Martineau 2018).
    """
    return jnp.mean(jax.nn.softplus(-logits))


def alignment(levels: list[jax.Array]) -> jax.Array:
    """How far smaller images are from the last one's mean over their pixels: a mean of squares.

    `levels` `[B, h, w, C]`, each of whole pixels of the last, and their mean over levels.
    """
    *smaller, image = levels
    differences = [jnp.mean(jnp.square(x - reduced(image, x.shape[1:3]))) for x in smaller]
    return sum(differences) / len(differences)


def reduced(images_bhwc: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Means over whole pixels of a smaller size (height, width)."""
    b, h, w, c = images_bhwc.shape
    return images_bhwc.reshape(b, size[0], h // size[0], size[1], w // size[1], c).mean((2, 4))


def discriminator_loss(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Logistic loss of D: mean softplus(D(G(z))) + mean softplus(-D(x))."""
    return jnp.mean(jax.nn.softplus(fake_logits)) + jnp.mean(jax.nn.softplus(-real_logits))


def lecam(real_logits: jax.Array, fake_logits: jax.Array, means: dict) -> jax.Array:
    """How far logits are from the other kind's running mean (Tseng et al. 2021, equation 5).

    `means`: of `real` and `fake` logits.
    """
    above = jnp.square(jax.nn.relu(real_logits - means["fake"]))
    below = jnp.square(jax.nn.relu(means["real"] - fake_logits))
    return jnp.mean(above) + jnp.mean(below)


def moved_mean(mean: jax.Array, now: jax.Array) -> jax.Array:
    """LeCam's running mean after one more batch, unless that one's own is no number."""
    return jnp.where(jnp.isfinite(now), 0.99 * mean + 0.01 * now, mean)


def relativistic_loss(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Loss of D on pairs: mean softplus(-(D(x) - D(G(z)))) (Jolicoeur-Martineau 2018)."""
    return jnp.mean(jax.nn.softplus(fake_logits - real_logits))


def gradient_penalties(discriminate: Callable, images):
    """|d sum D(x) / dx|^2 of each image, `[B]` (Mescheder et al. 2018, equation 9).

    `discriminate` maps images `[B, H, W, C]`, or a dict of such, to logits `[B]`; the loss is
    gamma / 2 times the mean. Of real images the penalty is called R1, of generated ones R2.
    """
    gradients = jax.grad(lambda x: jnp.sum(discriminate(x)))(images)
    return jax.tree.map(lambda g: jnp.sum(jnp.square(g), axis=(1, 2, 3)), gradients)


STEP = 0.01  # of differences, in units of images in [-1, 1]


def difference_penalties(discriminate: Callable, images, noise) -> jax.Array:
    """The same, estimated without second derivatives: `[B]`, of all images in their order.

    ((D(x + STEP n) - D(x)) / STEP)^2 with `noise` n of N(0, 1), of the images' shape, has
    |dD(x) / dx|^2 as its mean but for terms of STEP^2.
    """
    moved = jax.tree.map(lambda x, n: x + STEP * n, images, noise)
    return jnp.square((discriminate(moved) - discriminate(images)) / STEP)


def path_lengths(
    synthesize: Callable[[jax.Array], jax.Array], ws_blw: jax.Array, noise_bhwc: jax.Array
) -> jax.Array:
    """How far an image moves when its styles do, `[B]` (Karras et al. 2020, section 3.2).

    Root of the mean over layers of the squared norm of the gradient of <image, noise> with respect
    to each style. `noise` is N(0, 1) / sqrt(H W), of the images' shape `[B, H, W, C]`.
    """
    gradients = jax.grad(lambda ws: jnp.sum(synthesize(ws) * noise_bhwc))(ws_blw)
    return jnp.sqrt(jnp.mean(jnp.sum(jnp.square(gradients), axis=2), axis=1))


def path_mean(running_mean: jax.Array, batch_mean: jax.Array) -> jax.Array:
    """The running mean of path lengths after one more batch."""
    return running_mean + 0.01 * (batch_mean - running_mean)


def path_penalties(lengths_b: jax.Array, running_mean: jax.Array) -> jax.Array:
    """Squared deviation of each path length from its running mean, `[B]`."""
    return jnp.square(lengths_b - running_mean)
