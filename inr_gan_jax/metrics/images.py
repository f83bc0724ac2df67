"""Where measured images come from: numbered, generated or real, uint8 on the device."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from inr_gan_jax.models import mapping
from inr_gan_jax.models.parameters import InrParams

THREADS = 4  # that decode real images


def to_uint8(images: jax.Array) -> jax.Array:
    """[-1, 1] floats -> uint8, rounded and clipped, as image files would hold them."""
    return jnp.clip(jnp.round(images * 127.5 + 127.5), 0, 255).astype(jnp.uint8)


class Generated:
    """Images of a model's generator: image k of a seed is a function of (seed, k).

    Classes are drawn as often as the training data has them.
    """

    def __init__(self, model, truncation: float = 1.0):
        self._networks, self._truncation = model.networks, truncation
        self._config = model.config.model
        self._counts = np.asarray(model.class_counts, np.float32)

    @staticmethod
    def arrays(model) -> tuple:
        """What `styles` and `images` take of a model."""
        return (*model.arrays, model.w_avg)

    @staticmethod
    def read(seed: int):
        """Numbers -> a batch for `latents`."""
        return lambda numbers: {"number": numbers.astype(np.uint32),
                                "seed": np.full(len(numbers), seed, np.uint32)}  # fmt: skip

    def latents(self, batch: dict, purpose: int = 0) -> tuple[jax.Array, jax.Array | None]:
        """Latents `[b, z_dim]` and one-hot classes, or None; the classes of all purposes agree."""

        def draw(seed, number):
            key = jax.random.fold_in(jax.random.key(seed), number)
            z = jax.random.normal(jax.random.fold_in(key, purpose), (self._config.z_dim,))
            if not self._config.num_classes:
                return z, None
            choice = jax.random.categorical(jax.random.fold_in(key, 1 << 30), jnp.log(self._counts))
            return z, jax.nn.one_hot(choice, self._config.num_classes)

        return jax.vmap(draw)(batch["seed"], batch["number"])

    def w(self, arrays: tuple, z: jax.Array, classes: jax.Array | None) -> jax.Array:
        """Latents -> w `[b, w_dim]`."""
        params, buffers, _ = arrays
        return self._networks.generator(params, buffers).mapping(z, classes)

    def synthesis(self, arrays: tuple, w: jax.Array, classes: jax.Array | None) -> jax.Array:
        """w -> images `[b, H, W, C]`, float32, about [-1, 1]; truncated as the settings say."""
        generator, ws = self._styles(arrays, w, classes)
        return generator.image(ws)

    def inr(self, arrays: tuple, batch: dict) -> InrParams:
        """The coordinate functions of a batch's images; ValueError where they are none."""
        z, classes = self.latents(batch)
        generator, ws = self._styles(arrays, self.w(arrays, z, classes), classes)
        return generator.inr_params(ws)

    def _styles(self, arrays: tuple, w: jax.Array, classes: jax.Array | None) -> tuple:
        params, buffers, w_avg = arrays
        generator = self._networks.generator(params, buffers)
        ws = mapping.broadcast_styles(w, generator.num_styles)
        return generator, mapping.truncate(ws, w_avg, self._truncation, None, classes)

    def images(self, arrays: tuple, batch: dict) -> tuple[jax.Array, jax.Array]:
        """(uint8 images `[b, H, W, C]`, class numbers `[b]`, 0 without classes)."""
        z, classes = self.latents(batch)
        made = to_uint8(self.synthesis(arrays, self.w(arrays, z, classes), classes))
        zeros = jnp.zeros(len(made), jnp.int32)
        return made, zeros if classes is None else jnp.argmax(classes, axis=-1)


class Real:
    """`count` images of a data set, as they are (not mirrored): all, or a fixed sample."""

    def __init__(self, source, count: int | None = None):
        self._source = source
        self.count = min(count or len(source), len(source))
        order = np.random.default_rng(0).permutation(len(source))
        self._chosen = np.sort(order[: self.count])  # files are read in their order

    def read(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """A batch: `image`, uint8 `[b, H, W, C]`, and `label`, int32 `[b]`."""
        with ThreadPoolExecutor(THREADS) as pool:
            items = list(pool.map(lambda i: self._source[int(i)], self._chosen[numbers]))
        images, labels = zip(*items, strict=True)
        return {"image": np.stack(images), "label": np.asarray(labels, np.int32)}

    @staticmethod
    def images(_: tuple, batch: dict) -> tuple[jax.Array, jax.Array]:
        """What `Generated.images` gives, of a batch that was read."""
        return batch["image"], batch["label"]
