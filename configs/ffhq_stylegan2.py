"""The StyleGAN2 baseline on FFHQ at 256x256 (Karras et al. 2020); no coordinate function.

Command:   python -m inr_gan_jax.main --config=configs/ffhq_stylegan2.py
Data:      as configs/ffhq.py.
Hardware:  published on 4 V100.
Published: FID 3.83.
"""

from inr_gan_jax.config import base


def get_config():
    """The released recipe with path-length regularisation and style mixing."""
    config = base("stylegan2")
    config.data.source = "data/ffhq256.zip"
    config.train.path_weight = 2.0
    config.train.mixing_prob = 0.9
    config.evaluate.ppl_crop = True  # path lengths are of the middle of faces
    return config
