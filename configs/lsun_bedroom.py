"""INR-GAN on LSUN bedrooms at 256x256.

Command:   python -m inr_gan_jax.main --config=configs/lsun_bedroom.py
Data:      3,033,042 images (github.com/fyu/lsun), exported to a folder, then
           python -m inr_gan_jax.data.prepare --source=bedroom_train
               --dest=data/lsun_bedroom256.zip --width=256 --height=256 --crop=center
Hardware:  published on 4 V100.
Published: FID 5.71 (truncation 0.9).
"""

from inr_gan_jax.config import base


def get_config():
    """The released recipe as it is."""
    config = base("inr_gan")
    config.data.source = "data/lsun_bedroom256.zip"
    config.evaluate.truncation = 0.9
    return config
