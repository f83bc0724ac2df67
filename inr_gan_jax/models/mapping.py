"""The mapping network: latent and class -> w, and what is done to w before it becomes styles."""

import jax
import jax.numpy as jnp
from flax import nnx

from inr_gan_jax.models.layers import Dense, lrelu, normalize

W_AVG_DECAY = 0.995


class Mapping(nnx.Module):
    """z `[B, z_dim]` and one-hot classes `[B, num_classes]` -> w `[B, w_dim]`.

    Both inputs are normalised and concatenated, then pass equalised dense layers with learning-rate
    multiplier 0.01 (Karras et al. 2019, section 2; 2020b for classes). `z_dim = 0` maps classes
    alone, `num_classes = 0` latents alone.
    """

    def __init__(self, z_dim: int, num_classes: int, w_dim: int, layers: int, *, rngs: nnx.Rngs):
        if num_classes:
            self.embed = Dense(num_classes, w_dim, rngs=rngs)
        inputs = z_dim + (w_dim if num_classes else 0)
        for i in range(layers):
            dense = Dense(inputs if i == 0 else w_dim, w_dim, rngs=rngs, lr_mult=0.01)
            setattr(self, f"dense{i}", dense)
        self.layers = layers

    def __call__(self, z_bz: jax.Array | None, classes_bc: jax.Array | None = None) -> jax.Array:
        inputs = [] if z_bz is None else [normalize(z_bz)]
        if classes_bc is not None:
            inputs.append(normalize(self.embed(classes_bc)))
        w_bw = jnp.concatenate(inputs, axis=-1)
        for i in range(self.layers):
            w_bw = lrelu(getattr(self, f"dense{i}")(w_bw))
        return w_bw


class _Linear(nnx.Module):
    """Affine map with PyTorch's default initialisation, U(-1, 1) / sqrt(in)."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs, residual: bool):
        def draw(shape):
            return rngs.uniform(shape, minval=-1.0) / inputs**0.5

        self.weight = nnx.Param(draw((outputs, inputs)))
        self.bias = nnx.Param(draw((outputs,)))
        if residual:
            self.alpha = nnx.Param(jnp.asarray(0.1))
        self.residual = residual

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.nn.relu(x @ self.weight[...].T + self.bias[...])
        return x + self.alpha[...] * y if self.residual else y


class ResidualMapping(nnx.Module):
    """The trunk of the paper's hypernetwork: z -> w; layers are residual from the second on."""

    def __init__(self, z_dim: int, w_dim: int, layers: int, *, rngs: nnx.Rngs):
        for i in range(layers):
            dense = _Linear(w_dim if i else z_dim, w_dim, rngs=rngs, residual=i > 0)
            setattr(self, f"dense{i}", dense)
        self.layers = layers

    def __call__(self, z_bz: jax.Array, classes_bc: None = None) -> jax.Array:
        for i in range(self.layers):
            z_bz = getattr(self, f"dense{i}")(z_bz)
        return z_bz


def class_sums(w_bw: jax.Array, classes_bc: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """What a batch adds to the running means of w: (sum of w, number of images), over B.

    `[C, w_dim]` and `[C]` with one-hot classes; `[w_dim]` and a number without.
    """
    if classes_bc is None:
        return jnp.mean(w_bw, axis=0), jnp.ones(())
    return classes_bc.T @ w_bw / len(w_bw), jnp.mean(classes_bc, axis=0)


def update_w_avg(w_avg: jax.Array, sums: jax.Array, counts: jax.Array) -> jax.Array:
    """The running mean of w, `[w_dim]`, or of each class, `[C, w_dim]` (see `class_sums`).

    0.995 of the old and 0.005 of the batch's mean; a class that is not in the batch stays.
    """
    counts = counts[..., None]
    mean = sums / jnp.where(counts > 0, counts, 1)
    return jnp.where(counts > 0, W_AVG_DECAY * w_avg + (1 - W_AVG_DECAY) * mean, w_avg)


def broadcast_styles(w_bw: jax.Array, num_styles: int) -> jax.Array:
    """The same w for every layer: `[B, w_dim] -> [B, L, w_dim]`."""
    return jnp.broadcast_to(w_bw[:, None], (len(w_bw), num_styles, w_bw.shape[-1]))


def truncate(
    ws_blw: jax.Array,
    w_avg: jax.Array,
    psi: float,
    cutoff: int | None = None,
    classes_bc: jax.Array | None = None,
) -> jax.Array:
    """Truncation trick: w_avg + psi (w - w_avg), on the first `cutoff` styles only if given.

    Toward one mean `w_avg` `[w_dim]`, or toward the mean of each image's class (`[C, w_dim]` and
    one-hot classes): the mean of all classes is no image of any.
    """
    centre = w_avg if classes_bc is None or w_avg.ndim == 1 else (classes_bc @ w_avg)[:, None]
    truncated = centre + psi * (ws_blw - centre)
    if cutoff is None:
        return truncated
    below = jnp.arange(ws_blw.shape[1])[:, None] < cutoff
    return jnp.where(below, truncated, ws_blw)


def mix_styles(ws_blw: jax.Array, other_blw: jax.Array, crossover) -> jax.Array:
    """Style mixing: the styles of `other` from layer `crossover` on (may be a traced integer)."""
    below = jnp.arange(ws_blw.shape[1])[:, None] < crossover
    return jnp.where(below, ws_blw, other_blw)
