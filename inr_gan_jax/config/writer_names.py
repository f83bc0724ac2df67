"""Where curves and pictures of a run may go: TensorBoard's files, and programs that mirror them."""

from inr_gan_jax.errors import UserError, nearest

RECORD, MIRRORS = "tensorboard", ("wandb", "mlflow")


def mirrors_of(text: str) -> tuple[str, ...]:
    """`tensorboard,wandb` -> (`wandb`,); UserError for other names, or without tensorboard."""
    names, known = tuple(part.strip() for part in text.split(",")), (RECORD, *MIRRORS)
    for name in names:
        if name not in known:
            raise UserError(
                f"config.log.writers: {name!r} must be one of {', '.join(known)}"
                + nearest(name, known)
            )
    if len(set(names)) < len(names):
        raise UserError(f"config.log.writers={text} names a writer twice")
    if RECORD not in names:
        raise UserError(
            f"config.log.writers={text} needs {RECORD}, too: its files are the record from which "
            "the others get what a kill or a network has cost them"
        )
    return tuple(name for name in names if name != RECORD)
