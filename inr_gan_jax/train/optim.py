"""Optimisers: Adam, corrected for lazy regularisation."""

import jax
import jax.numpy as jnp
import optax


def lazy_adam(
    learning_rate: float | jax.Array,
    *,
    b1: float = 0.0,
    b2: float | jax.Array = 0.99,
    eps: float = 1e-8,
    interval: int = 0,
    shared_learning_rate: float | jax.Array | None = None,
) -> optax.GradientTransformation:
    """Adam for a network whose regulariser runs every `interval` iterations (0: none is lazy).

    Main and regularisation phases share their moments, so both see c = k / (k + 1) of the steps
    they would see apart: learning rate times c, betas to the power c (Karras et al. 2020, app. B).
    `shared_learning_rate` is for weights that all images share where the hypernetwork emits the
    rest (the paper's generator: parameters under `hypernet/block*`); None is one rate for all.
    """
    c = interval / (interval + 1) if interval else 1.0

    def adam(rate):
        if b1 == 0:  # Adam without a first moment to store: a third of the optimiser's memory less
            scale = optax.scale_by_rms(b2**c, eps=eps, eps_in_sqrt=False, bias_correction=True)
            return optax.chain(scale, optax.scale_by_learning_rate(rate * c))
        return optax.adam(rate * c, b1**c, b2**c, eps)

    if shared_learning_rate is None:
        return adam(learning_rate)

    def labels(params):
        def label(path, _):
            keys = [str(key.key) for key in path]
            shared = keys[0] == "hypernet" and keys[1].startswith("block")
            return "shared" if shared else "other"

        return jax.tree_util.tree_map_with_path(label, params)

    transforms = {"shared": adam(shared_learning_rate), "other": adam(learning_rate)}
    return optax.partition(transforms, labels)


def slow_tables(updates: dict, factor: float) -> dict:
    """A generator's updates, those of learned tables times a factor."""
    if factor == 1:
        return updates

    def slowed(path, update):
        return update * factor if path[-1].key == "table" else update

    return jax.tree_util.tree_map_with_path(slowed, updates)


def replace_nonfinite(gradients) -> tuple[dict, jax.Array]:
    """NaN -> 0 and infinities -> +-1e5, and how many values were so, int32 (released recipe)."""
    bad = sum(jnp.sum(~jnp.isfinite(g), dtype=jnp.int32) for g in jax.tree.leaves(gradients))
    clean = jax.tree.map(lambda g: jnp.nan_to_num(g, nan=0.0, posinf=1e5, neginf=-1e5), gradients)
    return clean, bad


def power_decay(batch_size: int, images, exponent: float) -> jax.Array:
    """Decay of a step, before which `images` were seen, whose average has weights like t^exponent.

    (1 - batch / t)^(exponent + 1) (Karras et al. 2024, equation 122); 0 at the first step.
    """
    return (images / (images + batch_size)) ** (exponent + 1.0)


def ema_decay(batch_size: int, images, ema_kimg: float, rampup: float) -> jax.Array:
    """Decay per step of the parameter average: its half-life is `ema_kimg` thousand images.

    With `rampup` above 0 the half-life is at most that part of the images seen, so that early
    averages forget the start: 0.5^(batch / max(min(ema_kimg * 1000, images * rampup), 1e-8)).
    """
    half_life = jnp.asarray(ema_kimg * 1000.0, float)
    if rampup:
        half_life = jnp.minimum(half_life, images * rampup)
    return 0.5 ** (batch_size / jnp.maximum(half_life, 1e-8))
