"""Saving what is seen, in the background: pictures of any size, functions, films."""

import dataclasses
import itertools
import math
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from inr_gan_jax.errors import UserError
from inr_gan_jax.pictures import film
from inr_gan_jax.pictures.encode import PICTURES, encode_png
from inr_gan_jax.pictures.film import FILMS
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render import files
from inr_gan_jax.render.frames import deepest_zoom, zoom_windows
from inr_gan_jax.render.steady import Steady
from inr_gan_jax.render.view import FRAME, View
from inr_gan_jax.view.picture import Picture
from inr_gan_jax.view.still import Still

AT_ONCE, KEPT = 3, 20
LARGEST = 2**30  # pixels of a film


class Cancelled(Exception):
    """Nobody wants it any more."""


@dataclass(frozen=True)
class Order:
    """What is to be saved: a picture, seen in a window, as a file of a kind (a suffix).

    Films: `frames` at `fps`, into the window (`zoom`) or from image to image in it (`morph`).
    """

    picture: Picture
    suffix: str
    width: int
    height: int
    window: tuple[float, float, float, float] = FRAME
    film: str = ""
    frames: int = 120
    fps: int = 30

    def __post_init__(self):
        known = FILMS if self.film else (*PICTURES, *files.TIFF, files.FUNCTION)
        if self.suffix not in known:
            raise UserError(f"suffix {self.suffix!r} must be one of {', '.join(known)}")
        try:
            View(self.width, self.height, window=self.window)
        except ValueError as error:
            raise UserError(str(error)) from None
        if not self.film:
            return
        if self.film not in ("zoom", "morph"):
            raise UserError(f"film {self.film!r} must be zoom or morph")
        film.check(self.suffix[1:], self.width, self.height, self.fps)
        if self.width * self.height * self.frames > LARGEST:
            raise UserError(
                f"{self.frames} frames of {self.width}x{self.height} are too many: "
                f"{LARGEST:,} pixels in all"
            )
        if self.film == "morph" and len(self.picture.seeds) < 2:
            raise UserError("a morph leads from image to image: pick two or four in the gallery")

    @property
    def tiles(self) -> int:
        """How many there are to make."""
        if self.suffix == files.FUNCTION:
            return 1
        side = Steady.TILE
        each = math.ceil(self.width / side) * math.ceil(self.height / side)
        return each * (self.frames if self.film else 1)

    def write(self, source, path: Path, tick: Callable[[], None]) -> None:
        """Writes the file; `tick` is called for every tile, and may raise to end it."""
        if self.film:
            path.write_bytes(film.encode(self._frames(source, tick), self.suffix[1:], self.fps))
            return
        image = source.image(self.picture)
        if isinstance(image, Still):
            if self.suffix != ".png":
                raise UserError(f"{self.suffix}: {source.off['inr']} Save it as .png")
            if self.width * self.height > files.MEMORY // 4:
                raise UserError(f"{self.width}x{self.height} pixels are too many")
            pixels = image.render(self.width, self.height, window=self.window)
            path.write_bytes(encode_png(to_uint8(pixels)))
        elif self.suffix == files.FUNCTION:
            files.save(image, path)
        else:
            files.save(
                image.ticking(tick), path, self.width, self.height, tile=Steady.TILE,
                window=self.window, **self.picture.seen,
            )  # fmt: skip

    def _frames(self, source, tick):
        if self.film == "morph":
            made = (source.image(picture) for picture in self._path())
            windows = [self.window] * self.frames
        else:
            made = itertools.repeat(source.image(self.picture), self.frames)
            windows = self._windows()
        for image, window in zip(made, windows, strict=True):
            shown = image.ticking(tick)
            yield to_uint8(
                shown.render(self.width, self.height, window=window, **self.picture.seen)
            )

    def _path(self):
        """From the first image and back to it, through all of them."""
        corners = [(0, 0), (1, 0)] if len(self.picture.seeds) == 2 else [
            (0, 0), (1, 0), (1, 1), (0, 1)]  # fmt: skip
        for k in range(self.frames):
            number, part = divmod(k / self.frames * len(corners), 1)
            a, b = corners[int(number)], corners[(int(number) + 1) % len(corners)]
            u, v = ((1 - part) * p + part * q for p, q in zip(a, b, strict=True))
            yield dataclasses.replace(self.picture, u=u, v=v)

    def _windows(self):
        """From a window of the same shape that holds the frame into this one, and out again."""
        left, bottom, right, top = self.window
        shape = (right - left) / (top - bottom)
        start = (-max(shape, 1.0), -max(1 / shape, 1.0), max(shape, 1.0), max(1 / shape, 1.0))
        factor = (start[2] - start[0]) / (right - left)
        if factor < 1.01:
            raise UserError("a zoom leads from the whole image to what is seen: zoom in first")
        if factor > deepest_zoom(start, self.width, self.height):
            raise UserError("so close, float32 cannot tell this film's pixels apart")
        # The point that keeps its place: (l - L / f) / (1 - 1 / f) along each axis.
        point = [(v - w / factor) / (1 - 1 / factor)
                 for v, w in ((left, start[0]), (bottom, start[1]))]  # fmt: skip
        point = [min(max(v, low), high)
                 for v, low, high in zip(point, start[:2], start[2:], strict=True)]  # fmt: skip
        return zoom_windows(start, point, factor, self.frames, back=True)


@dataclass
class Job:
    """An order being filled. `state`: working, done, failed or cancelled; `made` of `tiles`."""

    order: Order
    path: Path
    name: str
    tiles: int
    made: int = 0
    state: str = "working"
    error: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)

    def remove(self) -> None:
        """Removes the file, and what was begun of it."""
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink(missing_ok=True)

    def told(self) -> dict:
        """For the page."""
        keys = ("name", "state", "error", "made", "tiles")
        return {key: getattr(self, key) for key in keys}


class Saves:
    """Orders, each filled by a thread of its own into a temporary folder."""

    def __init__(self):
        self._folder = Path(tempfile.mkdtemp(prefix="inr_gan_jax_view_"))
        self._jobs: dict[str, Job] = {}

    def start(self, source, order: Order, name: str) -> str:
        """Begins; the job's key. UserError where too many are being made."""
        working = [job for job in self._jobs.values() if job.state == "working"]
        if len(working) >= AT_ONCE:
            raise UserError(f"{AT_ONCE} files are being made already: wait, or cancel one")
        for key in [k for k, job in self._jobs.items() if job.state != "working"][: -KEPT or None]:
            self._jobs.pop(key).remove()
        key = secrets.token_hex(8)
        job = Job(order, self._folder / f"{key}{order.suffix}", name + order.suffix, order.tiles)
        self._jobs[key] = job
        threading.Thread(target=self._fill, args=(job, source), daemon=True).start()
        return key

    def job(self, key: str) -> Job:
        """By its key; UserError where there is none."""
        if key not in self._jobs:
            raise UserError("there is no such file (any more): save it again")
        return self._jobs[key]

    def end(self) -> None:
        """Cancels all and removes their files."""
        for job in self._jobs.values():
            job.cancelled.set()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _fill(self, job: Job, source) -> None:
        def tick():
            if job.cancelled.is_set():
                raise Cancelled
            job.made += 1

        state = "failed"
        try:
            job.order.write(source, job.path, tick)
            job.made, state = job.tiles, "done"
        except Cancelled:
            state = "cancelled"
        except (UserError, ValueError) as error:
            job.error = str(error).replace(str(job.path), job.name)
        except Exception as error:  # the page must hear of whatever it was
            job.error = f"{type(error).__name__}: {error}"
        if state != "done":
            job.remove()
        job.state = state
