"""What a training step does, as plain numbers: the configuration and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from inr_gan_jax.config import Config

TRANSFER_ADA_KIMG = 100.0  # transferred networks overfit sooner (Karras et al. 2020b, appendix C)


class Phase(IntEnum):
    """What a random key is for; also the order of the phases."""

    G_MAIN = 0
    G_PATH = 1
    D_MAIN = 2
    D_R1 = 3
    FINISH = 4


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training recipe (see config.TrainConfig and AugmentConfig).

    `pipeline`: how images are augmented; empty: not at all. `ada_kimg` 0 keeps the probability.
    `kernels`: xla or pallas, what evaluates the generator's grids.
    """

    seed: int
    batch_size: int
    microbatches: int
    r1_gamma: float
    r1_interval: int
    path_weight: float
    path_interval: int
    mixing_prob: float
    ema_kimg: float
    ema_rampup: float
    class_counts: tuple[int, ...]
    dtype: str
    kernels: str = "xla"
    freeze_d: int = 0
    remat: bool = False
    pipeline: str = ""
    ada_target: float = 0.6
    ada_interval: int = 4
    ada_kimg: float = 0.0

    def runs(self, phase: Phase) -> float:
        """How often a phase runs per iteration: below 1 where it is lazy."""
        interval = {Phase.G_PATH: self.path_interval, Phase.D_R1: self.r1_interval}
        return 1 / interval.get(phase, 1)

    def remarks(self) -> list[str]:
        """Lines that say what is out of the ordinary."""
        lines = []
        if self.pipeline:
            how = "with a fixed probability"
            if self.ada_kimg:
                how = f"adaptively (p moves by 1 per {self.ada_kimg:g} kimg)"
            lines.append(f"augmentation: {self.pipeline}, {how}")
        if self.freeze_d:
            lines.append(f"the first {self.freeze_d} layers of the discriminator do not learn")
        return lines


def recipe_of(
    config: Config, class_counts: Sequence[int], dtype: str, kernels: str = "xla"
) -> Recipe:
    """The recipe of a configuration: `class_counts` come from the data, the rest from the device.

    A transfer (`train.init_from`) starts from an average that means something: no ramp-up of the
    EMA; and ADA moves at least as fast as 1 per 100 kimg.
    """
    train, augment = config.train, config.augment
    kimg = augment.kimg if augment.mode == "ada" else 0.0
    if train.init_from:
        kimg = min(kimg, TRANSFER_ADA_KIMG)
    return Recipe(
        seed=config.seed,
        batch_size=train.batch_size,
        microbatches=train.microbatches,
        r1_gamma=train.r1_gamma,
        r1_interval=train.r1_interval,
        path_weight=train.path_weight,
        path_interval=train.g_interval,
        mixing_prob=train.mixing_prob,
        ema_kimg=train.ema_kimg,
        ema_rampup=0.0 if train.init_from else train.ema_rampup,
        class_counts=tuple(int(n) for n in class_counts),
        dtype=dtype,
        kernels=kernels,
        freeze_d=train.freeze_d,
        remat=train.remat,
        pipeline="" if augment.mode == "none" else augment.pipeline,
        ada_target=augment.target,
        ada_interval=augment.interval,
        ada_kimg=kimg,
    )
