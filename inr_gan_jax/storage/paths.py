"""Paths in a cloud (gs://...): what is looked at is never old, and what fails says so in a line."""

import contextlib
import logging
import os
import pathlib
from collections.abc import Iterator

from etils import epath
from fsspec.config import conf

from inr_gan_jax.errors import UserError

# gcsfs keeps a folder's list for ever, though tensorstore and other processes write there too.
conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs a traceback of what it raises, too


@epath.register_path_cls(["http://", "https://", "ftp://", "file://", "hf://"])
class _Unread(pathlib.PurePosixPath):
    """What epath would make a KeyError of: addresses of what is no disk and no bucket."""

    def __new__(cls, path: str):
        raise UserError(
            f"{path} is no path: fetch what is there, and give the file or folder; buckets are "
            "gs://... or s3://..., and models on a hub hf://user/model, where a model is wanted"
        )


def is_cloud(path: epath.PathLike) -> bool:
    """Whether a path lies in a cloud: gs://..., s3://..."""
    return "://" in os.fspath(path)


@contextlib.contextmanager
def reached(path: epath.PathLike) -> Iterator[None]:
    """Makes OSError of whatever a cloud path's network, or credentials, raise in the body.

    Raises UserError where a package for such paths is not installed.
    """
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:  # gcsfs has errors of its own, as have its libraries
        if not is_cloud(path):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ImportError):
            raise UserError(f"{path} needs a package for cloud paths: {reason}") from error
        raise OSError(f"{path} cannot be reached: {reason}") from error


def cache_root() -> epath.Path:
    """Where what can be made or fetched again is kept.

    `$INR_GAN_JAX_CACHE`, else `inr_gan_jax` in `$XDG_CACHE_HOME` or `~/.cache`. OSError where
    there is no home folder (a container whose user has none).
    """
    named, folder = os.environ.get("INR_GAN_JAX_CACHE"), os.environ.get("XDG_CACHE_HOME")
    found = os.path.expanduser(named or folder or "~/.cache")
    if found.startswith("~"):
        raise OSError("there is no home folder")
    return epath.Path(found) if named else epath.Path(found) / "inr_gan_jax"
