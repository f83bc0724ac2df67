"""What a configuration may hold: every rule between its values, each told in one line."""

import math

from inr_gan_jax.config.augmentations import PIPELINES, PSEUDO
from inr_gan_jax.config.metric_names import parse_names
from inr_gan_jax.config.writer_names import mirrors_of
from inr_gan_jax.errors import UserError, nearest
from inr_gan_jax.models import families
from inr_gan_jax.models.discriminator import layer_paths
from inr_gan_jax.storage.averages import widths_of

# What makes a family what it is: a name alone must not claim it.
DEFINING = {
    "inr_gan": {"upsampling": "nearest", "instance_norm": False},
    "inr_gan_bil": {"upsampling": "bilinear", "instance_norm": True},
    "inr_gan_any": {"upsampling": "continuous", "instance_norm": False},
    "cips": {"modulation": "style_demod"},
    "cips_skip": {"modulation": "style_demod", "input_resolution": 0},
    "cips_res": {"modulation": "style_demod", "input_resolution": 0},
    "stylegan2": {},
    "paper": {"modulation": "fmm_paper"},
}


def check(config) -> None:
    """Raises UserError for the first value of a Config that cannot be."""
    model, train = config.model, config.train
    _check_choice("config.model.family", model.family, tuple(families.FAMILIES))
    for name, value in DEFINING[model.family].items():
        if getattr(model, name) != value:
            raise UserError(
                f"config.model.family={model.family} means config.model.{name}={value!r}, not "
                f"{getattr(model, name)!r}; start from the family's own file in configs/"
            )
    try:
        families.check(model)
        if model.family != "stylegan2":
            spec = families.inr_spec(model)
            if config.kernels == "pallas" and not spec.fusible:
                raise ValueError(f"kernels=pallas: there are none for {model.family}; use xla")
            styles = sum(len(block.layers) for block in spec.blocks) + 1
            if train.mixing_prob and model.family == "paper":
                raise ValueError(f"train.mixing_prob > 0 needs several styles, not 1 of {styles}")
        elif config.kernels == "pallas":
            raise ValueError("kernels=pallas: there are none for stylegan2; use xla")
    except ValueError as error:
        raise UserError(f"config: {error}") from None
    _check_choice("config.kernels", config.kernels, ("auto", "xla", "pallas"))
    if config.seed < 0:
        raise UserError(f"config.seed = {config.seed} must be 0 or more")
    counts = ("batch_size", "microbatches", "max_nonfinite")
    for name in ("kimg", *counts, "g_lr", "d_lr", "ema_kimg", "eps"):
        if not getattr(train, name) > 0:
            raise UserError(f"config.train.{name} = {getattr(train, name)} must be above 0")
    rates = ("path_weight", "shared_lr", "table_lr", "ema_rampup", "align_weight", "lecam")
    for name in ("g_interval", "r1_interval", *rates):
        if getattr(train, name) < 0:
            raise UserError(f"config.train.{name} = {getattr(train, name)} must not be negative")
    for name in ("r1_gamma", "r2_gamma"):
        if (value := getattr(train, name)) < 0 and value != -1:
            raise UserError(f"config.train.{name} = {value} must be 0 or more, or -1: by rule")
    for name in ("beta1", "beta2"):
        if not 0 <= getattr(train, name) < 1:
            raise UserError(f"config.train.{name} = {getattr(train, name)} must be in [0, 1)")
    if not 0 <= train.mixing_prob <= 1:
        raise UserError(f"config.train.mixing_prob = {train.mixing_prob} must be in [0, 1]")
    _check_choice("config.train.dtype", train.dtype, ("float32", "bfloat16"))
    _check_choice("config.train.on_change", train.on_change, ("refuse", "continue"))
    _check_choice("config.train.loss", train.loss, ("logistic", "relativistic"))
    _check_choice("config.train.penalty", train.penalty, ("exact", "differences"))
    try:
        widths_of(train.power_ema)
    except ValueError as error:
        raise UserError(f"config.train.power_ema = {train.power_ema!r}: {error}") from None
    _check_levels(config)
    _check_patches(config)
    _check_schedule(config)
    if train.path_weight and not train.g_interval:
        raise UserError("config.train.path_weight needs config.train.g_interval of 1 or more")
    if config.mesh.fsdp < 1:
        raise UserError(f"config.mesh.fsdp = {config.mesh.fsdp} must be 1 or more")
    _check_augment(config)
    _check_evaluate(config)
    if config.log.keep < 1 or config.log.grid_size < 1:
        raise UserError("config.log.keep and config.log.grid_size must be 1 or more")
    mirrors_of(config.log.writers)
    for name in (
        "data.threads",
        "data.workers",
        "data.max_skipped",
        "profile.steps",
        "profile.start",
    ):
        section, key = name.split(".")
        value = getattr(getattr(config, section), key)
        if value < 0:
            raise UserError(f"config.{name} = {value} must be 0 or more")
    if not config.data.source:
        raise UserError(
            "config.data.source is empty: give --config.data.source=images.zip (or a folder, "
            "digits, or tfds:NAME)"
        )


def _check_levels(config) -> None:
    train, family = config.train, config.model.family
    if train.d_levels and not config.discriminator.levels:
        raise UserError(
            f"config.train.d_levels: {family} has no levels of more than 4 pixels below the image"
        )
    if train.align_weight and not train.d_levels:
        raise UserError("config.train.align_weight needs config.train.d_levels=True")
    if train.jitter and family in ("stylegan2", "cips_skip", "cips_res"):
        raise UserError(f"config.train.jitter: {family} is no function on cells")
    for name in ("d_levels", "jitter"):
        if getattr(train, name) and config.kernels == "pallas":
            raise UserError(f"config.train.{name}: there are no kernels for it; use kernels=xla")


def _check_patches(config) -> None:
    patches, model = config.patches, config.model
    if not patches.largest:
        if model.aspect == "auto":
            raise UserError("config.model.aspect=auto needs config.patches.largest")
        if patches.consistency:
            raise UserError("config.patches.consistency needs config.patches.largest")
        return
    if model.family not in families.CONTINUOUS:
        raise UserError(f"config.patches.largest: {model.family} knows its own size alone")
    long, most = max(model.height, model.width), 1 << 16
    if not long <= patches.largest <= most:
        raise UserError(
            f"config.patches.largest = {patches.largest} must be {long} (the model's) to {most}"
        )
    if not 0 <= patches.whole <= 1:
        raise UserError(f"config.patches.whole = {patches.whole} must be in [0, 1]")
    _check_choice("config.patches.scales", patches.scales, ("uniform", "log"))
    if patches.consistency < 0:
        raise UserError(f"config.patches.consistency = {patches.consistency} must not be negative")
    if config.train.jitter:
        raise UserError("config.train.jitter: patches lie anywhere as it is")


def _check_schedule(config) -> None:
    schedule = config.schedule
    _check_choice("config.schedule.kind", schedule.kind, ("constant", "cosine"))
    for name in ("kimg", "lr", "gamma", "ema"):
        if getattr(schedule, name) < 0:
            raise UserError(f"config.schedule.{name} = {getattr(schedule, name)} must be 0 or more")
    for name, most in (("beta2", math.nextafter(1, 0)), ("p", 1)):
        if not ((value := getattr(schedule, name)) == -1 or 0 <= value <= most):
            brackets = "[0, 1]" if most == 1 else "[0, 1)"
            raise UserError(f"config.schedule.{name} = {value} must be in {brackets}, or -1: stays")
    if schedule.kind == "cosine" and schedule.p >= 0 and config.augment.mode != "fixed":
        raise UserError(f"config.schedule.p = {schedule.p} needs config.augment.mode=fixed")


def _check_augment(config) -> None:
    augment = config.augment
    _check_choice("config.augment.mode", augment.mode, ("none", "fixed", "ada"))
    _check_choice("config.augment.pipeline", augment.pipeline, (*PIPELINES, PSEUDO))
    if augment.pipeline == PSEUDO and augment.mode != "none" and config.train.loss != "logistic":
        raise UserError(
            "config.augment.pipeline=apa needs config.train.loss=logistic: of a pair whose real "
            "image is the generated one there is nothing to learn"
        )
    if not 0 <= augment.p <= 1:
        raise UserError(f"config.augment.p = {augment.p} must be in [0, 1]")
    if augment.p and augment.mode == "none":
        raise UserError(f"config.augment.p = {augment.p} needs config.augment.mode=fixed or ada")
    if not -1 < augment.target < 1:
        raise UserError(f"config.augment.target = {augment.target} must be between -1 and 1")
    if augment.interval < 1 or not augment.kimg > 0:
        raise UserError("config.augment.interval and config.augment.kimg must be above 0")
    layers = len(layer_paths(config.discriminator))
    if not 0 <= config.train.freeze_d < layers:
        raise UserError(
            f"config.train.freeze_d = {config.train.freeze_d} must be 0 to {layers - 1}: this "
            f"discriminator has {layers} layers"
        )


def _check_evaluate(config) -> None:
    evaluate = config.evaluate
    metrics = {metric.name: metric.kind for metric in parse_names(evaluate.metrics)}
    if best := evaluate.keep_best:
        distances = [name for name, kind in metrics.items() if kind not in ("is", "pr")]
        if best not in distances or not evaluate.kimg:
            raise UserError(
                f"config.evaluate.keep_best = {best!r} must be a distance of "
                f"config.evaluate.metrics ({', '.join(distances) or 'there is none'}), measured "
                "while it trains (config.evaluate.kimg above 0)"
            )
    if evaluate.stop_after < 0 or (evaluate.stop_after and not best):
        raise UserError(
            f"config.evaluate.stop_after = {evaluate.stop_after} must be 0 or more, and needs "
            "config.evaluate.keep_best"
        )
    if evaluate.kimg < 0 or (evaluate.kimg and not evaluate.metrics):
        raise UserError(
            f"config.evaluate.kimg = {evaluate.kimg} must be 0 or more, and needs "
            "config.evaluate.metrics"
        )
    if evaluate.batch_size < 1:
        raise UserError(f"config.evaluate.batch_size = {evaluate.batch_size} must be 1 or more")
    if not 0 <= evaluate.collapse_below < 1:
        raise UserError("config.evaluate.collapse_below must be in [0, 1)")


def _check_choice(key: str, value: str, choices) -> None:
    if value not in choices:
        raise UserError(
            f"{key} = {value!r} must be one of {', '.join(choices)}" + nearest(value, choices)
        )


def check_batch(batch_size: int, microbatches: int, group: int, devices: int) -> None:
    """UserError, naming the nearest legal sizes, where a batch cannot be cut for the devices."""
    unit = math.lcm(devices * microbatches * group, 2 * devices * microbatches)
    if batch_size % unit:
        below = max(batch_size // unit, 1) * unit
        halves = ", of which path lengths take half" if group % 2 else ""
        raise UserError(
            f"config.train.batch_size = {batch_size} must be a multiple of {unit} ({devices} "
            f"device(s) x {microbatches} microbatch(es) x groups of {group}{halves}): "
            f"for instance {below} or {below + unit}"
        )
