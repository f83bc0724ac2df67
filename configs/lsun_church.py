"""INR-GAN on LSUN churches (outdoor) at 256x256.

Command:   python -m inr_gan_jax.main --config=configs/lsun_church.py
Data:      126,227 images (github.com/fyu/lsun), exported to a folder, then
           python -m inr_gan_jax.data.prepare --source=church_outdoor_train
               --dest=data/lsun_church256.zip --width=256 --height=256 --crop=center
Hardware:  published on 4 V100.
Published: FID 4.45 (no extra layers).
"""

from inr_gan_jax.config import base


def get_config():
    """The released recipe without extra layers."""
    config = base("inr_gan", extra_layers=0)
    config.data.source = "data/lsun_church256.zip"
    return config
