"""Servers on this machine that stand in for others, at work in a thread."""

import contextlib
import http.server
import threading
from collections.abc import Iterator


class Handler(http.server.BaseHTTPRequestHandler):
    """Keeps connections, says nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def at_work(handler) -> Iterator[http.server.ThreadingHTTPServer]:
    """A server on a free port of the loopback, which a handler may know things of."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
