"""The geometric prior: how much of an image's geometry is linear in what describes the image.

Keypoints are predicted by ridge regression from the effective weights of an image's coordinate
network, from its styles and from its pixels (the paper's experiment on the strong geometric prior
of coordinate networks). Real images have neither weights nor styles, so those are fitted first.
Everything after the fit is float64 on the host.
"""

import functools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold
from tqdm import tqdm

from inr_gan_jax.errors import UserError, nearest
from inr_gan_jax.models import inr
from inr_gan_jax.render import between

FORM = '"keypoints": [["name.png", [[x, y], ...]], ...]'
FURTHEST = 2.0  # of a keypoint from the middle; the frame ends at 1
STEPS_PER_CALL = 25
MEMORY = 1 << 28  # numbers of float32
COLUMNS = 1 << 16  # features at a time in float64
# Of the mean squared length of a description: from interpolation to predicting the mean.
LAMBDAS = np.logspace(-8, 6, 29)


def keypoints_of(record: dict, names: list[str], where: str) -> np.ndarray:
    """The keypoints of a data set: `[n, k, 2]` float64, (x, y) in the frame, in the order of names.

    Args:
      record: the parsed dataset.json, of the form FORM, in the frame (-1, -1, 1, 1), y upwards.
      names: the images that there are.
      where: names the data set in messages.

    Raises UserError, one line, unless every image has the same number of points, all of them
    numbers no further than twice the frame, and every coordinate varies.
    """
    pairs = record.get("keypoints")
    if pairs is None:
        raise UserError(f"{where} has no keypoints: its dataset.json needs {FORM}")
    if not isinstance(pairs, list):
        raise UserError(f"{where}/dataset.json: keypoints must be of the form {FORM}")
    by_name, known = {}, set(names)
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise UserError(f"{where}/dataset.json: {_short(pair)} is not of the form {FORM}")
        name, points = pair
        if name not in known:
            raise UserError(
                f"{where}/dataset.json has keypoints for {name}, which is not in {where}"
                f"{nearest(name, names[:1000])}"
            )
        if name in by_name:
            raise UserError(f"{where}/dataset.json has keypoints for {name} twice")
        by_name[name] = _points(points, f"{where}/dataset.json: the keypoints of {name}")
    for name in names:
        if name not in by_name:
            raise UserError(
                f"{where}/dataset.json has no keypoints for {name} "
                f"({len(known) - len(by_name)} of {len(known)} images have none)"
            )
    counts = {name: len(points) for name, points in by_name.items()}
    other = next((name for name in names if counts[name] != counts[names[0]]), None)
    if other:
        raise UserError(
            f"{where}/dataset.json: {other} has {counts[other]} keypoints, but {names[0]} has "
            f"{counts[names[0]]}: all images need the same points in the same order"
        )
    return np.stack([by_name[name] for name in names])


def _points(points, what: str) -> np.ndarray:
    try:
        array = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.ndim != 2 or array.shape[1:] != (2,) or not len(array):
        raise UserError(f"{what} are {_short(points)}, not [[x, y], ...]")
    if not (np.abs(array) <= FURTHEST).all():  # not a number, too
        raise UserError(
            f"{what} lie outside the picture: x and y go from -1 to 1, y upwards, not in pixels"
        )
    return array


def _short(value) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."


@dataclass(frozen=True)
class Fits:
    """Styles `[n, L, w_dim]` whose images are nearest to given ones, and the errors left `[n]`.

    `error` is the mean squared difference of pixels in [-1, 1]; `psnr` that in decibels `[n]`.
    """

    styles: np.ndarray
    error: np.ndarray

    @property
    def psnr(self) -> np.ndarray:
        """Of each fit, in dB, for images in [-1, 1]: `[n]`."""
        return 10 * np.log10(4 / np.maximum(self.error, 1e-12))


def fit(
    model,
    images: np.ndarray,
    *,
    space: str = "w+",
    steps: int = 300,
    learning_rate: float = 0.1,
    batch: int = 16,
) -> Fits:
    """Finds the styles of images `[n, H, W, C]` (float, [-1, 1]) by Adam on their pixels.

    The search starts at the mean style and moves in units of the styles' standard deviation, so
    that `learning_rate`, which falls to 0 along a cosine, means the same for every model. `space`:
    `w` (one style for all layers) or `w+` (one for each).
    """
    if space not in ("w", "w+"):
        raise ValueError(f"space must be w or w+, not {space!r}")
    seeds = range(256)
    classes = model.classes(seeds) if model.num_classes else None
    samples_bw = np.asarray(model.styles(seeds=seeds, classes=classes))[:, 0]
    mean, deviation = samples_bw.mean(0), samples_bw.std(0)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def styles(offset_blw):
        ws = mean + deviation * offset_blw
        return jnp.broadcast_to(ws, (len(ws), model.num_styles, ws.shape[-1]))

    def loss(offset_blw, arrays, target):
        made = model.networks.generator(*arrays).image(styles(offset_blw))
        error_b = jnp.mean(jnp.square(made - target), axis=(1, 2, 3))
        return error_b.sum(), error_b  # a sum: no image's steps depend on the others

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def advance(offset, state, arrays, target, count):
        def step(_, carry):
            offset, state, _ = carry
            gradient, error = jax.grad(loss, has_aux=True)(offset, arrays, target)
            updates, state = optimizer.update(gradient, state)
            return offset + updates, state, error

        return jax.lax.fori_loop(0, count, step, (offset, state, jnp.zeros(len(target))))

    measure = jax.jit(loss)
    batch, found, errors = min(batch, len(images)), [], []
    shape = (batch, model.num_styles if space == "w+" else 1, samples_bw.shape[-1])
    with tqdm(total=len(images) * steps, unit="step", delay=2, desc="fitting") as bar:
        for start in range(0, len(images), batch):
            rows = np.arange(start, start + batch) % len(images)  # whole batches: compiled once
            target, offset = jnp.asarray(images[rows], jnp.float32), jnp.zeros(shape)
            state = optimizer.init(offset)
            for done in range(0, steps, STEPS_PER_CALL):
                count = min(STEPS_PER_CALL, steps - done)
                offset, state, _ = advance(offset, state, model.arrays, target, count)
                offset.block_until_ready()  # else the bar runs ahead
                bar.update(count * min(batch, len(images) - start))
            found.append(np.asarray(styles(offset)))
            errors.append(np.asarray(measure(offset, model.arrays, target)[1]))
    n = len(images)
    return Fits(np.concatenate(found)[:n], np.concatenate(errors)[:n])


def effective_weights(model, ws_nlw: np.ndarray, batch: int = 16) -> Iterator[np.ndarray]:
    """Yields, array by array of the coordinate network, the effective weights `[n, P]` float32.

    About MEMORY numbers are held at a time: networks of thousands of images would fill any memory.
    """
    n, batch = len(ws_nlw), min(batch, len(ws_nlw))
    chunks = [np.arange(start, start + batch) % n for start in range(0, n, batch)]
    shapes = jax.eval_shape(lambda ws: between.materialize(model.inr(ws)).image, ws_nlw[:1])
    groups, held = [[]], 0
    for number, shape in enumerate(jax.tree.leaves(shapes)):
        if groups[-1] and held + n * shape.size > MEMORY:
            groups, held = [*groups, []], 0
        groups[-1].append(number)
        held += n * shape.size
    with tqdm(total=len(groups) * n, desc="weights", unit="image", delay=2) as bar:
        for group in groups:
            made = []
            for rows in chunks:
                made.append(jax.device_get(_arrays(model.inr(ws_nlw[rows]), tuple(group))))
                bar.update(min(batch, n - int(rows[0])))
            for parts in zip(*made, strict=True):
                yield np.concatenate(parts)[:n]


@functools.partial(jax.jit, static_argnames="numbers")
def _arrays(params: inr.InrParams, numbers: tuple[int, ...]) -> list[jax.Array]:
    leaves = jax.tree.leaves(between.materialize(params).image)
    return [leaves[number].reshape(len(leaves[number]), -1) for number in numbers]


def gram(arrays: Iterable[np.ndarray]) -> tuple[np.ndarray, int]:
    """Inner products `[n, n]` (float64) of n descriptions, and their number of dimensions.

    A description consists of `arrays` `[n, P]`. Each is centred and scaled as a whole to mean
    squared length 1, so that no array counts for more because its numbers are larger.
    """
    total, count, dimensions = 0.0, 0, 0
    for array in arrays:
        products = 0.0
        for start in range(0, array.shape[1], COLUMNS):
            x = array[:, start : start + COLUMNS].astype(np.float64)
            x -= x.mean(axis=0)
            products = products + x @ x.T
        dimensions += array.shape[1]
        size = np.trace(products) / len(array)
        if size > 0:
            total, count = total + products / size, count + 1
    if not count:
        raise ValueError("all descriptions are the same: nothing can be predicted from them")
    return total / count, dimensions


@dataclass(frozen=True)
class Score:
    """How well held-out targets were predicted.

    `r2`: mean over coordinates of 1 - squared error / variance, all folds together; `folds` each
    fold's; `coordinates` `[k]` each coordinate's; `lambdas`: what each fold chose.
    """

    r2: float
    folds: list[float]
    coordinates: list[float]
    lambdas: list[float]


def held_out_r2(gram_nn: np.ndarray, targets_nk: np.ndarray, folds: int = 5, seed=0) -> Score:
    """Ridge regression from descriptions, known by their inner products, to targets, k-fold.

    Ridge regression does not change when descriptions are rotated, so n of them are replaced by
    their n principal coordinates: the dual form, whatever the number of dimensions. Lambda is that
    of the least leave-one-out error within the training folds (closed form: scikit-learn's
    RidgeCV); the fold held out has no part in it.
    """
    values, vectors = np.linalg.eigh(gram_nn)
    coordinates = vectors * np.sqrt(np.maximum(values, 0))
    predicted, by_fold, lambdas = np.empty_like(targets_nk), [], []
    parts = KFold(folds, shuffle=True, random_state=seed)
    for train, test in parts.split(coordinates):
        ridge = RidgeCV(alphas=LAMBDAS * len(train)).fit(coordinates[train], targets_nk[train])
        predicted[test] = ridge.predict(coordinates[test])
        by_fold.append(float(r2_score(targets_nk[test], predicted[test])))
        lambdas.append(float(ridge.alpha_))
    single = r2_score(targets_nk, predicted, multioutput="raw_values")
    return Score(float(np.mean(single)), by_fold, single.tolist(), lambdas)


def spread(values: list[float]) -> float:
    """Standard error of the mean of the folds' scores."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
