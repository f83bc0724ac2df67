"""Many frames of one size: planned together, so that they compile once, and encoded."""

import io
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np
from PIL import Image

from inr_gan_jax.errors import UserError
from inr_gan_jax.render.image import ContinuousImage, View, tile_side
from inr_gan_jax.render.plan import Axis

Plans = dict[tuple[View, int], tuple[list[Axis], list[Axis]]]
# container -> frames per second and longest side that it can have
KINDS = {"mp4": (1000, 16384), "webp": (1000, 16383), "gif": (50, 65535)}
FLOAT32_STEP = 2.0**-23  # between the coordinates of neighbouring pixels, near the frame's edge


class Planned(ContinuousImage):
    """An image whose views were planned beforehand (see `plan`)."""

    def __init__(self, image: ContinuousImage, plans: Plans):
        super().__init__(image.params, dtype=image.dtype)
        self._plans = plans

    def show(self, view: View) -> np.ndarray:
        """The pixels `[height, width, C]` of a planned view."""
        return self.render(**vars(view))

    def _axis_tiles(self, view: View, tile: int, overlap: int = 0) -> tuple[list[Axis], list[Axis]]:
        return self._plans[view, tile]


def plan(image: ContinuousImage, views: Iterable[View]) -> Plans:
    """The plans of views of one size, padded to one shape: all run one compiled program.

    They hold for every image of the same network. Deeper zooms need fewer cells of the coarse
    grids, so unpadded plans would differ in shape from frame to frame.
    """
    plans: Plans = {}
    for view in views:
        tile = tile_side(view)
        plans[view, tile] = image._axis_tiles(view, tile)
    for side in (0, 1):
        axes = [axis for sides in plans.values() for axis in sides[side]]
        sizes = [max(len(level.coordinate) for level in group)
                 for group in zip(*(axis.levels for axis in axes), strict=True)]  # fmt: skip
        pixels = max(len(axis.pixels) for axis in axes)
        for sides in plans.values():
            sides[side][:] = [axis.padded(sizes, pixels) for axis in sides[side]]
    return plans


def zoom_windows(
    window: Sequence[float], point: Sequence[float], factor: float, count: int, *, back: bool
) -> list[tuple[float, float, float, float]]:
    """`count` windows that shrink geometrically from `window` by `factor` around a point (x, y).

    The point keeps its place on the screen. `back`: in the second half they grow again, so that
    the first follows the last. Raises ValueError for a point outside the window.
    """
    left, bottom, right, top = window
    x, y = point
    if not (left <= x <= right and bottom <= y <= top):
        raise ValueError(f"the point {x:g},{y:g} lies outside the window {tuple(window)}")
    windows = []
    for k in range(count):
        part = 1 - abs(1 - 2 * k / count) if back else k / max(count - 1, 1)
        scale = factor**-part
        windows.append((*(c + (v - c) * scale for v, c in ((left, x), (bottom, y))),
                        *(c + (v - c) * scale for v, c in ((right, x), (top, y)))))  # fmt: skip
    return windows


def deepest_zoom(window: Sequence[float], width: int, height: int) -> float:
    """The factor beyond which neighbouring pixels have one float32 coordinate."""
    left, bottom, right, top = window
    return min((right - left) / width, (top - bottom) / height) / FLOAT32_STEP


def opaque(frame: np.ndarray, alpha: bool = False) -> np.ndarray:
    """uint8 `[H, W, 1|3|4]` -> RGB `[H, W, 3]`, transparency over white; RGBA with `alpha`."""
    if frame.shape[-1] == 1:
        return np.repeat(frame, 3, axis=-1)
    if frame.shape[-1] == 4 and not alpha:
        part = frame[..., 3:].astype(np.uint16)
        mixed = frame[..., :3] * part + 255 * (255 - part)
        return ((mixed + 127) // 255).astype(np.uint8)
    return frame


def check(kind: str, width: int, height: int, fps: int) -> None:
    """Raises UserError, one line, for films that a container cannot hold."""
    most, longest = KINDS[kind]
    if fps > most:
        raise UserError(f"--fps={fps}: a .{kind} has at most {most} frames per second")
    if max(width, height) > longest:
        raise UserError(f"a .{kind} is at most {longest} pixels a side, not {width}x{height}")
    if kind == "mp4" and (width % 2 or height % 2):
        even = f"{width + width % 2}x{height + height % 2}"
        raise UserError(
            f"an .mp4 needs an even width and height, not {width}x{height}: use --size={even}, "
            "or a .webp"
        )


def encode(frames: Iterable[np.ndarray], kind: str, fps: int) -> bytes:
    """Encodes frames, uint8 `[H, W, C]`, as they come: `mp4` (H.264), `gif` or `webp`.

    GIF and WebP repeat for ever; WebP keeps transparency, the others show it over white.
    """
    return (_encode_mp4 if kind == "mp4" else _encode_pillow)(iter(frames), kind, fps)


def _encode_mp4(frames: Iterator[np.ndarray], kind: str, fps: int) -> bytes:
    import av  # here, as it loads the libraries of ffmpeg
    from av.video.reformatter import ColorRange, Colorspace

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = None
        for pixels in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=fps, options={"crf": "16"})
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
                context = stream.codec_context
                # said, as players otherwise guess by the size of the picture
                context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
            frame = av.VideoFrame.from_ndarray(opaque(pixels), format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def _encode_pillow(frames: Iterator[np.ndarray], kind: str, fps: int) -> bytes:
    unit = 10 if kind == "gif" else 1  # milliseconds, in which durations are whole numbers
    images = [Image.fromarray(opaque(frame, alpha=kind == "webp")) for frame in frames]
    ends = [round(Fraction(1000 * (k + 1), fps * unit)) * unit for k in range(len(images))]
    durations = np.diff([0, *ends]).tolist()  # rounded so that the whole keeps its length
    buffer = io.BytesIO()
    options = {"quality": 90} if kind == "webp" else {}
    images[0].save(
        buffer, kind, save_all=True, append_images=images[1:], duration=durations, loop=0, **options
    )
    return buffer.getvalue()
