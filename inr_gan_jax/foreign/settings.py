"""The released constructors' arguments -> fields of our configurations, or a UserError."""

import re
from typing import Any

from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.unpickle import printable
from inr_gan_jax.models.fourier import Embedding

_MODULATION = {"demod": "fmm_demod", "tanh": "fmm_tanh", "sigmoid": "fmm_sigmoid"}
_EMBEDDING = {
    "log_emb_size": "log",
    "random_emb_size": "random",
    "shared_emb_size": "shared",
    "predictable_emb_size": "predicted",
    "const_emb_size": "table",
    "use_cosine": "cosine",
    "use_diagonal": "diagonal",
    "use_raw_coords": "raw",
    "fourier_scale": "scale",
    "init_dist": "distribution",
}
_DISTRIBUTIONS = {"randn": "normal", "rand": "uniform"}
# Precision and memory layout: they do not change what a network computes.
_HARMLESS = ("num_fp16_res", "fp32", "channels_last", "use_full_cache", "fmaps", "freeze_layers",
             "fused_modconv_default", "mapping_net_n_layers")  # fmt: skip
_MOST_SETTINGS, _MOST_LAYERS = 100_000, 100
_SHAPE = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")
_SECTIONS = ("mapping_kwargs", "synthesis_kwargs")
_SYNTHESIS = {"channel_base", "channel_max", "conv_clamp"}
# What our networks are, wherever the released code had a choice. None means "the default" there.
_FIXED = {
    "architecture": "skip",  # of StyleGAN2-ADA's G; D's is a choice
    "activation": "lrelu",
    "coord_dim": 2,
    "kernel_size": 1,
    "lr_multiplier": 0.01,
    "mbstd_num_channels": 1,
    "per_resolution": True,
    "resample_filter": [1, 3, 3, 1],
    "use_noise": True,
    "w_avg_beta": 0.995,
}


def generator_fields(arguments: dict) -> tuple[str, dict[str, Any], int, tuple[str, ...]]:
    """Arguments of the released `Generator` -> (family, fields, number of classes, notes).

    The fields are those of GeneratorConfig. Raises UserError for what it cannot express.
    """
    _refuse(arguments, {*_SHAPE, *_SECTIONS, "cfg"}, "G")
    synthesis = _section(arguments, "synthesis_kwargs")
    _refuse(synthesis, _SYNTHESIS, "G.synthesis_kwargs")
    cfg, fields = _section(arguments, "cfg"), _shape(arguments, synthesis)
    family, special = _family(cfg, fields["height"])
    classes = _number(arguments, "c_dim")
    return family, fields | special, classes, (*_clamped(synthesis, "G"), *_unknown(cfg))


def ada_fields(arguments: dict) -> tuple[str, dict[str, Any], int, tuple[str, ...]]:
    """The same of StyleGAN2-ADA's `Generator`: it has no `cfg`, and is the StyleGAN2 baseline.

    Its synthesis is described in a section, or, as StyleGAN3's repository writes it, beside the
    rest.
    """
    if "magnitude_ema_beta" in {*arguments, *_section(arguments, "synthesis_kwargs")}:
        raise UserError(
            "a StyleGAN3 checkpoint: its alias-free networks have no place here; StyleGAN2(-ADA), "
            "INR-GAN and CIPS are converted"
        )
    flat = {key: value for key, value in arguments.items() if key not in (*_SHAPE, *_SECTIONS)}
    synthesis = flat | _section(arguments, "synthesis_kwargs")
    _refuse(synthesis, _SYNTHESIS, "G.synthesis_kwargs")
    fields = _shape(arguments, synthesis) | {"input_resolution": 4, "extra_layers": 0}
    return "stylegan2", fields, _number(arguments, "c_dim"), _clamped(synthesis, "G")


def _shape(arguments: dict, synthesis: dict) -> dict[str, Any]:
    """What every generator has, from its arguments and those of its synthesis."""
    mapping = _section(arguments, "mapping_kwargs")
    _refuse(mapping, {"num_layers"}, "G.mapping_kwargs")
    fields = {
        "height": _number(arguments, "img_resolution"),
        "width": _number(arguments, "img_resolution"),
        "channels": _number(arguments, "img_channels"),
        "z_dim": _number(arguments, "z_dim"),
        "w_dim": _number(arguments, "w_dim"),
        "mapping_layers": _number(mapping, "num_layers", 8, _MOST_LAYERS),
        "channel_base": _number(synthesis, "channel_base", 32768),
        "channel_max": _number(synthesis, "channel_max", 512),
    }
    if fields["height"] < 8 or fields["height"] & (fields["height"] - 1):
        raise UserError(f"img_resolution = {fields['height']} is no power of two from 8 up")
    return fields


def discriminator_fields(
    arguments: dict, model: dict, classes: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Arguments of the released `Discriminator` -> (fields of DiscriminatorConfig, notes).

    `model` and `classes` are the generator's, which must agree. Raises UserError.
    """
    shape = {"img_resolution": "height", "img_channels": "channels"}
    for key, ours in shape.items():
        if _number(arguments, key) != model[ours]:
            raise UserError(f"G and D differ in {key}")
    if _number(arguments, "c_dim") != classes:
        raise UserError("G and D differ in c_dim")
    taken = {"c_dim", *shape, "architecture", "channel_base", "channel_max", "conv_clamp"}
    sections = ("mapping_kwargs", "epilogue_kwargs", "block_kwargs", "cfg")
    _refuse(arguments, taken | {*sections, "cmap_dim"}, "D")
    width = min(_number(arguments, "channel_base", 32768) // 4,
                _number(arguments, "channel_max", 512))  # fmt: skip
    if arguments.get("cmap_dim") not in (None, width):
        raise UserError(f"D.cmap_dim = {arguments['cmap_dim']!r} is not the width of its end")
    mapping, epilogue, block, _ = (_section(arguments, name) for name in sections)
    _refuse(mapping, {"num_layers"}, "D.mapping_kwargs")
    _refuse(epilogue, {"mbstd_group_size"}, "D.epilogue_kwargs")
    _refuse(block, set(), "D.block_kwargs")
    fields = {
        "architecture": arguments.get("architecture", "resnet"),
        "channel_base": _number(arguments, "channel_base", 32768),
        "channel_max": _number(arguments, "channel_max", 512),
        "group": _number(epilogue, "mbstd_group_size", 4),
        "mapping_layers": _number(mapping, "num_layers", 8, _MOST_LAYERS),
    }
    if fields["architecture"] not in ("resnet", "skip", "orig"):
        raise UserError(f"D.architecture = {fields['architecture']!r} is not resnet, skip or orig")
    return fields, _clamped(arguments, "D")


def _family(cfg: dict, final: int) -> tuple[str, dict[str, Any]]:
    """(family, the fields that make it) from the released model's configuration."""
    source, coords, fmm = (_section(cfg, name) for name in ("input", "coords", "fmm"))
    modulated, bilinear = bool(fmm.get("enabled")), cfg.get("upsampling_mode") == "bilinear"
    start = _number(source, "resolution")
    if source.get("type") == "const":
        if coords.get("enabled") or modulated or not cfg.get("use_noise") or start != 4:
            raise UserError("a constant input with coordinates, FMM or without noise is no family")
        if cfg.get("upsampling_mode") is not None:
            raise UserError(f"cfg.upsampling_mode = {cfg['upsampling_mode']!r} is no StyleGAN2")
        return "stylegan2", {"input_resolution": 4, **_extra_layers(cfg, 4, final)}
    if source.get("type") != "coords" or not coords.get("enabled") or cfg.get("use_noise"):
        raise UserError(
            f"cfg.input.type = {source.get('type')!r}, coords.enabled = {coords.get('enabled')!r}, "
            f"use_noise = {cfg.get('use_noise')!r} is none of the four released families"
        )
    if cfg.get("upsampling_mode") not in ("nearest", "bilinear"):
        raise UserError(f"cfg.upsampling_mode = {cfg.get('upsampling_mode')!r} is unknown")
    if start < 4 or start > final or start & (start - 1):
        raise UserError(f"cfg.input.resolution = {start} is no power of two from 4 to {final}")
    fields = {"input_resolution": start, "upsampling": cfg["upsampling_mode"]}
    if not modulated:
        fields["input_resolution"] = 0 if start == final else start
        return "cips", fields | _by_resolution(cfg, start, final)
    _refuse(fmm, {"enabled", "rank", "activation", "instance_norm"}, "cfg.fmm")
    if bool(fmm.get("instance_norm")) != bilinear:
        raise UserError("instance norm comes with bilinear upsampling, and only with it")
    if fmm.get("activation") not in _MODULATION:
        raise UserError(f"cfg.fmm.activation = {fmm.get('activation')!r} is unknown")
    fields |= {
        "rank": _number(fmm, "rank"),
        "modulation": _MODULATION[fmm["activation"]],
        "instance_norm": bilinear,
    }
    return "inr_gan_bil" if bilinear else "inr_gan", fields | _by_resolution(cfg, start, final)


def _by_resolution(cfg: dict, start: int, final: int) -> dict[str, Any]:
    """Embeddings and extra layers: one of each below `fine_from`, another from there on."""
    source = _section(cfg, "input")
    first = _embeddings(_section(source, "coord_fuser_cfg", cfg), [start], cfg)
    later = [2**k for k in range(final.bit_length()) if start < 2**k <= final]
    every = first | _embeddings(_section(cfg, "coords", cfg), later, cfg)
    return _extra_layers(cfg, start, final, every)


def _extra_layers(cfg: dict, start: int, final: int, embeddings=None) -> dict[str, Any]:
    counts = {str(k): v for k, v in _section(cfg, "num_extra_convs", cfg).items()}
    running = [2**k for k in range(final.bit_length()) if start <= 2**k <= final]
    extra = {r: _number(counts, str(r), 0, _MOST_LAYERS) for r in running}
    # The released switch-over, then any other; below the smallest and above the largest included.
    for fine_from in (128, *running, 2 * final):
        halves = [[r for r in running if (r >= fine_from) == fine] for fine in (False, True)]
        coarse, fine = ({(embeddings or {}).get(r) for r in half} for half in halves)
        counted = {extra[r] for r in halves[1]} or {0}
        if max(len(coarse), len(fine), len(counted)) > 1 or any(extra[r] for r in halves[0]):
            continue
        fields = {"fine_from": fine_from, "extra_layers": counted.pop()}
        if embeddings:
            fields["embedding_coarse"] = next(iter(coarse or fine))
            fields["embedding_fine"] = next(iter(fine or coarse))
        return fields
    if len(set((embeddings or {}).values())) > 1 and any(extra.values()):
        # Counts of their own at each resolution, where the embeddings alone change once.
        plain = _extra_layers({}, start, final, embeddings)
        return plain | {"extra_at": tuple((r, n) for r, n in extra.items() if n)}
    if not embeddings or len(set(embeddings.values())) == 1:
        plain = {"embedding_coarse": e, "embedding_fine": e} if (e := _one(embeddings)) else {}
        rows = tuple((r, n) for r, n in extra.items() if n)
        return plain | {"extra_layers": 0, "extra_at": rows}
    raise UserError(
        "its embeddings change more than once with the resolution; model.fine_from can express one "
        "change"
    )


def _one(embeddings: dict[int, Embedding] | None) -> Embedding | None:
    return next(iter((embeddings or {}).values()), None)


def _embeddings(coords: dict, resolutions: list[int], cfg: dict) -> dict[int, Embedding]:
    """The embedding of each of `resolutions` from the released coordinates' configuration."""
    sections = {key for key, value in coords.items() if isinstance(value, (dict, str))}
    _refuse(coords, {"enabled", *sections}, "cfg.coords")  # sections matter where they are named
    entries = {str(k): v for k, v in _section(coords, "res_configs", cfg).items()}
    return {r: _embedding(_section(entries, str(r), cfg), r) for r in resolutions}


def _embedding(entry: dict, resolution: int) -> Embedding:
    where = f"cfg.coords.res_configs.{resolution}"
    _refuse(entry, set(_EMBEDDING), where)
    if not entry:
        raise UserError(f"{where} is missing: there is no embedding for that resolution")
    values = {}
    for key, name in _EMBEDDING.items():
        value = entry.get(key)
        if name in ("log", "random", "shared", "predicted", "table"):
            values[name] = _number(entry, key, 0)
        elif name in ("cosine", "diagonal", "raw"):
            values[name] = bool(value)
        elif name == "scale" and isinstance(value, (int, float)):
            values[name] = float(value)
        elif name == "distribution" and value is not None:
            if value not in _DISTRIBUTIONS:
                raise UserError(f"{where}.{key} = {value!r} is unknown")
            values[name] = _DISTRIBUTIONS[value]
    return Embedding(**values)


def _section(values: dict, key: str, root: dict | None = None) -> dict:
    """A section with settings; with a `root`, `${a.b}` in its place stands for what lies there."""
    section = values.get(key)
    if root is not None:
        section = _referred(section, root)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise UserError(f"{key} is no section with settings")
    return section


def _referred(value: Any, root: dict) -> Any:
    """`${a.b}` -> what stands at a.b from the root of a configuration; all else as it is."""
    trail = []
    while isinstance(value, str) and (found := re.fullmatch(r"\$\{\s*([^${}]+?)\s*\}", value)):
        trail.append(found[1])
        if len(trail) > 20 or found[1] in trail[:-1]:
            raise UserError(f"cfg: {' -> '.join(trail)[:100]} leads back to itself")
        value = root
        for key in found[1].split("."):
            keys = {str(k): k for k in value} if isinstance(value, dict) else {}
            if key not in keys:
                raise UserError(f"cfg: ${{{found[1]}}} is not there (no {key!r})")
            value = value[keys[key]]
    return value


def _number(values: dict, key: str, default: int | None = None, most: int = 1 << 40) -> int:
    value = values.get(key, default)
    if type(value) is not int or value < 0:
        raise UserError(f"{key} = {value!r} is no natural number")
    if value > most:
        raise UserError(f"{key} = {value!r} is more than {most}")
    return value


def require_plain(value: Any) -> None:
    """UserError for settings that, written out, are endless: a file can nest its parts in parts."""
    left, waiting = _MOST_SETTINGS, [value]
    while waiting:
        value = waiting.pop()
        left -= 1
        if left < 0:
            raise UserError("its settings are endless")
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value


def _refuse(section: dict, taken: set[str], where: str) -> None:
    """UserError for a setting that is neither in `taken`, nor off, nor what our networks do."""
    for key, value in section.items():
        if key in taken or key in _HARMLESS or value in (None, False, 0, {}):
            continue
        if key not in _FIXED or value != _FIXED[key]:
            raise UserError(f"{where}.{key} = {value!r} cannot be expressed here")


def _clamped(section: dict, name: str) -> tuple[str, ...]:
    clamp = section.get("conv_clamp")
    if clamp is None:
        return ()
    return (f"{name} clamped its activations at {clamp}, for half precision; here nothing does",)


def _unknown(cfg: dict) -> tuple[str, ...]:
    known = {"upsampling_mode", "use_noise", "num_extra_convs", "input", "coords", "fmm"}
    names = sorted(str(key) for key in cfg if key not in known and key not in _HARMLESS)
    shown = printable(", ".join(names))
    return (f"ignored settings of the released code: {shown}",) if names else ()
