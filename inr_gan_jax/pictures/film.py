"""Frames as the bytes of MP4, GIF and WebP films."""

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
from PIL import Image

from inr_gan_jax.errors import UserError
from inr_gan_jax.pictures.pixels import opaque

# What a file's suffix asks for: frames per second and longest side that it can have
FILMS = {".mp4": (1000, 16384), ".gif": (50, 65535), ".webp": (1000, 16383)}


def check(kind: str, width: int, height: int, fps: int) -> None:
    """Raises UserError, one line, for films that a container cannot hold."""
    most, longest = FILMS[f".{kind}"]
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
