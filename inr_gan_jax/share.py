"""A trained generator for others: as a folder, or on a hub of models.

    python -m inr_gan_jax.share --checkpoint=runs/digits --to=hf://user/digits --licence=apache-2.0
    python -m inr_gan_jax.share --checkpoint=runs/digits --to=folder --licence=cc-by-4.0

Whoever has inr_gan_jax opens it in a line, inr_gan_jax.load("hf://user/digits"), and every command
takes it: --checkpoint=hf://user/digits. Written are model.safetensors (the averaged generator),
run.json (its configuration), samples.png and README.md, a model card made from the run: no code.
The hub needs its client library, pip install huggingface_hub, which knows who you are by
`hf auth login` or $HF_TOKEN.
"""

from absl import flags

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.run import run

CHECKPOINT = shared.checkpoint()
TO = shared.path("to", None, "hf://user/model, or a folder; made if absent.", required=True)
LICENCE = flags.DEFINE_string(
    "licence", None, "What others may do with it: apache-2.0, cc-by-4.0, cc-by-nc-4.0, other, ..."
)
PRIVATE = flags.DEFINE_bool("private", False, "On the hub, for you alone.")
UPDATE = flags.DEFINE_bool("update", False, "Where there is such a model: a new revision of it.")


def main(_) -> None:
    """Parses flags, makes the files, writes or sends them."""
    from inr_gan_jax.convert import sharing

    sharing.check(TO.value, LICENCE.value, private=PRIVATE.value, update=UPDATE.value)

    from inr_gan_jax.runtime.devices import use_compilation_cache

    use_compilation_cache()
    widths = shared.widths()
    files = sharing.files_of(
        shared.load(), TO.value, LICENCE.value, ema=widths[0] if widths else None
    )
    for line in sharing.put(files, TO.value, private=PRIVATE.value, update=UPDATE.value):
        print(line)


if __name__ == "__main__":
    run(main)
