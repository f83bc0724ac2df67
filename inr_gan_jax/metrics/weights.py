"""The weights of the detectors: a user's files, or published ones, fetched once and checked."""

import hashlib
import http.client
import logging
import urllib.request
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from tqdm import tqdm

from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign import unpickle
from inr_gan_jax.storage.atomic import replaced
from inr_gan_jax.storage.paths import cache_root

_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Source:
    """A published file: where it is, and the SHA-256 of its bytes."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name, here as there."""
        return self.url.rsplit("/", 1)[-1]


SOURCES = {
    # Address: mseitzer/pytorch-fid, src/pytorch_fid/inception.py. The name has the hash's start;
    # the whole hash: snap-research/discoscene, models/inception_model.py.
    "inception": Source(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    # Address: pytorch/vision, torchvision/models/vgg.py. The name has the hash's start; the whole
    # hash: plai-group/ubc_primitives, primitives/cnn/cnn.py.
    "vgg16": Source(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    # Address: toshas/torch-fidelity, torch_fidelity/sample_similarity_lpips.py: a copy of
    # richzhang/PerceptualSimilarity, lpips/weights/v0.1/vgg.pth. The hash is of that file in the
    # wheel lpips 0.1.4; its MD5 is the one in CompVis/taming-transformers, taming/util.py.
    "lpips": Source(
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-vgg16-lpips.pth",
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    ),
}

VGG16_CONVOLUTIONS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))  # by stage

# Tensors by which a file is known. VGGs of other depths have other numbers.
_MARKS = {
    "inception": {"Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch_pool.conv.weight", "fc.weight"},
    "vgg16": {f"features.{i}.weight" for stage in VGG16_CONVOLUTIONS for i in stage},
    "lpips": {f"lin{i}.model.1.weight" for i in range(5)},
}


def load(
    network: str,
    given: Sequence[epath.PathLike] = (),
    cache: epath.PathLike | None = None,
) -> tuple[dict[str, np.ndarray], str]:
    """The tensors of a detector, by PyTorch's names, and the SHA-256 of the file they are from.

    Args:
      network: `inception`, `vgg16` or `lpips`.
      given: the user's files, `.safetensors` or what `torch.save` writes, in any order: which one
        holds which network is seen from the names of its tensors.
      cache: folder of fetched files, by default `detectors/` in `cache_root()`.

    What is not given is taken from the cache, or fetched into it. Raises UserError for a file that
    cannot be read or holds no detector, two files for one network, and if nothing can be fetched.
    """
    found = {}
    for path in map(epath.Path, given):
        tensors = _read(path)
        if _network_of(path, tensors) == network:
            found[path] = tensors
    if len(found) > 1:
        names = " and ".join(map(str, found))
        raise UserError(f"--detector_weights: {names} both hold {network}: give one of them")
    for path, tensors in found.items():
        return tensors, _sha256(path)
    return _read(_fetched(network, cache)), SOURCES[network].sha256


def tensor(
    arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    """The tensor `name`, in float32; None in `shape` stands for any size.

    Raises UserError, naming the tensor, if it is missing or has another shape.
    """
    if name not in arrays:
        raise UserError(f"the detector's weights have no tensor {name}: is it another network?")
    array = np.asarray(arrays[name], np.float32)
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, size) for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = tuple("any" if size is None else size for size in shape)
        raise UserError(
            f"the detector's tensor {name} has the shape {array.shape}, not {wanted}: "
            "is it another network?"
        )
    return array


def _read(path: epath.Path) -> dict[str, np.ndarray]:
    if path.suffix != ".safetensors":
        if _is_torchscript(path):
            source = SOURCES["inception"]
            raise UserError(
                f"{path} is a TorchScript archive (NVIDIA's inception-2015-12-05.pt, perhaps): the "
                f"same network's arrays are wanted, {source.url}, SHA-256 {source.sha256}"
            )
        return unpickle.read_weights(path)
    try:
        return safetensors.numpy.load(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except (safetensors.SafetensorError, *unpickle.DAMAGE) as error:
        raise UserError(f"{path} is no whole safetensors file: {error}") from None


def _is_torchscript(path: epath.Path) -> bool:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return any("/code/" in f"/{name}" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _network_of(path: epath.Path, names: Iterable[str]) -> str:
    names = set(names)
    for network, marks in _MARKS.items():
        if marks <= names:
            return network
    raise UserError(
        f"--detector_weights={path} holds none of {', '.join(SOURCES)}: "
        f"its tensors are {', '.join(sorted(names)[:3])}, ..."
    )


def _fetched(network: str, cache: epath.PathLike | None) -> epath.Path:
    """The published file in the cache, fetched if it is not there or not whole."""
    source = SOURCES[network]
    path = epath.Path(cache or cache_root() / "detectors").expanduser() / source.name
    try:
        if path.exists():
            if _sha256(path) == source.sha256:
                return path
            logging.warning("%s is damaged: fetching it again", path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(source, path)
    except (OSError, http.client.HTTPException) as error:
        reason = str(error).strip("<>") or type(error).__name__
        raise UserError(
            f"the weights of {network} cannot be fetched ({reason}): get {source.url} and put it "
            f"at {path}, or give it with --detector_weights=FILE"
        ) from None
    return path


def _download(source: Source, path: epath.Path) -> None:
    """Puts a published file at `path`, once it is whole; OSError or HTTPException if it fails."""
    digest = hashlib.sha256()
    with (
        urllib.request.urlopen(source.url, timeout=_TIMEOUT) as response,
        replaced(path) as file,
        tqdm(total=response.length, desc=source.name, unit="B", unit_scale=True, delay=5) as bar,
    ):
        while chunk := response.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
            bar.update(len(chunk))
        if digest.hexdigest() != source.sha256:
            raise OSError(f"the {bar.n} bytes that came are not the published file")


def _sha256(path: epath.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
