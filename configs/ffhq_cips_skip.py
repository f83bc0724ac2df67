"""CIPS as its authors released it (Anokhin et al. 2021), FFHQ at 256x256, RGB from every block.

Command:   python -m inr_gan_jax.main --config=configs/ffhq_cips_skip.py
Data:      as configs/ffhq.py. Its released weights to start from: --config.train.init_from=FILE.pt
Hardware:  as configs/ffhq_cips.py.
Published: FID 4.38.
"""

from inr_gan_jax.config import base


def get_config():
    """CIPS's own networks and rates; the rest as the other runs here."""
    config = base("cips_skip")
    config.data.source = "data/ffhq256.zip"
    config.evaluate.ppl_crop = True  # path lengths are of the middle of faces
    config.train.batch_size = 32
    config.train.g_lr = config.train.d_lr = 0.002
    config.train.mixing_prob = 0.9
    return config
