"""Recipes by name, and the numbers that follow from a configuration where none are given."""

from inr_gan_jax.errors import UserError, nearest

# Flat keys (without `config.`) that a recipe sets. Those of one that another does not name have
# their released values there.
RECIPES: dict[str, dict[str, object]] = {
    "released": {},
    "best": {  # of what was measured at 16x16 and 32x32 (docs/recipes.md)
        "discriminator.fixup": True,
        "train.r1_gamma": 1.0,
        "train.g_lr": 0.005,
        "train.d_lr": 0.005,
    },
}
_GAMMA = 0.0002  # per pixel and 1 / image of a batch (Karras et al. 2020b, released code)


def values_of(name: str, released: dict) -> dict[str, object]:
    """What a recipe sets, flat; `released` are nested values with every key.

    UserError for an unknown name.
    """
    check_name(name)
    keys = {key for recipe in RECIPES.values() for key in recipe}
    values = {key: RECIPES[name].get(key, _value(released, key)) for key in sorted(keys)}
    return values | {"train.recipe": name}


def completed(plain: dict) -> dict:
    """Nested values with those that the recipe they name sets, where they have none of their own.

    UserError for an unknown name.
    """
    train = plain.get("train")
    name = train.get("recipe", "released") if isinstance(train, dict) else "released"
    check_name(name)
    plain = dict(plain)
    for key, value in RECIPES[name].items():
        section, field = key.split(".")
        if isinstance(plain.setdefault(section, {}), dict):
            plain[section] = {field: value} | plain[section]
    return plain


def check_name(name: object) -> None:
    """UserError unless a recipe has this name."""
    if name not in RECIPES:
        raise UserError(
            f"config.train.recipe = {name!r} is not one of {', '.join(RECIPES)}"
            + nearest(str(name), RECIPES)
        )


def gammas_of(config) -> dict[str, float]:
    """Gammas of the penalties on `fake` (R2) and `real` (R1) images; 0: there is none.

    R1's is 0.0002 times the pixels over the images of a batch where -1 stands for it (rule of
    thumb of Karras et al. 2020b); R2's is R1's where -1 stands for it.
    """
    train, model = config.train, config.model
    rule = _GAMMA * model.height * model.width / train.batch_size
    r1 = rule if train.r1_gamma < 0 else train.r1_gamma
    return {"fake": r1 if train.r2_gamma < 0 else train.r2_gamma, "real": r1}


def horizon_of(config) -> float:
    """Thousands of images over which the recipe's numbers move; 0: they do not."""
    if config.schedule.kind == "constant":
        return 0.0
    return config.schedule.kimg or config.train.kimg


def _value(config: dict, key: str):
    section, field = key.split(".")
    return config[section][field]
