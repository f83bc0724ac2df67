"""What a file is, told before what is wrong with it."""

import re
import string
from typing import Any

import numpy as np
from etils import epath

from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign import cips, released, shared, spans
from inr_gan_jax.foreign.published import Published
from inr_gan_jax.foreign.tensors import Tensor
from inr_gan_jax.foreign.unpickle import DAMAGE, Refused, opened, printable

CONVERTED = "INR-GAN's and StyleGAN2-ADA's .pkl and CIPS's .pt are converted"
# First bytes -> what a file is, and what to do instead.
_BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file: run `git lfs pull`",
    b"\x1f\x8b": "compressed by gzip: unpack it first (gunzip)",
    b"BZh": "compressed by bzip2: unpack it first (bunzip2)",
    b"\xfd7zXZ": "compressed by xz: unpack it first (unxz)",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it first (unzstd)",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"\x89PNG": "a picture (PNG), no checkpoint",
    b"\xff\xd8\xff": "a picture (JPEG), no checkpoint",
    b"\x89HDF": f"an HDF5 file, of Keras perhaps: {CONVERTED}",
    b"%PDF": "a PDF, no checkpoint",
}
_PLAIN = frozenset(string.printable.encode())


def open_published(path: epath.PathLike) -> Published:
    """A published checkpoint in our terms; UserError, one line, that says what any other file is.

    INR-GAN's code, StyleGAN2-ADA (PyTorch), CIPS's own release, and generators of ours.
    """
    path = epath.Path(path)
    refuse_others(path)
    if found := shared.open_shared(path):
        return found
    try:
        with opened(path) as content:
            try:
                return _convert(content)
            except (UserError, *DAMAGE) as error:
                reason = " ".join((str(error) or type(error).__name__).split())
                if not isinstance(error, UserError):
                    reason = f"it does not hold what such files hold ({reason})"
                raise UserError(f"{path}: {printable(reason, 400)}") from None
    except Refused as error:
        if error.name.startswith("dnnlib.tflib."):
            raise UserError(
                f"{path} is a pickle of TensorFlow networks (StyleGAN, StyleGAN2): {CONVERTED}; "
                "PyTorch versions of such networks are published, too"
            ) from None
        raise


def refuse_others(path: epath.Path) -> None:
    """UserError for a file whose first bytes, or whose archive's names, say that it is another."""
    try:
        with spans.opened(path) as span:
            file = span.open()
            head = file.read(512)
            names = _names(file) if head.startswith(b"PK\x03\x04") else []
            size = shared.header_size(head)
            told = shared.about((head + file.read(size))[8 : 8 + size]) if size else None
    except (OSError, ValueError) as error:  # ValueError: it is shorter than its size
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read: {reason}") from None
    if not head:
        raise UserError(f"{path} is empty: the download failed")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        raise UserError(
            f"{path} is a web page, saved in place of the file: follow its download link"
        )
    for beginning, what in _BEGINNINGS.items():
        if head.startswith(beginning):
            raise UserError(f"{path} is {what}")
    if path.suffix == ".inr":
        raise UserError(
            f"{path} holds functions, without the generator that made them: "
            "python -m inr_gan_jax.render --image=FILE, or inr_gan_jax.open_image"
        )
    if size and told is None:
        raise UserError(
            f"{path} is a safetensors file, arrays without the network's description: {CONVERTED}"
        )
    if len(text) > 8 and all(byte in _PLAIN for byte in text):
        raise UserError(f"{path} is a text file, no checkpoint: {CONVERTED}")
    if any(re.match(r"[^/]+/code/", name) for name in names):
        raise UserError(
            f"{path} is a TorchScript archive, a program: {CONVERTED}, which hold arrays"
        )
    if names and all(name.endswith(".npy") for name in names):
        raise UserError(f"{path} is a NumPy archive (.npz), arrays alone: {CONVERTED}")
    if names and not any(name.endswith("data.pkl") for name in names):
        raise UserError(f"{path} is a zip archive, no checkpoint: unpack it first")


def _names(file) -> list[str]:
    import zipfile

    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, *DAMAGE):
        return []


def _convert(content: Any) -> Published:
    if released.is_network(content):
        content = {"G_ema": content}
    if not isinstance(content, dict):
        raise UserError(f"no checkpoint, but a {type(content).__name__}: {CONVERTED}")
    if any(content.get(name) is not None for name in released.NETWORKS):
        if content.get("G_ema") is None:
            raise UserError("it has no network 'G_ema', the averaged generator")
        return released.convert(content)
    for states in ({"g_ema": content}, content):
        if cips.is_generator(states.get("g_ema")):
            parts = (states.get(name) for name in ("g_ema", "g", "d"))
            try:
                return cips.convert(*(part if isinstance(part, dict) else None for part in parts))
            except UserError as error:
                raise UserError(f"a checkpoint of CIPS, but {error}") from None
    inner = content.get("g_ema", content.get("state_dict", content))
    names = set(inner) if isinstance(inner, dict) else set()
    if {"convs.0.conv.weight", "style.1.weight"} <= names:
        raise UserError(
            f"a StyleGAN2 of a third-party PyTorch port: {CONVERTED}; StyleGAN2-ADA's own files "
            "hold the same networks"
        )
    arrays = [n for n in names if isinstance(inner[n], (Tensor, np.ndarray))]
    first = printable(", ".join(map(str, sorted(map(str, names))[:3])))
    what = f"{len(arrays)} arrays of a network that is not known here" if arrays else "no network"
    raise UserError(f"it holds {what} ({first}, ...): {CONVERTED}")
