"""One function at every scale: patches of 256 pixels, of pictures of any sizes up to 1024.

Command:   python -m inr_gan_jax.main --config=configs/any_scale.py --config.data.source=photos
Data:      a folder or zip of pictures as they are: FFHQ at its own 1024x1024, or mixed sizes and
           shapes; those smaller than a patch are left out.
Hardware:  as configs/ffhq.py: what D sees does not depend on the size of the pictures.
Published: no score; the method is ours (docs/any_scale.md).
"""

from inr_gan_jax.config import base


def get_config():
    """INR-GAN's widths; nodes at 32x32, 64x64 and 128x128, the rest at the points themselves."""
    config = base("inr_gan_any", height=256, width=256)
    config.data.source = "data/photos"
    config.model.aspect = "auto"
    config.patches.largest = 1024
    return config
