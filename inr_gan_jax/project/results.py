"""What a projection leaves behind: the image as a function, its styles, pictures and a film."""

import numpy as np
from etils import epath
from tqdm import tqdm

from inr_gan_jax.models import coords
from inr_gan_jax.pictures.encode import encode_png
from inr_gan_jax.pictures.film import encode as encode_film
from inr_gan_jax.pictures.pixels import opaque, to_uint8
from inr_gan_jax.project.compare import as_seen
from inr_gan_jax.project.target import Photo, Scattered
from inr_gan_jax.render.image import ContinuousImage
from inr_gan_jax.render.view import FRAME, View
from inr_gan_jax.storage.atomic import replaced

SMALLEST = 256  # pixels of the longer side of panels and films: smaller ones are enlarged
BATCH = 8  # frames made at a time
FPS = 20
GREY, GAP = 128, 2


def write(
    outdir: epath.Path, model, target: Photo | Scattered, way_nlw: np.ndarray, view: View
) -> ContinuousImage:
    """Writes all files of a projection; returns its image.

    `way_nlw` are styles from the first to what was found, `view` is what projected.png shows.
    """
    styles = np.ascontiguousarray(way_nlw[-1], np.float32)
    image = model.image(ws=styles)
    image.save(outdir / "projected.inr", overwrite=True)
    with replaced(outdir / "styles.npy") as file:
        np.save(file, styles)
    pictures = {
        "projected.png": to_uint8(image.render(**vars(view))),
        "comparison.png": comparison(image, target),
    }
    for name, picture in pictures.items():
        with replaced(outdir / name) as file:
            file.write(encode_png(picture))
    with replaced(outdir / "progress.mp4") as file:
        file.write(encode_film(_frames(model, way_nlw), "mp4", FPS))
    return image


def default_size(
    target: Photo | Scattered, native: tuple[int, int], window: tuple = FRAME
) -> tuple[int, int]:
    """(width, height) of a window where pixels are as fine as the photo's, or the native ones."""
    sizes = []
    for axis, pixels in enumerate(native):
        density = pixels / 2
        if isinstance(target, Photo):
            extent = target.window[axis + 2] - target.window[axis]
            density = max(density, target.known.shape[1 - axis] / extent)
        sizes.append(max(1, round((window[axis + 2] - window[axis]) * density)))
    return sizes[0], sizes[1]


def comparison(image: ContinuousImage, target: Photo | Scattered) -> np.ndarray:
    """Panels side by side, uint8 `[h, w, 3]`: target, projection, their absolute difference.

    What is unknown is grey. Where the photo shows a part of the frame only, or less than the native
    grid could, the whole image stands beside them. Scattered pixels are shown on the native grid.
    """
    photo = target if isinstance(target, Photo) else _on_grid(target, image)
    wanted, made = (opaque(to_uint8(x)) for x in (photo.pixels, as_seen(image, photo)))
    difference = np.abs(wanted.astype(np.int16) - made).astype(np.uint8)
    wanted = np.where(photo.known[..., None], wanted, np.uint8(GREY))
    difference = np.where(photo.known[..., None], difference, np.uint8(GREY))
    panels = [_enlarged(panel) for panel in (wanted, made, difference)]
    native = image.params.spec.size
    if photo.window != FRAME or photo.known.shape[0] < native[0]:
        height = len(panels[0])
        width = max(1, round(height * native[1] / native[0]))
        panels.append(opaque(to_uint8(image.render(width, height))))
    gap = np.full((len(panels[0]), GAP, 3), 255, np.uint8)
    return np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)


def _on_grid(target: Scattered, image: ContinuousImage) -> Photo:
    """Scattered pixels as a photo on the native grid: their mean in each cell."""
    height, width = image.params.spec.size
    if image.params.spec.align == "corners":
        column, down = np.rint((target.points + 1) / 2 * (width - 1, height - 1)).astype(int).T
        row = height - 1 - down
    else:
        cells = coords.cells_of_points(target.points, height, width)
        row, column = cells.row, cells.column
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    pixels, count = np.zeros((height, width, image.channels), np.float32), np.zeros((height, width))
    np.add.at(pixels, (row, column), target.values)
    np.add.at(count, (row, column), 1)
    return Photo(pixels / np.maximum(count, 1)[..., None].astype(np.float32), count > 0)


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Every pixel as a square, so that the longer side has about SMALLEST pixels or more."""
    times = max(1, round(SMALLEST / max(picture.shape[:2])))
    return picture.repeat(times, 0).repeat(times, 1)


def _frames(model, way_nlw: np.ndarray):
    """The way as frames, uint8 `[h, w, C]`, each the whole image on the native grid."""
    n, batch = len(way_nlw), min(BATCH, len(way_nlw))
    for start in tqdm(range(0, n, batch), desc="film", delay=2):
        rows = np.minimum(np.arange(start, start + batch), n - 1)  # whole batches: compiled once
        for frame in to_uint8(model.images(ws=way_nlw[rows]))[: n - start]:
            yield _enlarged(frame)
