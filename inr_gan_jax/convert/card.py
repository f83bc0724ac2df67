"""A model card: what a generator is, learned from and measures, and how to open it."""

import json
import re
import shlex
from collections.abc import Iterable

from etils import epath

from inr_gan_jax.model import Model
from inr_gan_jax.models.networks import count_parameters
from inr_gan_jax.storage.hub import is_hub

PICTURE = "samples.png"
TASK = "unconditional-image-generation"
TAGS = ["inr-gan", "gan", "jax", "implicit-neural-representation", "image-generation"]

_TEXT = """\
---
{front}
---

# {title}

![{shown} images](samples.png)

*Seeds 0 to {last}, untruncated{classes_shown}.*

A generator of continuous images, made with inr_gan_jax: each image is a function of (x, y) that can
be drawn at any size. `{family}`, trained at {width}x{height}, {channels}; {parameters} parameters.

## Open it

```python
import inr_gan_jax

model = inr_gan_jax.load({address})
images = model.images(seeds=range(16){condition})  # [16, {height}, {width}, {depth}], about [-1, 1]
```

Every command takes it, too: `python -m inr_gan_jax.generate --checkpoint={to} --seeds=0-15
--outdir=out`. `model.safetensors` holds the averaged generator's arrays, `run.json` the
configuration; nothing here is code.

## How it was trained

{facts}
{command}
## How good it is

{measured}
"""


def name_of(path: str) -> str:
    """The last part of a path; `digits`, `tfds:NAME` and addresses of models as they are."""
    if path.startswith("tfds:") or is_hub(path):
        return path
    return path.rstrip("/").rpartition("/")[2]


def without_folders(command: str) -> str:
    """A command whose absolute paths are their last part, also in lists."""

    def bare(word: str) -> str:
        flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        names = [
            name_of(path) if re.match(r"/|~|\w+://", path) else path for path in value.split(",")
        ]
        return flag + equals + ",".join(names)

    return shlex.join(map(bare, shlex.split(command)))


def card(
    model: Model,
    to: epath.PathLike,
    licence: str,
    about: dict,
    measured: list[dict],
    *,
    shown: int,
    ema: float | None = None,
) -> str:
    """The card of a model that is opened as `to`, under a licence (its short name).

    `about` is what run.json says, `measured` all results of the run (see metrics.results.read),
    `shown` the number of images in the picture, `ema` the width of the average that the model is.
    """
    config, kimg = model.config, model.images_seen / 1000
    title = str(to).partition("@")[0].rstrip("/").rpartition("/")[2]
    measured = [result for result in measured if result.get("ema") == ema]
    own = _latest(result for result in measured if result["kimg"] == kimg)
    network, names = config.model, model.class_names
    facts = {
        "data": config.data.source + (", mirrored" if config.data.mirror else ""),
        "the data's SHA-256": about["identity"].get("config.data.content", ""),
        "classes": (", ".join(names[:20]) + ", ..." * (len(names) > 20)) or model.num_classes or "",
        "images seen": f"{model.images_seen:,} ({kimg:g} kimg)" if kimg else "",
        "batch size": config.train.batch_size,
        "recipe": config.train.recipe,
        "average": "" if ema is None else f"of relative width {ema:g}",
    }
    command = about["command"]
    return _TEXT.format(
        front=_front(title, licence, config.data.source, own),
        title=title,
        shown=shown,
        last=shown - 1,
        classes_shown=", classes as often as in the data" if model.num_classes else "",
        family=network.family,
        width=network.width,
        height=network.height,
        depth=network.channels,
        channels={1: "grey", 3: "RGB", 4: "RGBA"}.get(network.channels, network.channels),
        parameters=f"{count_parameters(model.arrays[0]):,}",
        address=json.dumps(str(to) if is_hub(to) else title),
        to=to if is_hub(to) else title,
        condition=", classes=0" if model.num_classes else "",
        facts="\n".join(f"- {name}: {value}" for name, value in facts.items() if value != ""),
        command=f"\n```\n{command}\n```\n" if command else "",
        measured=_table(own or _latest(measured), kimg),
    )


def _front(title: str, licence: str, data: str, own: list[dict]) -> str:
    """What the hub reads: YAML, each value as JSON, which is YAML too."""
    front = {
        "license": licence,
        "library_name": "inr_gan_jax",
        "pipeline_tag": TASK,
        "tags": TAGS,
    }
    values = [
        {"type": name, "name": name, "value": value}
        for result in own
        for name, value in _numbers(result)
    ]
    if values:
        dataset = {"type": name_of(data).removeprefix("tfds:"), "name": data}
        result = {"task": {"type": TASK}, "dataset": dataset, "metrics": values}
        front["model-index"] = [{"name": title, "results": [result]}]
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items())


def _numbers(result: dict) -> list[tuple[str, float]]:
    """(name, value) of a result, of which some are several numbers."""
    value = result["value"]
    if not isinstance(value, dict):
        return [(result["metric"], value)]
    return [(f"{result['metric']}_{part}", number) for part, number in value.items()]


def _latest(measured: Iterable[dict]) -> list[dict]:
    """The last of each metric."""
    return list({result["metric"]: result for result in measured}.values())


def _table(found: list[dict], kimg: float) -> str:
    if not found:
        return "Nothing was measured of this run."
    rows = [
        f"| `{name}` | {value:.5g} | {result.get('images', '')} | {result['kimg']:g} |"
        for result in found
        for name, value in _numbers(result)
    ]
    late = "" if found[0]["kimg"] == kimg else "\n\nOf earlier checkpoints than the one shared."
    head = "| metric | value | images | after kimg |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + late
