"""INR-GAN at 256x256 on a few hundred to a few thousand images of your own, with ADA.

Command:   python -m inr_gan_jax.main --config=configs/small_data.py
               --config.train.init_from=runs/ffhq --config.train.freeze_d=4
           The second line is optional: it starts from the networks of another run or of a converted
           checkpoint (transfer), whose first discriminator layers stay as they are (FreezeD).
Data:      python -m inr_gan_jax.data.prepare --source=photos --dest=data/small256.zip
               --width=256 --height=256 --crop=center
Hardware:  as configs/ffhq.py; a transfer is done in a tenth of the images.
Published: none for INR-GAN; the augmentation and its numbers are those of Karras et al. 2020
           ("Training generative adversarial networks with limited data").
"""

from inr_gan_jax.config import base


def get_config():
    """The released recipe with adaptive augmentation: blit, geometry and colour."""
    config = base("inr_gan")
    config.data.source = "data/small256.zip"
    config.augment.mode = "ada"
    config.train.kimg = 5000
    config.evaluate.metrics = "kid50k_full,fid50k_full"  # KID is unbiased where images are few
    return config
