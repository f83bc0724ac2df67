"""Generators: a mapping network, a hypernetwork and a coordinate network, joined."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from inr_gan_jax.models import inr, practice
from inr_gan_jax.models.families import GeneratorConfig, check, inr_spec
from inr_gan_jax.models.hypernet import FlatHypernet, Hypernet, num_styles
from inr_gan_jax.models.layers import one_by_one
from inr_gan_jax.models.mapping import Mapping, ResidualMapping
from inr_gan_jax.models.parameters import InrParams
from inr_gan_jax.models.stylegan2 import Synthesis


class Generator(nnx.Module):
    """Latents -> w -> styles -> images, of any family.

    For the coordinate families the image is `inr.grid(hypernet(ws))` and nothing else.
    """

    def __init__(self, config: GeneratorConfig, *, rngs: nnx.Rngs):
        check(config)
        self.config = config
        sizes = (config.z_dim, config.num_classes, config.w_dim, config.mapping_layers)
        if config.family == "paper":
            self.mapping = ResidualMapping(sizes[0], *sizes[2:], rngs=rngs)
        else:
            self.mapping = Mapping(*sizes, rngs=rngs)
        if config.family == "stylegan2":
            self.synthesis = Synthesis(config, rngs=rngs)
            self.num_styles = self.synthesis.num_styles
        else:
            spec = inr_spec(config)
            make = FlatHypernet if config.family == "paper" else Hypernet
            self.hypernet = make(spec, w_dim=config.w_dim, rank=config.rank, rngs=rngs)
            self.num_styles = 1 if config.family == "paper" else num_styles(spec)

    def inr_params(self, ws_blw: jax.Array) -> InrParams:
        """Styles `[B, L, w_dim]` -> the parameters of B coordinate networks."""
        if self.config.family == "stylegan2":
            inr_spec(self.config)  # raises: there is none
        return self.hypernet(ws_blw)

    def image(
        self,
        ws_blw: jax.Array,
        *,
        dtype=jnp.float32,
        noise_keys=None,
        remat: bool = False,
        training: bool = False,
        grid: Callable[..., jax.Array] = inr.grid,
    ) -> jax.Array:
        """Styles `[B, L, w_dim]` -> images `[B, H, W, C]`, float32, about [-1, 1], unclipped.

        `noise_keys` `[B]` draw noise anew; with None the StyleGAN2 baseline takes its fixed noise,
        CIPS none. `training`: as training makes them (see inr.drawn_one). With `remat` images are
        made one at a time, and gradients make each again. `grid` evaluates coordinate networks
        (InrParams, dtype): inr.grid, or one that does the same by kernels.
        """
        if remat:
            options = {"dtype": dtype, "training": training, "grid": grid}

            def make(ws, keys):
                return self.image(ws, noise_keys=keys, **options)

            return one_by_one(make, (ws_blw, noise_keys))
        if self.config.family == "stylegan2":
            return self.synthesis(ws_blw, dtype=dtype, noise_keys=noise_keys)
        params = self.hypernet(ws_blw)
        if self.config.has_noise and (training or noise_keys is not None):
            return inr.drawn(params, dtype, noise_keys, training=training)
        return grid(params, dtype)

    def levels(
        self,
        ws_blw: jax.Array,
        *,
        dtype=jnp.float32,
        jitter_keys: jax.Array | None = None,
        remat: bool = False,
    ) -> list[jax.Array]:
        """Styles -> the sums of RGB after each level, `[B, h, w, C]`; the last is the image.

        `jitter_keys` `[B]` move coordinates within their cells (see models.practice).
        ValueError for StyleGAN2, which has no function.
        """

        def make(ws, keys):
            return practice.levels(self.inr_params(ws), dtype, keys)

        inputs = (ws_blw, jitter_keys)
        return one_by_one(make, inputs) if remat else make(*inputs)

    def patches(
        self,
        ws_blw: jax.Array,
        windows: jax.Array,
        *,
        dtype=jnp.float32,
        noise_keys: jax.Array | None = None,
        remat: bool = False,
        coarser: int = 1,
    ) -> jax.Array:
        """Styles and windows int32 `[B, 3]` -> patches of the native size `[B, H, W, C]`.

        Of continuous networks: see nodes.in_window, also for `coarser`; `noise_keys` as in `image`.
        """

        def make(ws, windows, keys):
            return practice.patches(self.inr_params(ws), windows, dtype, keys, coarser=coarser)

        inputs = (ws_blw, windows, noise_keys)
        return one_by_one(make, inputs) if remat else make(*inputs)
