"""Where things are in an image: how linear is that in its network's weights?

    python -m inr_gan_jax.keypoints --checkpoint=runs/shapes --data=shapes.zip

    python -m inr_gan_jax.keypoints --checkpoint=runs/shapes --data=shapes.zip \\
        --count=200 --steps=100 --styles=w --dest=report.json

fits the generator to labelled images, and predicts their keypoints by ridge regression from the
effective weights of the fitted coordinate networks, from the styles and from the pixels. Printed is
R2 on held-out images: 1 is perfect, 0 as good as always saying the mean. The dataset.json of the
data holds {"keypoints": [["name.png", [[x, y], ...]], ...]}, the same points of every image, in the
frame (-1,-1,1,1), y upwards. Mind the fit's PSNR: what it misses, neither weights nor styles know.
"""

import dataclasses
import json

import numpy as np
from absl import flags, logging
from etils import epath
from tqdm import tqdm

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.run import run
from inr_gan_jax.errors import UserError

CHECKPOINT = shared.checkpoint()
DATA = shared.path("data", None, "A zip or folder of images with keypoints.", required=True)
DEST = shared.path("dest", None, "Also write the report here, as JSON.")
COUNT = flags.DEFINE_integer("count", 1000, "Images to use at most, drawn at random.")
STYLES = flags.DEFINE_enum("styles", "w+", ["w", "w+"], "One style per image, or one per layer.")
STEPS = flags.DEFINE_integer("steps", 300, "Adam steps of the fit.", lower_bound=1)
RATE = flags.DEFINE_float("learning_rate", 0.1, "Of the fit, in standard deviations of styles.")
BATCH = flags.DEFINE_integer("batch_size", 16, "Images fitted at a time.", lower_bound=1)
FOLDS = flags.DEFINE_integer("folds", 5, "Parts of the data, each held out once.", lower_bound=2)
SEED = flags.DEFINE_integer("seed", 0, "Decides which images, and the parts.", lower_bound=0)

FEWEST = 10  # images in all, and 2 in each fold


def _labelled(source: str) -> tuple[np.ndarray, np.ndarray]:
    """(indices, keypoints `[n, k, 2]`) of the images to use."""
    from inr_gan_jax.data.stores import open_files
    from inr_gan_jax.render.prior import keypoints_of

    store = open_files(source)
    points = keypoints_of(store.record, store.names, source)
    rng = np.random.default_rng(SEED.value)
    chosen = np.sort(rng.permutation(len(points))[: COUNT.value])
    least = max(FEWEST, 2 * FOLDS.value)
    if len(chosen) < least:
        raise UserError(
            f"{len(chosen)} images are too few: --folds={FOLDS.value} needs {least} or more"
        )
    points = points[chosen]
    still = np.argwhere(np.ptp(points, axis=0) == 0)
    if len(still):
        number, axis = still[0]
        raise UserError(
            f"{source}: {'xy'[axis]} of keypoint {number} is the same in all {len(points)} images: "
            "there is nothing to predict; leave the point out"
        )
    return chosen, points


def _images(model, source: str, indices: np.ndarray) -> np.ndarray:
    """The chosen images as the model sees them: float32 `[n, H, W, C]`, [-1, 1]."""
    from inr_gan_jax.data.sources import open_source

    shape = model.config.model
    opened = open_source(
        source, height=shape.height, width=shape.width, channels=shape.channels, labels=False
    )
    read = [opened[int(i)][0] for i in tqdm(indices, desc="reading", unit="image", delay=2)]
    return np.stack(read).astype(np.float32) / 127.5 - 1


def _report(model, images: np.ndarray, points: np.ndarray) -> dict:
    """Fits, regresses; what --dest gets."""
    from inr_gan_jax.render import prior

    fits = prior.fit(
        model, images, space=STYLES.value, steps=STEPS.value, learning_rate=RATE.value,
        batch=BATCH.value,
    )  # fmt: skip
    n = len(images)
    styles = fits.styles if STYLES.value == "w+" else fits.styles[:, :1]
    descriptions = {
        "weights": prior.effective_weights(model, fits.styles, BATCH.value),
        "styles": [styles.reshape(n, -1)],
        "pixels": [images.reshape(n, -1)],
    }
    targets, features = points.reshape(n, -1), {}
    for name, arrays in descriptions.items():
        products, dimensions = prior.gram(arrays)
        score = prior.held_out_r2(products, targets, FOLDS.value, SEED.value)
        error = prior.spread(score.folds)
        features[name] = {"dimensions": dimensions, "standard_error": error}
        features[name] |= dataclasses.asdict(score)
    return {
        "images": n,
        "keypoints": points.shape[1],
        "fit": {
            "styles": STYLES.value,
            "steps": STEPS.value,
            "learning_rate": RATE.value,
            "psnr_mean": float(fits.psnr.mean()),
            "psnr_worst": float(fits.psnr.min()),
        },
        "folds": FOLDS.value,
        "seed": SEED.value,
        "trained_images": model.images_seen,
        "features": features,
    }


def main(_) -> None:
    """Parses flags, fits, regresses, reports."""
    logging.set_verbosity(logging.WARNING)  # orbax tells each step of a restore
    if not shared.finite(RATE) > 0:
        raise UserError(f"--learning_rate={RATE.value} must be above 0")
    dest = None if DEST.value is None else epath.Path(DEST.value)
    try:
        if dest is not None:
            dest.parent.mkdir(parents=True, exist_ok=True)
            if dest.is_dir():
                raise UserError(f"--dest={dest} is a folder: give a file")
    except OSError as error:
        raise UserError(f"--dest={dest} cannot be written: {error.strerror or error}") from None
    chosen, points = _labelled(DATA.value)

    from inr_gan_jax.runtime.devices import use_compilation_cache
    from inr_gan_jax.storage.atomic import replaced

    use_compilation_cache()
    model = shared.load()
    if model.config.model.family == "stylegan2":
        raise UserError("the StyleGAN2 baseline is no coordinate function: it has no such weights")
    images = _images(model, DATA.value, chosen)
    report = {"data": DATA.value, "checkpoint": CHECKPOINT.value} | _report(model, images, points)
    fit = report["fit"]
    print(
        f"{report['images']} images with {report['keypoints']} keypoints; fitted to "
        f"{fit['psnr_mean']:.1f} dB (worst {fit['psnr_worst']:.1f})"
    )
    print(f"{'from':10}{'dimensions':>12}{'held-out R2':>16}")
    for name, row in report["features"].items():
        score = f"{row['r2']:.3f} +- {row['standard_error']:.3f}"
        print(f"{name:10}{row['dimensions']:12,}{score:>16}")
    if dest is not None:
        try:
            with replaced(dest) as file:
                file.write((json.dumps(report, indent=2) + "\n").encode())
        except OSError as error:
            raise UserError(f"--dest={dest} cannot be written: {error.strerror or error}") from None


if __name__ == "__main__":
    run(main)
