"""The paper's own generator on FFHQ at 1024x1024: the hypernetwork emits every INR parameter.

Command:   python -m inr_gan_jax.main --config=configs/ffhq_1024.py
Data:      70,000 faces (github.com/NVlabs/ffhq-dataset), then
           python -m inr_gan_jax.data.prepare --source=ffhq/images1024x1024 --dest=data/ffhq1024.zip
               --width=1024 --height=1024
Hardware:  16 devices of 16 GB, 4 images each; on fewer, raise config.train.microbatches. Images
           pass the networks one by one: --noconfig.train.remat where more memory is at hand.
Published: FID 16.32 (Skorokhodov et al. 2021). Rates, betas, R1 and EMA are the paper's; batch size
           and length are not stated there and are ours.
"""

import math

from inr_gan_jax.config import base


def get_config():
    """The paper's recipe: nothing is lazy, R1 is part of every step."""
    config = base("paper")
    config.data.source = "data/ffhq1024.zip"
    train = config.train
    train.batch_size = 64
    train.beta2 = 0.98
    train.g_lr, train.shared_lr, train.d_lr = 5e-5, 5e-4, 3e-3
    train.remat = True  # D's main phase wants more than 16 GB for 4 images at once
    train.g_interval = train.r1_interval = 0
    train.r1_gamma = 10.0
    # An average of 0.999 per step, as a half-life in kimg, from the first step on.
    train.ema_kimg = train.batch_size * math.log(0.5) / math.log(0.999) / 1000
    train.ema_rampup = 0.0
    config.evaluate.ppl_crop = True  # path lengths are of the middle of faces
    return config
