"""CIPS's published network for FFHQ at 1024x1024: a table of 256x256, rendered at 1024.

Command:   python -m inr_gan_jax.generate --checkpoint=FILE.pt --seeds=0-7 --outdir=faces
Data:      its authors trained it on patches of FFHQ, which is not done here.
Hardware:  one GPU, or minutes an image on a CPU.
Published: see the paper, arXiv 2011.13775, table 1.
"""

import dataclasses

from inr_gan_jax.config import base
from inr_gan_jax.models.families import cips_skip


def get_config():
    """The networks of 256x256, three steps deeper, with the table of 256x256."""
    table = dataclasses.replace(cips_skip().embedding_coarse, table_side=256)
    config = base(
        "cips_skip", height=1024, width=1024, embedding_coarse=table, embedding_fine=table
    )
    config.data.source = "data/ffhq1024.zip"
    config.train.batch_size, config.train.remat = 16, True
    return config
