"""The viewer: from a change of what is shown to the first tile, as a browser would ask for it.

Twenty pictures of other seeds, truncations and blends each, one after the other, over HTTP on this
machine; everything was compiled when the viewer started.
"""

import json
import statistics
import time
import urllib.request

import jax.numpy as jnp

from benchmarks.networks import random_networks
from configs import digits
from inr_gan_jax.config import base, parse
from inr_gan_jax.model import Model
from inr_gan_jax.models.networks import networks_of
from inr_gan_jax.view.serve import in_background
from inr_gan_jax.view.server import Studio
from inr_gan_jax.view.shown import Generated

CHANGES = 20
WANTED = {"digits": 0.3, "INR-GAN 256": 1.5}  # seconds


def rows() -> list[dict]:
    """Median seconds of a change over those of one native image, alone, in the same process."""
    ffhq = base("inr_gan")
    ffhq.data.source = "digits"
    configs = {"digits": parse(digits.get_config(), num_classes=10), "INR-GAN 256": parse(ffhq)}
    found = []
    for name, config in configs.items():
        model, native = _model(config), []
        classes = {"classes": 0} if model.num_classes else {}
        for seed in range(4):
            start = time.perf_counter()
            model.image(seed=seed, **classes).render()
            native.append(time.perf_counter() - start)
        changes, alone = _seconds(model), statistics.median(native[1:])
        median = statistics.median(changes)
        found.append({
            "what": f"{name}: from a change to its first tile / a native image",
            "ratio": median / alone,
            "detail": f"{median:.3f} s (median of {CHANGES}, to {max(changes):.3f}; wanted "
            f"{WANTED[name]:g}) / {alone:.3f} s",
        })  # fmt: skip
    return found


def _model(config) -> Model:
    networks = networks_of(config.model, config.discriminator)
    _, params, buffers = random_networks(config.model.family, networks)
    w_avg = jnp.zeros(config.model.w_avg_shape)
    return Model(config, params, buffers, w_avg, class_counts=[1] * config.model.num_classes)


def _seconds(model: Model) -> list[float]:
    """Of each change, its first tile."""
    studio = Studio(Generated(model), "benchmark", "", [])
    list(studio.artist.warm())
    with in_background(studio) as address:
        about = json.load(urllib.request.urlopen(f"{address}api/model"))
        level = about["native"] + 3  # eight pixels a native pixel
        middle = about["reach"] * about["size"][0] * 8 // about["tile"] // 2
        found = []
        for number in range(CHANGES):
            picture = (f"seeds={100 + number}", f"seeds={number}&psi=0.7",
                       f"seeds={number},{number + 1}&u=0.3")[number % 3]  # fmt: skip
            path = f"tiles/{about['version']}/{level}/{middle}_{middle}.png?{picture}"
            start = time.perf_counter()
            with urllib.request.urlopen(address + path) as answer:
                answer.read()
            found.append(time.perf_counter() - start)
    return found
