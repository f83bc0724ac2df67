"""What of a run changes between its starts: refused, or, if asked for, recorded with its time.

A record (run.json) has `identity`, the flat keys that make the run this run, and `changes`: each
with the image count from which on it holds, so that every later start does the same again.
"""

from inr_gan_jax.config import Config
from inr_gan_jax.data.sources import Source
from inr_gan_jax.errors import UserError

_FIXED = ("config.seed", "config.model.", "config.discriminator.", "config.data.labels",
          "config.train.power_ema", "config.train.d_levels")  # fmt: skip
# Adam keeps nothing of what these leave out: they may change, but not from or to 0.
_STORED = ("config.train.beta1", "config.train.shared_lr", "config.train.lecam")
# The order of the images starts anew where one of these changes.
_ORDER = ("config.data.content", "config.data.mirror", "config.train.batch_size")
_AUGMENT = ("config.augment.mode", "config.augment.p")
_SHOWN = 10


def accept(record: dict, ours: dict, config: Config, source: Source, workdir) -> None:
    """Makes `record` that of a run with the identity `ours`.

    Raises UserError, one line that names what changed, where it may not, or was not asked to.
    """
    theirs = record["identity"]
    if theirs.get("config.data.content") in source.former_hashes:  # the same data
        theirs["config.data.content"] = ours["config.data.content"]
    data = {"images": len(source), "classes": source.num_classes}
    before = record.get("data", {})
    keys = [*ours, *(key for key in theirs if key not in ours)]
    changed = {k: [theirs.get(k), ours.get(k)] for k in keys if theirs.get(k) != ours.get(k)}
    said = _in_words(changed, before, data)
    for key, (old, new) in changed.items():
        if key.startswith(_FIXED) or (key in _STORED and bool(old) != bool(new)):
            raise UserError(
                f"{workdir} holds another run: {said[key]}, which cannot change; "
                "choose another --workdir"
            )
    if before and before.get("classes") != data["classes"]:
        raise UserError(
            f"{workdir} holds another run: its data had {before.get('classes')} classes, now "
            f"{data['classes']}, which cannot change; choose another --workdir"
        )
    words = "; ".join(list(said.values())[:_SHOWN])
    words += f"; and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
    if changed and config.train.on_change != "continue":
        raise UserError(
            f"{workdir} holds another run: {words}; choose another --workdir, or "
            "--config.train.on_change=continue to go on with this"
        )
    if changed:
        change = {"images": None, "changed": changed, "said": words}  # dated when it is known
        record.setdefault("changes", []).append(change)
    record["identity"], record["data"] = ours, data


def dated(record: dict, images: int) -> bool:
    """Dates what has no date yet, or a later one than `images`, where the run goes on.

    Returns whether that changed the record.
    """
    late = [c for c in record.get("changes", []) if c["images"] is None or c["images"] > images]
    for change in late:
        change["images"] = images
    return bool(late)


def order_from(record: dict) -> int:
    """The image count from which on the present order of the images holds."""
    changes = record.get("changes", [])
    return max((c["images"] for c in changes if _any(c, _ORDER)), default=0)


def augmented_anew(record: dict, images: int) -> bool:
    """Whether the probability of augmentation starts again at this image count."""
    return any(c["images"] == images and _any(c, _AUGMENT) for c in record.get("changes", []))


def lines(record: dict) -> list[str]:
    """All changes, in words."""
    return [f"since {c['images'] / 1000:g} kimg: {c['said']}" for c in record.get("changes", [])]


def _any(change: dict, keys: tuple[str, ...]) -> bool:
    return not change["changed"].keys().isdisjoint(keys)


def _in_words(changed: dict[str, list], before: dict, now: dict) -> dict[str, str]:
    words = {key: f"{key} was {old}, now {new}" for key, (old, new) in changed.items()}
    if content := changed.get("config.data.content"):
        old, new = (str(value)[:8] for value in content)
        counts = f"{before['images']:,} images before, {now['images']:,} now; " if before else ""
        words["config.data.content"] = (
            f"the data (config.data.source) are not the same ({counts}content {old}, now {new})"
        )
    if begun := changed.get("config.train.transferred"):
        how = ["from scratch", "from other weights (config.train.init_from)"]
        words["config.train.transferred"] = f"it started {how[bool(begun[0])]}"
    return words
