"""The recipes that are compared: names (of letters and digits, as folders are named after them).

Each with what of the released recipe it changes.
"""

from inr_gan_jax.config.recipes import RECIPES

RELATIVISTIC = {"train.loss": "relativistic", "train.r2_gamma": -1.0}
COSINE = {"schedule.kind": "cosine", "schedule.lr": 0.1}

CONTINUOUS = {"model.family": "inr_gan_any", "model.upsampling": "continuous"}
NO_TABLES = {"model.embedding_coarse.table": 0, "model.embedding_fine.table": 0}

SMALL = {"train.batch_size": 16}
FALLOFF, STEEPER, STEEPEST = (
    {"model.embedding_coarse.falloff": value, "model.embedding_fine.falloff": value}
    for value in (0.5, 1.0, 2.0)
)
ANY_SCALE = SMALL | CONTINUOUS | NO_TABLES | FALLOFF | {"model.rank": 10}
TURNED = {"model.embedding_coarse.turned": True, "model.embedding_fine.turned": True}
TURNED_STEEPER = ANY_SCALE | STEEPER | TURNED
SPIRAL = {
    f"model.embedding_{which}.{key}": value
    for which in ("coarse", "fine")
    for key, value in {"turned": False, "diagonal": False, "spiral": True}.items()
}
FIXUP = {"discriminator.fixup": True}
GAMMA = {"train.r1_gamma": 1.0}
LR = {"train.g_lr": 0.005, "train.d_lr": 0.005}
SAN = {"discriminator.san": True}
WIDER_D = {"discriminator.channel_max": 128}
# What is tried beside Fixup, which did best of those.
BESIDE_FIXUP = {
    "higher gamma": GAMMA,
    "highest gamma": {"train.r1_gamma": 5.0},
    "pairs, r1, r2 lazy": RELATIVISTIC,
    "higher gamma, pairs": GAMMA | {"train.loss": "relativistic"},
    "higher gamma, SAN": GAMMA | SAN,
    "higher gamma, higher lr": GAMMA | LR,
    "higher gamma, smallest batch": GAMMA | {"train.batch_size": 8},
    "higher gamma, batch 32": GAMMA | {"train.batch_size": 32},
    "higher gamma, wider D": GAMMA | WIDER_D,
    "higher gamma, higher lr, wider D": GAMMA | LR | WIDER_D,
    "higher gamma, rank 4": GAMMA | {"model.rank": 4},
    "higher gamma, falloff 2": GAMMA | STEEPEST,
    "higher gamma, higher lr, falloff 2": GAMMA | LR | STEEPEST,
    "higher gamma, longer EMA": GAMMA | {"train.ema_kimg": 4.0},
}
ADA = {"augment.mode": "ada", "augment.kimg": 50.0}
# What is tried beside the released recipe alone and beside the one that did best with it.
ALSO = {
    "SAN": SAN,
    "Fixup": FIXUP,
    **{f"Fixup, {name}": FIXUP | also for name, also in BESIDE_FIXUP.items()},
    "LeCam": {"train.lecam": 0.1},
    "D sees levels": {"train.d_levels": True},
    "D sees levels, aligned": {"train.d_levels": True, "train.align_weight": 1.0},
    "jitter": {"train.jitter": True},
    "higher lr": LR,
    "lower gamma": {"train.r1_gamma": 0.01},
    "higher lr, lower gamma": LR | {"train.r1_gamma": 0.01},
    "higher gamma": GAMMA,
    "pairs, r1, r2 lazy": RELATIVISTIC,
    "wider D": WIDER_D,
    "smaller D": {"discriminator.channel_max": 32},
    "wider G": {"model.channel_max": 64, "model.channel_base": 2048},
    "finer input": {"model.input_resolution": 16},
    "augmented": {"augment.mode": "fixed", "augment.p": 0.2},
    "ADA": ADA,
    "APA": ADA | {"augment.pipeline": "apa"},
}

CANDIDATES: dict[str, dict[str, object]] = {
    "released": {},
    "lower lr": {"train.g_lr": 0.00125, "train.d_lr": 0.00125},
    "cosine": COSINE,
    "r1 every step": {"train.r1_interval": 0, "train.g_interval": 0},
    "r1 by differences": {
        "train.r1_interval": 0, "train.g_interval": 0, "train.penalty": "differences"
    },
    "r1, r2 lazy": {"train.r2_gamma": -1.0},
    "pairs": {"train.loss": "relativistic"},
    "pairs, r1, r2 by differences": RELATIVISTIC
    | {"train.r1_interval": 0, "train.g_interval": 0, "train.penalty": "differences"},
    "pairs, r1, r2 every step": RELATIVISTIC | {"train.r1_interval": 0, "train.g_interval": 0},
    "frozen tables": {"train.table_lr": 0.0},
    "slow tables": {"train.table_lr": 0.1},
    "no tables": NO_TABLES,
    "continuous": CONTINUOUS,
    "continuous, no tables": CONTINUOUS | NO_TABLES,
    "smaller batch": SMALL,
    "smaller batch, rank 10": SMALL | {"model.rank": 10},
    "smaller batch, finer input": SMALL | {"model.input_resolution": 16},
    "smaller batch, no tables": SMALL | NO_TABLES,
    "smaller batch, continuous": SMALL | CONTINUOUS | NO_TABLES,
    "smaller batch, continuous, falloff": SMALL | CONTINUOUS | NO_TABLES | FALLOFF,
    "any-scale": ANY_SCALE,
    "any-scale, spline": ANY_SCALE | {"model.nodes": "spline"},
    "any-scale, falloff 1": ANY_SCALE | STEEPER,
    "any-scale, turned": ANY_SCALE | TURNED,
    "any-scale, turned, falloff 1": TURNED_STEEPER,
    "any-scale, turned, falloff 1, smallest batch": TURNED_STEEPER | {"train.batch_size": 8},
    "any-scale, spiral, best": ANY_SCALE | STEEPER | SPIRAL | RECIPES["best"],
    "smallest batch": {"train.batch_size": 8},
    "higher rank": {"model.rank": 8},
    **ALSO,
    **{
        f"any-scale, turned, falloff 1, {name}": TURNED_STEEPER | also
        for name, also in ALSO.items()
        if "train.d_levels" not in also  # at 16x16 there are none that D could see
    },
}  # fmt: skip


def changed(config, name: str):
    """A set's configuration with a candidate's changes."""
    config.update_from_flattened_dict(CANDIDATES[name])
    return config
