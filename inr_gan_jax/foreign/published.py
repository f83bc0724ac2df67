"""A checkpoint that others published, in our terms."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from inr_gan_jax.config import Config
from inr_gan_jax.errors import UserError

NUMPY = "numpy"  # RandomState(seed).randn(1, z_dim)


@dataclass(frozen=True)
class Published:
    """A published checkpoint in our terms: nested dicts of float32 arrays, and `w_avg`.

    `g` and `d` are None where a file has the averaged generator alone. `buffers` are what is never
    trained (`g_buffers`: those of `g`, equal in every trained file). `system` says whose file it
    is, `draws` how its own code made a latent of a seed (`numpy`), or "" where that cannot be done
    here. `counts`, `class_names` and `images` (seen in training) are empty where a file does not
    tell them. `notes` are lines for the user: what the file has and is left out here.
    """

    system: str
    config: Config
    g: dict | None
    g_ema: dict
    d: dict | None
    buffers: dict
    w_avg: np.ndarray
    g_buffers: dict | None = None
    draws: str = NUMPY
    counts: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    images: int = 0
    notes: tuple[str, ...] = ()

    @property
    def class_counts(self) -> list[int]:
        """How often its data had each class; where the file does not tell, once each."""
        return list(self.counts) or [1] * self.config.model.num_classes


def own(array: np.ndarray) -> jax.Array:
    """An array of ours in float32, which a CPU takes over without a copy.

    Raises UserError for what is no number.
    """
    with np.errstate(over="ignore"):  # said below
        array = np.ascontiguousarray(array, np.float32).reshape(array.shape)
    if not np.isfinite(array).all():
        raise UserError("an array holds numbers that are infinite or none (NaN)")
    if array.flags.writeable and array.ctypes.data % 64 == 0 and array.size:
        return jnp.from_dlpack(array)
    return jnp.asarray(array)
