"""Published PyTorch checkpoints to ours, and generators to files that need less than this package.

python -m inr_gan_jax.convert --source=network-snapshot.pkl --dest=runs/ffhq
python -m inr_gan_jax.convert --source=ffhq256_g_ema.pt --dest=runs/cips
python -m inr_gan_jax.convert --source=runs/ffhq --dest=ffhq.safetensors
python -m inr_gan_jax.convert --source=runs/ffhq --dest=ffhq.stablehlo

--source: INR-GAN's or StyleGAN2-ADA's .pkl, or CIPS's .pt. generate and its like also take such
files themselves: --checkpoint=network-snapshot.pkl.
--dest=DIR: a workdir that generate, main and inr_gan_jax.load take (from such a file only), with a
picture of the first seeds. Seeds mean what they mean to the code that wrote a .pkl.
--dest=x.safetensors: the averaged generator's arrays, and the configuration as JSON metadata.
--dest=x.stablehlo: the averaged generator as a function for CPU, CUDA and TPU that needs jax only.
Nothing in such a file is executed.
"""

from absl import flags, logging

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.run import run

SOURCE = shared.path(
    "source", None, "A published file; for exports also a workdir or checkpoint.", required=True
)
DEST = shared.path(
    "dest", None, "A new folder, or a file x.safetensors or x.stablehlo.", required=True
)
KIMG = flags.DEFINE_float(
    "kimg",
    0.0,
    "Thousands of images that it has seen, if its name does not tell: training counts on.",
    lower_bound=0.0,
    upper_bound=2_000_000.0,
)


def main(_) -> None:
    """Parses flags, converts, says what to do with the result."""
    from inr_gan_jax.convert.files import convert

    logging.set_verbosity(logging.WARNING)
    print("\n".join(convert(SOURCE.value, DEST.value, images=round(KIMG.value * 1000))))


if __name__ == "__main__":
    run(main)
