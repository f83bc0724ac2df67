"""Handwritten digits at 16x16, class-conditional: learns on a laptop in minutes.

Command:   python -m inr_gan_jax.main --config=configs/digits.py   (or: make quickstart)
Data:      1,797 grey images of 10 classes that scikit-learn carries; nothing to download.
Hardware:  2 CPU cores, about 4 minutes.
Published: no score; this is an example.
"""

from inr_gan_jax.config import base


def get_config():
    """A small continuous INR-GAN: nodes at 8x8, then the image's points themselves."""
    config = base("inr_gan_any", recipe="best", height=16, width=16, channels=1)
    config.data.source = "digits"
    config.data.labels = True
    config.data.mirror = False  # a mirrored 2 is no digit
    model = config.model
    model.z_dim = model.w_dim = 32
    model.channel_base, model.channel_max = 512, 32
    model.input_resolution, model.fine_from = 8, 16
    model.embedding_coarse.log = model.embedding_fine.log = 32
    model.embedding_fine.random = 16
    config.discriminator.channel_base, config.discriminator.channel_max = 256, 32
    config.discriminator.mapping_layers = 2
    config.train.kimg = 140
    config.train.batch_size = 16
    config.train.dtype = "float32"  # twice as quick as bfloat16 on CPUs measured so far
    config.train.ema_kimg = 1.0
    config.evaluate.metrics = "fd_pixel2k_full"
    config.evaluate.kimg = 50
    config.log.metrics_kimg = 4
    config.log.grid_kimg = 20
    config.log.checkpoint_kimg = 50
    config.log.grid_size = 80
    return config
