"""Data sets that have a name instead of a path: the embedded digits and TensorFlow Datasets."""

import abc
import hashlib
import importlib.util
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from PIL import Image
from tqdm import tqdm

from inr_gan_jax.data import images
from inr_gan_jax.data.stores import Store
from inr_gan_jax.errors import UserError, nearest

_SPEC = re.compile(r"tfds:(?P<name>[\w/.\-]+(:\d[\d.]*)?)(:(?P<split>[a-zA-Z_].*))?")


class NamedStore(Store):
    """Images of one origin. `size` is (height, width), or None where it varies from image to image;
    `channels` is None where it does."""

    size: tuple[int, int] | None
    channels: int | None

    @abc.abstractmethod
    def identity(self) -> list:
        """What tells this data from any other, for the content hash."""


class DigitsStore(NamedStore):
    """The 1,797 handwritten digits that scikit-learn carries: 8x8, grey, ten classes."""

    name, size, channels = "digits", (8, 8), 1

    def __init__(self):
        rows = np.loadtxt(_digits_file(), np.int64, delimiter=",")
        pixels = rows[:, :-1].reshape(-1, *self.size)  # stored as 0 to 16
        self._pixels = np.round(pixels * (255 / 16)).astype(np.uint8)
        self._labels = rows[:, -1]

    def __len__(self) -> int:
        return len(self._pixels)

    def where(self, index: int) -> str:
        return f"digits: image {index}"

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self._pixels[index])

    def labels(self) -> tuple[np.ndarray, int]:
        return self._labels, 10

    def class_names(self) -> tuple[str, ...]:
        return tuple("0123456789")

    def identity(self) -> list:
        return ["digits", hashlib.sha256(self._pixels.tobytes()).hexdigest()]


def _digits_file() -> Path:
    """scikit-learn's file of them: to import `sklearn.datasets` takes longer than all the rest."""
    (package,) = importlib.util.find_spec("sklearn").submodule_search_locations
    return Path(package) / "datasets" / "data" / "digits.csv.gz"


class TfdsStore(NamedStore):
    """One split of a data set of TensorFlow Datasets, which is read without TensorFlow.

    The data is read from `data_dir` (default: that of TFDS) as array_record files. What is not
    there is downloaded and built, for which TFDS needs TensorFlow for most data sets.
    """

    def __init__(self, spec: str, data_dir: str | None, progress: bool):
        match = _SPEC.fullmatch(spec)
        if not match:
            raise UserError(f"{spec} is not of the form tfds:NAME[/config][:split]")
        self.name = spec
        self._set, self._split = match["name"], match["split"] or "train"
        self._data_dir = str(epath.Path(data_dir).expanduser()) if data_dir else None
        self._progress = progress
        self._reset()
        info = self._source().dataset_info
        self._full_name, self._features = info.full_name, dict(info.features)
        shape = self._image_shape()
        self.size = None if None in shape[:2] else (int(shape[0]), int(shape[1]))
        self.channels = shape[2] and int(shape[2])
        self._length = len(self._source())
        if not self._length:
            raise UserError(f"{spec} holds no images: choose another split")

    def __len__(self) -> int:
        return self._length

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["_lock"], state["_opened"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def where(self, index: int) -> str:
        return f"{self.name}: image {index}"

    def image(self, index: int) -> Image.Image:
        try:
            data = self._source()[index]["image"]
        except UserError:
            raise
        except Exception as error:  # array_record has no errors of its own
            raise UserError(
                f"{self.where(index)} cannot be read ({_first_line(error)}): build it again"
            ) from error
        image = images.decode(data, self.where(index))
        mode = images.MODES.get(self.channels, image.mode)  # JPEG may store grey for 3 channels.
        return image if image.mode == mode else image.convert(mode)

    def labels(self) -> tuple[np.ndarray, int] | None:
        import tensorflow_datasets as tfds

        feature = self._features.get("label")
        if not isinstance(feature, tfds.features.ClassLabel):
            return None
        indices = tqdm(range(len(self)), "reading labels", delay=2, disable=not self._progress)
        labels = np.asarray([self._source()[i]["label"] for i in indices], np.int64)
        if labels.min() < 0:
            raise UserError(f"{self.where(int(labels.argmin()))} has no label: use another split")
        return labels, feature.num_classes

    def class_names(self) -> tuple[str, ...]:
        return tuple(self._features["label"].names)

    def identity(self) -> list:
        return [self._full_name, self._split, len(self)]

    def _image_shape(self) -> tuple[int | None, ...]:
        import tensorflow_datasets as tfds

        feature = self._features.get("image")
        if not isinstance(feature, tfds.features.Image) or feature.np_dtype != np.uint8:
            raise UserError(
                f'{self.name} has no 8-bit "image", only {", ".join(sorted(self._features))}: '
                "use another data set"
            )
        return feature.shape

    def _reset(self) -> None:
        self._lock, self._opened = threading.Lock(), None

    def _source(self) -> Any:
        with self._lock:
            if self._opened is None:
                self._opened = _open(self.name, self._set, self._split, self._data_dir)
            return self._opened


def _open(spec: str, name: str, split: str, data_dir: str | None) -> Any:
    """Returns the random-access TFDS source, images as encoded bytes; downloads it if it must."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except tfds.core.registered.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        hint = nearest(name.split("/")[0].split(":")[0], known)
        raise UserError(f"{spec} is no data set that TFDS knows{hint}") from error
    except Exception as error:  # TFDS raises AssertionError, ValueError, ... for configs, versions.
        raise UserError(f"{spec}: {_first_line(error)}: check its config and version") from error
    try:
        if not builder.is_prepared():
            builder.download_and_prepare()
        decoders = {"image": tfds.decode.SkipDecoding()}
        sources = builder.as_data_source(split=None, decoders=decoders)
    except Exception as error:  # Networks, disks and generators fail in any way.
        raise UserError(
            f"cannot get {spec} ({_first_line(error)}): once, where there are a network and "
            "TensorFlow (TFDS builds most data sets with it), run python -c "
            f"\"import tensorflow_datasets as tfds; tfds.builder('{name}', data_dir='DIR', "
            "file_format='array_record').download_and_prepare()\" "
            "and give DIR as the data_dir: reading it needs neither"
        ) from error
    try:
        return builder.as_data_source(split=split, decoders=decoders)
    except Exception as error:
        raise UserError(f"{spec} has the splits {', '.join(sorted(sources))}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
