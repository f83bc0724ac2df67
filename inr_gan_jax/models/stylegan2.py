"""The StyleGAN2 baseline's synthesis network (Karras et al. 2020): no coordinate function.

It stands apart from the coordinate networks: a learned 4x4 constant, modulated 3x3 convolutions,
FIR upsampling and noise inputs. Its config is a `GeneratorConfig` of family `stylegan2`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from inr_gan_jax.models import resample
from inr_gan_jax.models.convolution import conv2d, transposed_conv2d
from inr_gan_jax.models.layers import Buffer, Dense, lrelu
from inr_gan_jax.models.products import at_least_float32


def modulated_conv(x_bhwi, weight_hwio, style_bi, *, upsample=False) -> jax.Array:
    """Convolution whose weights are scaled per image and input, and demodulated per output.

    Scaling the input and then the output is the same as scaling the weights (equations 1 to 3), and
    leaves one convolution for the whole batch. `upsample`: a transposed convolution by 2, blurred.
    """
    demod_bo = jax.lax.rsqrt(
        jnp.einsum(
            "bi,io->bo",
            jnp.square(style_bi),
            jnp.sum(jnp.square(weight_hwio), (0, 1)),
            precision=jax.lax.Precision.HIGHEST,
        )
        + 1e-8
    )
    x = x_bhwi * style_bi[:, None, None, :].astype(x_bhwi.dtype)
    if upsample:
        y = transposed_conv2d(x, weight_hwio.swapaxes(2, 3), stride=2)
        y = resample.blur(y, 1, 4.0)
    else:
        y = conv2d(x, weight_hwio, padding=weight_hwio.shape[0] // 2)
    return y * demod_bo[:, None, None, :].astype(y.dtype)


class StyledConv(nnx.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU."""

    def __init__(self, inputs, outputs, size, w_dim, *, upsample: bool, rngs: nnx.Rngs):
        self.affine = Dense(w_dim, inputs, rngs=rngs, bias=1.0)
        self.weight = nnx.Param(rngs.normal((3, 3, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros((outputs,)))
        self.noise_strength = nnx.Param(jnp.zeros(()))
        self.noise = Buffer(rngs.normal(size))
        self.upsample = upsample

    def __call__(self, x, w_bw, noise_keys, salt) -> jax.Array:
        y = modulated_conv(x, self.weight[...], self.affine(w_bw), upsample=self.upsample)
        noise = self.noise[...][None]
        if noise_keys is not None:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, salt))(noise_keys)
            noise = jax.vmap(lambda key: jax.random.normal(key, y.shape[1:3]))(keys)
        y += (noise * self.noise_strength[...])[..., None].astype(y.dtype)
        return lrelu(y + self.bias[...].astype(y.dtype))


class ToRgb(nnx.Module):
    """Modulated 1x1 convolution to RGB, not demodulated; float32 out."""

    def __init__(self, inputs, outputs, w_dim, *, rngs: nnx.Rngs):
        self.affine = Dense(w_dim, inputs, rngs=rngs, bias=1.0)
        self.weight = nnx.Param(rngs.normal((inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros((outputs,)))

    def __call__(self, x_bhwi, w_bw) -> jax.Array:
        style_bi = self.affine(w_bw) / self.weight.shape[0] ** 0.5
        w_bio = (style_bi[:, :, None] * self.weight[...]).astype(x_bhwi.dtype)
        sums = at_least_float32(x_bhwi.dtype)
        rgb = jnp.einsum("bhwi,bio->bhwo", x_bhwi, w_bio, preferred_element_type=sums)
        return rgb + self.bias[...]


class SynthesisBlock(nnx.Module):
    """One resolution: the first starts from a learned constant, others upsample by 2."""

    def __init__(self, inputs, outputs, size, config, extra, *, rngs: nnx.Rngs):
        def conv(channels, upsample):
            return StyledConv(channels, outputs, size, config.w_dim, upsample=upsample, rngs=rngs)

        if not inputs:
            self.constant = nnx.Param(rngs.normal((*size, outputs)))
        else:
            self.conv0 = conv(inputs, True)
        for i in range(1, 2 + extra):
            setattr(self, f"conv{i}", conv(outputs, False))
        self.rgb = ToRgb(outputs, config.channels, config.w_dim, rngs=rngs)
        self.convs = tuple(f"conv{i}" for i in range(0 if inputs else 1, 2 + extra))


class Synthesis(nnx.Module):
    """Styles `[B, L, w_dim]` -> images `[B, H, W, C]`, float32."""

    def __init__(self, config, *, rngs: nnx.Rngs):
        final = max(config.height, config.width)
        inputs, nominal, names = 0, 4, []
        while nominal <= final:
            size = (config.height * nominal // final, config.width * nominal // final)
            outputs, extra = config.channels_of(nominal), config.extra_of(nominal)
            block = SynthesisBlock(inputs, outputs, size, config, extra, rngs=rngs)
            names.append(f"block{nominal}")
            setattr(self, names[-1], block)
            inputs, nominal = outputs, nominal * 2
        self.blocks = tuple(names)
        self.num_styles = sum(len(getattr(self, name).convs) for name in names) + 1

    def outputs(self, ws_blw, *, dtype=jnp.float32, noise_keys=None) -> list[tuple]:
        """(features `[B, h, w, C]`, RGB so far `[B, h, w, c]`) after every block."""
        x = rgb = None
        style, results = 0, []
        for name in self.blocks:
            block = getattr(self, name)
            if x is None:
                constant = block.constant[...]
                x = jnp.broadcast_to(constant, (len(ws_blw), *constant.shape)).astype(dtype)
            for conv in block.convs:
                x = getattr(block, conv)(x, ws_blw[:, style], noise_keys, style)
                style += 1
            emitted = block.rgb(x, ws_blw[:, style])
            rgb = emitted if rgb is None else resample.upsample(rgb) + emitted
            results.append((x, rgb))
        return results

    def __call__(self, ws_blw, *, dtype=jnp.float32, noise_keys=None) -> jax.Array:
        return self.outputs(ws_blw, dtype=dtype, noise_keys=noise_keys)[-1][1]
