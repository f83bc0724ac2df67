"""CIPS on FFHQ at 256x256 (Anokhin et al. 2021): every layer at full resolution.

Command:   python -m inr_gan_jax.main --config=configs/ffhq_cips.py
Data:      as configs/ffhq.py.
Hardware:  about ten times the work of INR-GAN: raise config.train.microbatches where memory ends.
Published: FID 4.38.
"""

from inr_gan_jax.config import base


def get_config():
    """The released recipe with the CIPS generator."""
    config = base("cips")
    config.data.source = "data/ffhq256.zip"
    config.evaluate.ppl_crop = True  # path lengths are of the middle of faces
    return config
