"""What a training step does, as plain numbers: the configuration and what follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from inr_gan_jax.config import Config
from inr_gan_jax.config.recipes import gammas_of, horizon_of
from inr_gan_jax.storage.averages import exponent_of, key_of, widths_of
from inr_gan_jax.train.schedule import Schedule

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

    `gammas`: of penalties on `fake` and `real` images, where there are any. `powers`: exponents of
    averages that are kept beside the EMA (see storage.averages). `pipeline`: how images
    are augmented; empty: not at all. `ada_kimg` 0: the probability is that of the schedule `p`.
    `kernels`: xla or pallas, what evaluates the generator's grids.
    """

    seed: int
    batch_size: int
    microbatches: int
    loss: str
    penalty: str
    gammas: Mapping[str, Schedule]
    r1_interval: int
    path_weight: float
    path_interval: int
    mixing_prob: float
    lr: Schedule
    beta2: Schedule
    table_lr: float
    ema_kimg: Schedule
    ema_rampup: float
    powers: Mapping[str, float]
    p: Schedule
    class_counts: tuple[int, ...]
    dtype: str
    kernels: str = "xla"
    align_weight: float = 0.0
    jitter: bool = False
    lecam: float = 0.0
    patches: bool = False
    consistency: float = 0.0
    freeze_d: int = 0
    remat: bool = False
    pipeline: str = ""
    ada_target: float = 0.6
    ada_interval: int = 4
    ada_kimg: float = 0.0
    by_rule: bool = False

    def runs(self, phase: Phase) -> float:
        """How often a phase runs per iteration: below 1 where it is lazy."""
        interval = {Phase.G_PATH: self.path_interval, Phase.D_R1: self.r1_interval}
        return 1 / interval.get(phase, 1)

    def remarks(self) -> list[str]:
        """Lines that say what is out of the ordinary."""
        lines = []
        if self.by_rule:
            told = ", ".join(f"{k} images {s.start:.3g}" for k, s in self.gammas.items())
            lines.append(f"gamma by rule: of {told} (config.train.r1_gamma=-1)")
        if self.pipeline:
            how = "with a fixed probability" if self.p.constant else "with a scheduled probability"
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
    train, augment, ends = config.train, config.augment, config.schedule
    images = 1000 * horizon_of(config)

    def moved(start: float, factor: float) -> Schedule:
        return Schedule(start, start * factor, images)

    def towards(start: float, end: float) -> Schedule:
        return Schedule(start, start if end < 0 else end, images)

    kimg = augment.kimg if augment.mode == "ada" else 0.0
    if train.init_from:
        kimg = min(kimg, TRANSFER_ADA_KIMG)
    return Recipe(
        seed=config.seed,
        batch_size=train.batch_size,
        microbatches=train.microbatches,
        loss=train.loss,
        penalty=train.penalty,
        gammas={kind: moved(g, ends.gamma) for kind, g in gammas_of(config).items() if g},
        by_rule=train.r1_gamma < 0,
        r1_interval=train.r1_interval,
        path_weight=train.path_weight,
        path_interval=train.g_interval,
        mixing_prob=train.mixing_prob,
        lr=moved(1.0, ends.lr),
        beta2=towards(train.beta2, ends.beta2),
        table_lr=train.table_lr,
        ema_kimg=moved(train.ema_kimg, ends.ema),
        powers={key_of(width): exponent_of(width) for width in widths_of(train.power_ema)},
        p=towards(augment.p, ends.p),
        ema_rampup=0.0 if train.init_from else train.ema_rampup,
        class_counts=tuple(int(n) for n in class_counts),
        dtype=dtype,
        kernels=kernels,
        align_weight=train.align_weight,
        jitter=train.jitter,
        lecam=train.lecam,
        patches=bool(config.patches.largest),
        consistency=config.patches.consistency,
        freeze_d=train.freeze_d,
        remat=train.remat,
        pipeline="" if augment.mode == "none" else augment.pipeline,
        ada_target=augment.target,
        ada_interval=augment.interval,
        ada_kimg=kimg,
    )
