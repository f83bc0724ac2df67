"""What makes a run the same run: the keys that must not change between its starts."""

from inr_gan_jax.config.parse import flatten, to_plain
from inr_gan_jax.config.recipes import horizon_of
from inr_gan_jax.config.schema import Config


def identity(config: Config, content_hash: str) -> dict[str, object]:
    """What makes a run the same run, flat: model, data, seed, batch size, optimiser, augmentation.

    Mesh, cadence, length, kernels, precision and paths may change between starts; the length not
    where a schedule follows it.
    """
    plain = to_plain(config)
    free = (
        "recipe",
        "kimg",
        "microbatches",
        "dtype",
        "init_from",
        "max_nonfinite",
        "remat",
        "on_change",
    )
    recipe = {key: value for key, value in plain["train"].items() if key not in free}
    recipe["transferred"] = bool(config.train.init_from)
    parts = {
        "seed": config.seed,
        "model": plain["model"],
        "discriminator": plain["discriminator"],
        "train": recipe,
        "schedule": plain["schedule"] | {"kimg": horizon_of(config)},
        "augment": plain["augment"],
        "patches": plain["patches"],
        "data": {
            "content": content_hash,
            "labels": config.data.labels,
            "mirror": config.data.mirror,
        },
    }
    return dict(flatten(parts))
