"""INR-GAN on FFHQ at 256x256: the released recipe.

Command:   python -m inr_gan_jax.main --config=configs/ffhq.py
Data:      70,000 faces (github.com/NVlabs/ffhq-dataset), then
           python -m inr_gan_jax.data.prepare --source=ffhq/images1024x1024 --dest=data/ffhq256.zip
               --width=256 --height=256
Hardware:  published on 4 V100; batch 64, groups of 4.
Published: FID 9.57 (50k generated against all real images; Skorokhodov et al. 2021, released code).
"""

from inr_gan_jax.config import base


def get_config():
    """The released recipe as it is."""
    config = base("inr_gan")
    config.data.source = "data/ffhq256.zip"
    config.evaluate.ppl_crop = True  # path lengths are of the middle of faces
    return config
