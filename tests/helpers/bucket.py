"""A cloud in memory that answers to gs://."""

from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem


def make_bucket(monkeypatch) -> MemoryFileSystem:
    """From here on gs:// paths lie in the file system that is returned."""

    class Bucket(MemoryFileSystem):
        store, pseudo_dirs = {}, [""]  # its own, not all memory's
        cachable = False

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(str(path).removeprefix("gs://"))

    bucket = Bucket()
    monkeypatch.setattr(backend.fsspec_backend, "fs", lambda path: bucket)
    return bucket
