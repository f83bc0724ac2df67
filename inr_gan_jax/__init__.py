"""Generators of continuous images in JAX: train, use and extend them.

import inr_gan_jax
model = inr_gan_jax.load("runs/digits")
images = model.images(seeds=range(16), classes=3)
"""

import importlib

_PUBLIC = {
    "load": "inr_gan_jax.model",
    "Model": "inr_gan_jax.model",
    "open_image": "inr_gan_jax.render.image",
    "UserError": "inr_gan_jax.errors",
}

__all__ = list(_PUBLIC)
__version__ = "0.1.0"


def __getattr__(name: str):
    """Imports on first use, so that `import inr_gan_jax` costs nothing."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
