"""The keys of a configuration, their types, released values and meanings."""

from dataclasses import dataclass, field

from inr_gan_jax.models.discriminator import DiscriminatorConfig
from inr_gan_jax.models.families import GeneratorConfig


@dataclass(frozen=True)
class DataConfig:
    """Where images come from (see data.sources.open_source).

    `source`: `digits`, `tfds:NAME[:SPLIT]`, or the path of a zip or folder. `labels` makes a
    class-conditional run. `data_dir`: where TFDS keeps its data, and copies of what lies in a cloud
    (empty: the defaults). `threads` read in this process, `workers` are processes that read. Up to
    `max_skipped` images that become unreadable are named and replaced by others, in each process.
    """

    source: str = ""
    data_dir: str = ""
    labels: bool = False
    mirror: bool = True
    threads: int = 2
    workers: int = 0
    max_skipped: int = 10


@dataclass(frozen=True)
class TrainConfig:
    """The recipe. Progress is counted in kimg (thousands of images); a cadence of 0 is never.

    `microbatches`: passes into which a batch is cut to save memory. `r1_interval = 0`: R1 is part
    of every step, not lazy; likewise `g_interval = 0`: no lazy correction for G. `shared_lr`: rate
    of weights that all images share (paper's generator; 0: `g_lr`), `table_lr` a factor of the rate
    of learned tables (0: they stay as they were drawn). `ema_rampup` 0: no ramp-up. `power_ema`:
    widths ("0.05,0.1") of averages that checkpoints hold too (see storage.averages).
    `recipe`: whose values those were that nobody set otherwise (see recipes.RECIPES). `loss`:
    logistic, or relativistic, which compares pairs of a real and a generated image. `r1_gamma`,
    `r2_gamma`: of gradient penalties on real and generated images, -1: by rule (see
    recipes.gammas_of). `penalty`: exact, or by differences, without second derivatives, on a
    quarter of a batch.
    `d_levels`: D sees, beside the image, what the generator's levels below add up to, and those
    sums are drawn to the image made smaller by `align_weight` times their mean squared difference.
    `lecam`: weight of a penalty on logits that are far from the other kind's running mean (Tseng et
    al. 2021). `jitter`: training moves each level's coordinates within their
    cells (of inr_gan_any the last level's).
    `init_from`: a workdir whose networks a fresh run starts from (transfer), `freeze_d`: how many
    layers of D, from the image on, do not learn (FreezeD, Mo et al. 2020). `max_nonfinite`
    iterations in a row whose losses are no numbers end the run. `remat`: images pass G and D one by
    one, and gradients compute them again rather than store how they came about: less memory, more
    work, the same numbers. `on_change`: what a start does that finds other data or another recipe
    than the run had: `refuse`, or `continue` with it, and note since when.
    """

    recipe: str = "released"
    kimg: float = 25_000
    batch_size: int = 64
    microbatches: int = 1
    g_lr: float = 0.0025
    d_lr: float = 0.0025
    shared_lr: float = 0.0
    table_lr: float = 1.0
    beta1: float = 0.0
    beta2: float = 0.99
    eps: float = 1e-8
    g_interval: int = 4
    loss: str = "logistic"
    penalty: str = "exact"
    r1_gamma: float = 10.0
    r2_gamma: float = 0.0
    r1_interval: int = 16
    d_levels: bool = False
    align_weight: float = 0.0
    jitter: bool = False
    lecam: float = 0.0
    path_weight: float = 0.0
    mixing_prob: float = 0.0
    ema_kimg: float = 20.0
    ema_rampup: float = 0.05
    power_ema: str = ""
    dtype: str = "bfloat16"
    max_nonfinite: int = 10
    remat: bool = False
    init_from: str = ""
    freeze_d: int = 0
    on_change: str = "refuse"


@dataclass(frozen=True)
class ScheduleConfig:
    """What numbers of the recipe become while `kimg` thousand images pass (0: the run's length).

    `kind`: constant (all stay, whatever else is here), or cosine (half a wave; then they stay). At
    its end `lr` is the factor of learning rates, `gamma` that of penalties' gammas, `ema` that of
    ema_kimg; `beta2` and `p` (augment.p, mode fixed) are values, -1 where they stay.
    """

    kind: str = "constant"
    kimg: float = 0.0
    lr: float = 1.0
    gamma: float = 1.0
    ema: float = 1.0
    beta2: float = -1.0
    p: float = -1.0


@dataclass(frozen=True)
class AugmentConfig:
    """How what D sees is augmented, for data too few to learn without (Karras et al. 2020b).

    `mode`: none, fixed (with probability `p`) or ada (p starts there and rises by 1 per `kimg`
    thousand images while D's mean sign on real images is above `target`, else falls; it moves every
    `interval` iterations). `pipeline`: see config.augmentations;
    `apa`: images are as they are, and with that probability D is shown a generated one as real.
    """

    mode: str = "none"
    pipeline: str = "bgc"
    p: float = 0.0
    target: float = 0.6
    interval: int = 4
    kimg: float = 500.0


@dataclass(frozen=True)
class PatchConfig:
    """Training on pictures of any sizes, by patches of the model's size.

    Of the families that are continuous: inr_gan_any, cips_skip, cips_res.

    `largest`: longer side, in pixels, up to which pictures are used (0: images are whole, and of
    the model's size). For each a size is drawn between the model's and its own, uniform or `log`
    (`scales`), and a window of it; a part `whole` are whole pictures. `consistency`: weight of the
    mean squared difference between a patch, 2x2 pixels averaged, and the function at half its size.
    """

    largest: int = 0
    whole: float = 0.25
    scales: str = "uniform"
    consistency: float = 0.0


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured of the averaged generator, and how often while it trains.

    `metrics`: names, separated by commas (see metric_names). `kimg`: the cadence (0: not while
    training). `batch_size`: images at a time on each device. `truncation`: psi. `per_class`: the
    Frechet distances of each class too. `ppl_crop`: path lengths are of the middle of the image, as
    published for faces. `collapse_below`: a class is warned about whose images vary
    less than this part of what real ones do. `keep_best`: one of the metrics, a distance, whose
    best checkpoint stays beside the newest, as WORKDIR/best; after `stop_after` kimg without a
    better one the run ends (0: it does not).
    """

    metrics: str = "fid50k_full"
    kimg: float = 0.0
    batch_size: int = 32
    truncation: float = 1.0
    per_class: bool = False
    ppl_crop: bool = False
    collapse_below: float = 0.1
    keep_best: str = ""
    stop_after: float = 0.0


@dataclass(frozen=True)
class LogConfig:
    """How often (kimg) something is written, and how many checkpoints stay.

    `writers`: where curves and pictures go: tensorboard, and perhaps wandb and mlflow, which are
    told what its files hold (see storage.mirror).
    """

    writers: str = "tensorboard"
    metrics_kimg: float = 4.0
    grid_kimg: float = 200.0
    checkpoint_kimg: float = 200.0
    keep: int = 3
    grid_size: int = 64


@dataclass(frozen=True)
class ProfileConfig:
    """A trace of `steps` iterations, from the `start`-th after this start on (0 steps: none)."""

    steps: int = 0
    start: int = 10


@dataclass(frozen=True)
class MeshConfig:
    """How devices share the work: `fsdp` of them hold the parts of one copy of the networks."""

    fsdp: int = 1


@dataclass(frozen=True)
class Config:
    """A whole run: one configuration, one seed.

    `kernels`: what evaluates the generator's grids while it trains: xla, pallas (fused kernels for
    TPUs) or auto (on a TPU both are timed, once).
    """

    seed: int = 0
    kernels: str = "auto"
    model: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    patches: PatchConfig = field(default_factory=PatchConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    log: LogConfig = field(default_factory=LogConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)


# Fields of the networks that follow from others and are not to be set in a configuration.
DERIVED = {
    "model": ("num_classes",),
    "discriminator": ("height", "width", "channels", "num_classes", "levels"),
}
