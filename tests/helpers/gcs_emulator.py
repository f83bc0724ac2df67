"""Google Cloud Storage on this machine: gcp_storage_emulator, and what it lacks of the real one.

Real storage moves objects (`moveTo`), tells their generations and heeds conditions on them, with
which tensorstore writes; that is added here. Requests are counted.
"""

import collections
import contextlib
import functools
import http.server
import logging
import re
import threading
from collections.abc import Iterator
from http import HTTPStatus

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.storage import Storage

logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)  # else all that is missing

BUCKET, PRIVATE = "bucket", "private"


class Cloud:
    """A bucket, `gs://bucket`, in memory; `environment` makes a process take it for Google's."""

    def __init__(self, port: int):
        host = f"http://127.0.0.1:{port}"
        self.environment = {
            "STORAGE_EMULATOR_HOST": host,  # gcsfs and Google's own client
            "TENSORSTORE_GCS_HTTP_URL": host,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "x",  # tensorstore
            "FSSPEC_GCS_TOKEN": "anon",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks Google itself for bucket types
        }
        self.requests = collections.Counter()  # by method and kind of request
        self.storage = Storage(use_memory_fs=True)
        self.lock = threading.Lock()
        buckets.create_bucket(BUCKET, self.storage)

    def names(self, prefix: str = "") -> list[str]:
        """The names of all objects that begin so."""
        with self.lock:
            found = list(self.storage.objects.get(BUCKET, {}))
        return sorted(name for name in found if name.startswith(prefix))

    def read(self, name: str) -> bytes:
        """One object."""
        with self.lock:
            return self.storage.get_file(BUCKET, name)

    def write(self, name: str, data: bytes) -> None:
        """One object, as a user uploads it."""
        with self.lock:
            record = objects._make_object_resource("", BUCKET, name, None, str(len(data)))
            self.storage.create_file(BUCKET, name, data, objects._checksums(data, record))


class _Handler(server.RequestHandler):
    def __init__(self, cloud: Cloud, *args):
        self._cloud = cloud
        super().__init__(cloud.storage, *args)

    def handle_one_request(self) -> None:
        # One at a time: the storage is of plain dictionaries.
        with self._cloud.lock, contextlib.suppress(ConnectionError):  # a client was killed
            super().handle_one_request()

    def parse_request(self) -> bool:
        whole = super().parse_request()
        if whole:
            kind = re.sub(r"(/b/)[^/?]+(/o/)?[^?]*", r"\1\2", self.path).partition("?")[0]
            self._cloud.requests[self.command, kind] += 1
        return whole


def _move(request, response, storage) -> None:
    """POST b/BUCKET/o/OBJECT/moveTo/o/OBJECT."""
    try:
        bucket, name = request.params["bucket_name"], request.params["object_id"]
        moved = objects._copy(
            request.base_url, storage, bucket, name, bucket, request.params["dest_object_id"]
        )
        storage.delete_file(bucket, name)
        response.json(moved)
    except NotFound:
        response.status = HTTPStatus.NOT_FOUND


def _with_generations(handler):
    """Refuses what expects another generation of an object, and tells which one is read."""

    def handle(request, response, storage) -> None:
        bucket, name = request.params.get("bucket_name"), request.params.get("object_id")
        name = name or request.query.get("name", [None])[0]
        here = storage.objects.get(bucket, {}).get(name, {"generation": "0"})["generation"]
        if request.query.get("ifGenerationMatch", [here])[0] != here:
            response.status = HTTPStatus.PRECONDITION_FAILED
        elif request.query.get("ifGenerationNotMatch", [""])[0] == here:
            response.status = HTTPStatus.NOT_MODIFIED
        else:
            response["x-goog-generation"] = here
            handler(request, response, storage)

    return handle


def _refusing(handler):
    """Answers for the bucket `private` as Google does where credentials are missing."""

    def handle(request, response, storage) -> None:
        if request.params.get("bucket_name") != PRIVATE:
            return handler(request, response, storage)
        response.status = HTTPStatus.UNAUTHORIZED
        message = "Anonymous caller does not have storage.objects.get access to the bucket."
        response.json({"error": {"code": 401, "message": message}})

    return handle


_MOVE = (
    r"^/storage/v1/b/(?P<bucket_name>[-.\w]+)/o/(?P<object_id>.*[^/]+)/moveTo/o/"
    r"(?P<dest_object_id>.*[^/]+)$",
    {server.POST: _move},
)
_HANDLERS = tuple(
    (route, {method: _refusing(_with_generations(handler)) for method, handler in handlers.items()})
    for route, handlers in (_MOVE, *server.HANDLERS)
)


@contextlib.contextmanager
def emulated() -> Iterator[Cloud]:
    """An empty bucket behind a port of this machine, until the body ends."""
    server.HANDLERS = _HANDLERS
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), None, bind_and_activate=False)
    httpd.request_queue_size = 128
    httpd.server_bind(), httpd.server_activate()
    cloud = Cloud(httpd.server_address[1])
    httpd.RequestHandlerClass = functools.partial(_Handler, cloud)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    try:
        yield cloud
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
