"""Class-conditional INR-GAN on Fashion-MNIST at 32x32 (resized from 28x28), through TFDS.

Command:   python -m inr_gan_jax.main --config=configs/fashion_mnist.py
Data:      TFDS `fashion_mnist` as array records. Reading needs no TensorFlow, TFDS' own builder of
           this data set does: where it is absent, the command prints the one-off command.
Hardware:  one GPU; slow but possible on a CPU.
Published: no score for INR-GAN on these images.
"""

from inr_gan_jax.config import base


def get_config():
    """The released recipe at 32x32 with a quarter of the channels and ten classes."""
    config = base(
        "inr_gan",
        height=32,
        width=32,
        channels=1,
        z_dim=128,
        w_dim=128,
        channel_base=4096,
        channel_max=128,
        input_resolution=8,
        fine_from=32,
    )
    for embedding in (config.model.embedding_coarse, config.model.embedding_fine):
        embedding.table = 32
    config.data.source = "tfds:fashion_mnist"
    config.data.labels = True
    config.discriminator.channel_base = 4096
    config.discriminator.channel_max = 128
    config.train.kimg = 5000
    config.train.r1_gamma = 0.1
    config.train.ema_kimg = 20.0
    return config
