"""INR-GAN-bil on FFHQ at 256x256: bilinear upsampling and instance norm.

Command:   python -m inr_gan_jax.main --config=configs/ffhq_bil.py
Data:      as configs/ffhq.py.
Hardware:  published on 4 V100.
Published: FID 4.95. Its pixels depend on each other: it exists only as a whole grid.
"""

from inr_gan_jax.config import base


def get_config():
    """The released recipe with the -bil generator."""
    config = base("inr_gan_bil")
    config.data.source = "data/ffhq256.zip"
    config.evaluate.ppl_crop = True  # path lengths are of the middle of faces
    return config
