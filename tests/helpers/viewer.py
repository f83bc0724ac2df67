"""A viewer that runs in a thread of the test, asked through its own port."""

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from inr_gan_jax.view.serve import in_background
from inr_gan_jax.view.server import Studio


class Asked:
    """What a browser would ask of a viewer at `address`."""

    def __init__(self, address: str, studio: Studio):
        self.address, self.studio = address, studio

    def __call__(self, path: str, body=None, method=None, **headers) -> tuple[int, bytes, dict]:
        """(status, content, headers) of a path; `body` is sent as JSON."""
        data = None if body is None else json.dumps(body).encode()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read(), dict(error.headers)

    def json(self, path: str, body=None, status: int = 200, method=None):
        """What a path answers, which must be of this status."""
        found, content, _ = self(path, body, method)
        assert found == status, content
        return json.loads(content)

    def error(self, path: str, body=None, status: int = 400) -> str:
        """The sentence with which a path is refused."""
        return self.json(path, body, status)["error"]

    def saved(self, **order) -> bytes:
        """A file, when it is made."""
        key = self.json("api/saves", order)["key"]
        while (job := self.json(f"api/saves/{key}"))["state"] == "working":
            time.sleep(0.05)
        assert job["state"] == "done", job["error"]
        assert job["made"] == job["tiles"]
        return self(f"api/saves/{key}/file")[1]


@contextlib.contextmanager
def running(source, *, warm: bool = True, told: str = "") -> Iterator[Asked]:
    """A viewer of a source."""
    studio = Studio(source, "test", told, ["--checkpoint=x"])
    if warm:
        list(studio.artist.warm())
    with in_background(studio) as address:
        yield Asked(address, studio)
