"""Images as one HTML page that evaluates their functions itself: no server, nothing from outside.

The page holds an .inr file (see render.inr_file) and the scripts in site/, which walk through the
network as models.inr does, in WebGL2 or on the CPU, at whatever window is looked at.
"""

import base64
import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from inr_gan_jax.errors import UserError
from inr_gan_jax.models.parameters import Block, InrParams
from inr_gan_jax.render.files import writable
from inr_gan_jax.render.inr_file import encoded
from inr_gan_jax.storage.atomic import replaced

PAGE = "index.html"
WORKER = ("function.js", "plan.js", "evaluate.js", "gl.js", "worker.js")  # off the page's thread
SCRIPTS = ("tiles.js", "viewer.js", "page.js")


def export_site(params: InrParams, names: Sequence[str], dest: Path, title: str) -> Path:
    """Writes a folder with one page that zooms into functions; returns the page.

    Args:
      params: n images, leaves of `image` are `[n, ...]`.
      names: what the page calls them, one each.
      dest: the folder, which is made if it is absent.
      title: of the page.

    Raises UserError, one line, for a network whose pixels are no function of their place, for a
    folder that has a page already or cannot be written.
    """
    if not params.spec.pixel_independent:
        raise UserError(
            "--export: this network's pixels depend on each other (bilinear upsampling, instance "
            "norm), so there is no function for a page to evaluate"
        )
    if len(names) != len(params):
        raise ValueError(f"{len(params)} images need as many names, not {len(names)}")
    path = page_in(dest)
    page = _page(params, names, title).encode()
    with writable(path, overwrite=False), replaced(path) as file:
        file.write(page)
    return path


def page_in(dest: Path) -> Path:
    """The page of a folder, which is made; UserError where there is one, or none can be."""
    page = Path(dest).expanduser() / PAGE
    if page.exists():
        raise UserError(f"--export={dest} has a page: delete {page}, or name a folder")
    with writable(page, overwrite=False):
        return page


def functions_of(model, seeds: Sequence[int], classes=None, truncation: float = 1.0):
    """InrParams of a Model's images of some seeds, and names that tell them apart.

    `classes`: one each, for a class-conditional model (None: drawn as the training data has them).
    Raises UserError for the StyleGAN2 baseline, which is no function.
    """
    if model.num_classes and classes is None:
        classes = model.classes(seeds)
    names = [f"seed {seed}" for seed in seeds]
    if classes is not None:
        called = model.class_names or range(model.num_classes)
        names = [f"{name}, class {called[k]}" for name, k in zip(names, classes, strict=True)]
    try:
        return model.functions(seeds, classes=classes, truncation=truncation), names
    except ValueError as error:
        raise UserError(f"--export: {error}") from None


def _page(params: InrParams, names: Sequence[str], title: str) -> str:
    spec, count = params.spec, len(params)
    inr, each = encoded(params)
    about = {
        "title": title,
        "names": list(names),
        "size": spec.size,
        "frame": spec.frame,
        "waves": {block.name: _waves(block) for block in spec.blocks if block.embedding},
    }
    told = (
        f"{count} function{'s'[: count > 1]} of {each / 1e3:,.0f} kB each and "
        f"{(len(inr) - count * each) / 1e3:,.0f} kB that they share."
    )
    worker = f"function workerSource() {{\n{_assets(WORKER)}\n}}"
    parts = {
        "title": html.escape(title),
        "about": told,
        "css": _assets(["base.css", "page.css"]),
        "json": json.dumps(about).replace("<", "\\u003c"),  # or a name could end the script
        "inr": base64.b64encode(inr).decode(),
        "script": f"(() => {{\n{worker}\n{_assets(SCRIPTS)}\n}})();",
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _assets(["page.html"]))


def _waves(block: Block) -> dict:
    """What of an embedding is no array in a file: its log directions and all its amplitudes."""
    embedding, directions = block.embedding, block.embedding.log_directions(block.size)
    phases = len(directions) + embedding.random + embedding.shared + embedding.predicted
    amplitudes = embedding.amplitudes(block.size, phases) if embedding.falloff else None
    return {
        "directions": np.float32(directions).ravel().tolist(),
        "amplitudes": None if amplitudes is None else amplitudes.tolist(),
    }


def _assets(names: Sequence[str]) -> str:
    folder = resources.files("inr_gan_jax.view") / "site"
    return "\n".join((folder / name).read_text() for name in names)
