"""Starting the viewer: what is opened, on which port, by whom it is seen."""

import contextlib
import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator

import uvicorn
from etils import epath

from inr_gan_jax.errors import UserError
from inr_gan_jax.storage.checkpoint import FOLDER
from inr_gan_jax.view.server import EVERYWHERE, Studio, application, own_hosts
from inr_gan_jax.view.shown import Generated
from inr_gan_jax.view.watch import Watch

PORT = 8765  # or the next one that is free, of some


def listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens; without a port on the first free one. UserError where none is."""
    problem = None
    for number in [port] if port is not None else range(PORT, PORT + 100):
        try:
            return socket.create_server((host, number), family=_family(host))
        except OSError as error:
            problem = error
    wanted = f"{host}:{port}" if port is not None else f"{host}, ports {PORT} to {PORT + 99}"
    raise UserError(f"{wanted} cannot be used: {problem.strerror or problem}")


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def watched(studio: Studio, checkpoint: str, reload, seconds: float = 5) -> None:
    """Lets a studio follow a run; `reload` opens its newest checkpoint."""
    shown = epath.Path(studio.artist.source.model.checkpoint).name

    def newer():
        model = reload()
        source = Generated(model)
        studio.told = told(model)  # first: a page asks for it as soon as the version is another
        studio.artist.replace(source)

    studio.watch = Watch(checkpoint, shown, newer, seconds)


def told(model) -> str:
    """What a page says of a generator."""
    return f"{model.config.model.family}, after {model.images_seen / 1000:,.1f} kimg of training"


def is_workdir(path: str) -> bool:
    """Whether a run has its checkpoints in this folder."""
    return (epath.Path(path).expanduser() / FOLDER).is_dir()


def serve(studio: Studio, host: str, listener: socket.socket, *, open_browser: bool) -> None:
    """Compiles, says the address, and answers until it is told to stop."""
    print("compiling: nothing will have to wait for that later", flush=True)
    for step in studio.artist.warm():
        print(f"  {step}", flush=True)
    port = listener.getsockname()[1]
    name = socket.gethostname() if host in EVERYWHERE else host
    address = f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
    print(f"{studio.title}: {address} (Ctrl-C ends it)", flush=True)
    if open_browser and _has_display():
        webbrowser.open(address)
    with contextlib.suppress(KeyboardInterrupt):
        _server(studio, host, port).run(sockets=[listener])
    print("ended", flush=True)


@contextlib.contextmanager
def in_background(studio: Studio) -> Iterator[str]:
    """Answers on the loopback from a thread of its own: the address. Nothing is compiled first."""
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = _server(studio, "127.0.0.1", port)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.should_exit = True
            thread.join(10)
            studio.end()


def _server(studio: Studio, host: str, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        application(studio, own_hosts(host, port)),
        log_level="warning",
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    return uvicorn.Server(config)


def _has_display() -> bool:
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
