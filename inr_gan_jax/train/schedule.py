"""Numbers of a recipe that move while a run goes on."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Schedule:
    """From `start` to `end` along half a cosine wave over `images`, and `end` from there on.

    All numbers of R3GAN's recipe move so (Huang et al. 2024, appendix). 0 images: none moves.
    """

    start: float
    end: float
    images: float

    @property
    def constant(self) -> bool:
        """Whether it never moves."""
        return self.start == self.end or not self.images

    def __call__(self, images: jax.Array) -> float | jax.Array:
        """The number after so many images; a plain one, which programs hold, if it is constant."""
        if self.constant:
            return self.start
        part = jnp.minimum(images.astype(float) / self.images, 1.0)
        return self.end + (self.start - self.end) * 0.5 * (1 + jnp.cos(jnp.pi * part))
