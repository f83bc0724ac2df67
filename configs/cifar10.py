"""INR-GAN on CIFAR-10 at 32x32, through TFDS.

Command:   python -m inr_gan_jax.main --config=configs/cifar10.py
Data:      TFDS `cifar10` as array records. Reading needs no TensorFlow, TFDS' own builder of this
           data set does: where it is absent, the command prints the one-off command that makes it.
Hardware:  one GPU.
Published: no score for INR-GAN on these images.
"""

from inr_gan_jax.config import base


def get_config():
    """The released recipe at 32x32: coordinates enter at 8x8."""
    config = base(
        "inr_gan", height=32, width=32, channel_base=16384, input_resolution=8, fine_from=32
    )
    config.data.source = "tfds:cifar10"
    config.discriminator.channel_base = 16384
    config.train.r1_gamma = 0.01
    config.train.ema_kimg = 500.0
    config.log.checkpoint_kimg = 1000
    return config
