"""Golden arrays of the published systems, in our layout, and our networks that match them."""

import functools
import json

import numpy as np
from flax import nnx
from helpers.environment import GOLDEN

from inr_gan_jax.foreign.weights import from_published
from inr_gan_jax.models import families
from inr_gan_jax.models.discriminator import Discriminator, DiscriminatorConfig
from inr_gan_jax.models.fourier import Embedding
from inr_gan_jax.models.generator import Generator
from inr_gan_jax.models.networks import split

GENERATORS = (
    "inr_gan",
    "inr_gan_bil",
    "inr_gan_cond",
    "inr_gan_fmm_sigmoid",
    "inr_gan_fmm_tanh",
    "inr_gan_predicted_coords",
    "cips",
    "stylegan2",
)
DISCRIMINATORS = ("resnet", "resnet_cond", "skip", "orig")


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def part(golden: dict, prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}


def nhwc(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 2, 3, 1)


def relative(actual, expected) -> float:
    """Largest difference as a part of the expected array's largest magnitude."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def _embedding(entry: dict) -> Embedding:
    names = {
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
    values = {names[k]: {"rand": "uniform"}.get(v, v) for k, v in entry.items()}
    return Embedding(**values)


def generator_config(name: str):
    golden = load(f"generator_{name}")
    published = json.loads(str(golden["config"]))
    small = {
        "height": 32,
        "width": 32,
        "z_dim": 16,
        "w_dim": 16,
        "channel_base": 512,
        "channel_max": 16,
        "mapping_layers": 2,
        "rank": 3,
        "fine_from": 32,
        "extra_layers": 1,
        "num_classes": int(golden["c_dim"]),
    }
    if name == "stylegan2":
        return families.stylegan2(**small)
    entries = published["coords"]["res_configs"]
    small |= {
        "embedding_fine": _embedding(entries["32"]),
        "embedding_coarse": _embedding(entries.get("8", entries["32"])),
    }
    if name == "cips":
        return families.cips(**small)
    if published["fmm"].get("instance_norm"):
        return families.inr_gan_bil(**small, input_resolution=8)
    modulation = "fmm_" + published["fmm"]["activation"]
    return families.inr_gan(**small, input_resolution=8, modulation=modulation)


def paper_config():
    golden = load("generator_paper")
    blocks = tuple(
        (b["resolution"], b["dim"], b["num_learnable_coord_feats"], b["n_layers"], b["to_rgb"])
        for b in json.loads(str(golden["config"]))["hp"]["inr"]["resolutions_params"].values()
    )
    return families.paper(
        height=32, width=32, z_dim=16, w_dim=24, rank=3, input_resolution=8, paper_blocks=blocks
    )


@functools.cache
def build(name: str):
    """(graphdef, params, buffers, golden) of one golden generator, with its published weights."""
    golden = load(f"generator_{name}")
    config = paper_config() if name == "paper" else generator_config(name)
    generator = nnx.eval_shape(lambda: Generator(config, rngs=nnx.Rngs(0)))
    graphdef, params, buffers = split(generator)
    fill = functools.partial(
        from_published,
        part(golden, "param/"),
        network="paper" if name == "paper" else "generator",
        paper_resolutions=[b[0] for b in config.paper_blocks],
    )
    return graphdef, fill(params), fill(buffers), golden


@functools.cache
def build_discriminator(name: str):
    golden = load(f"discriminator_{name}")
    published = json.loads(str(golden["config"]))
    config = DiscriminatorConfig(
        architecture=published["architecture"],
        height=32,
        width=32,
        channels=3,
        num_classes=int(golden["c_dim"]),
        channel_base=512,
        channel_max=16,
        group=published["mbstd_group_size"],
        mapping_layers=2,
    )
    graphdef, params, _ = split(nnx.eval_shape(lambda: Discriminator(config, rngs=nnx.Rngs(0))))
    return graphdef, from_published(part(golden, "param/"), params, network="discriminator"), golden
