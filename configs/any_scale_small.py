"""Pictures of any sizes on a laptop: patches of 32 pixels, of pictures up to 128.

Command:   python -m inr_gan_jax.main --config=configs/any_scale_small.py --config.data.source=DIR
Data:      a folder or zip of pictures, as they are; those of less than 32 pixels are left out.
Hardware:  2 CPU cores.
Published: no score; the method is ours (docs/any_scale.md).
"""

from inr_gan_jax.config import base


def get_config():
    """A small continuous INR-GAN: nodes at 8x8 and 16x16, the rest at the points themselves."""
    config = base("inr_gan_any", height=32, width=32)
    config.data.source = "data/photos"
    model = config.model
    model.aspect = "auto"
    model.z_dim = model.w_dim = 64
    model.channel_base, model.channel_max = 1024, 64
    model.input_resolution, model.fine_from = 8, 32
    model.embedding_coarse.log = 32
    model.embedding_fine.log, model.embedding_fine.random = 32, 16
    config.discriminator.channel_base, config.discriminator.channel_max = 512, 64
    config.patches.largest = 128
    config.train.kimg = 200
    config.train.batch_size = 16
    config.train.r1_gamma = 0.1
    config.train.g_lr = config.train.d_lr = 0.005
    config.train.ema_kimg = 2.0
    config.train.dtype = "float32"
    config.evaluate.metrics = "fd_pixel2k_full"
    config.log.metrics_kimg = 4
    config.log.grid_kimg = 20
    config.log.checkpoint_kimg = 50
    return config
