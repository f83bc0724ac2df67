"""Whole files of a run, written when the disk has room for them: a full one ends no training."""

import logging

from etils import epath

from inr_gan_jax.storage.atomic import replaced


class Later:
    """Writes files at once or, where that fails, again at each `retry`; failing is told once."""

    def __init__(self):
        self._waiting: dict[epath.Path, bytes] = {}
        self._told: set[epath.Path] = set()

    def write(self, path: epath.PathLike, data: bytes) -> bool:
        """Puts `data` at `path`, in place of what still waits for it: now (True), or later."""
        self._waiting[epath.Path(path)] = data
        self.retry()
        return epath.Path(path) not in self._waiting

    def retry(self) -> None:
        """Writes what is waiting, as far as that is possible."""
        for path, data in list(self._waiting.items()):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with replaced(path) as file:
                    file.write(data)
            except OSError as error:
                if path not in self._told:
                    self._told.add(path)
                    logging.warning("%s cannot be written now, but later: %s", path, error)
            else:
                del self._waiting[path]

    def close(self) -> None:
        """The last try: what fails now is lost, and an error says so."""
        self.retry()
        for path in self._waiting:
            logging.error("%s was never written", path)
        self._waiting.clear()
