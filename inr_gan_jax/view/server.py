"""The viewer's web application: tiles of pictures, saves, a run's curves, and the page itself.

It answers its own page only: the Host must be one that it was started for (or a page elsewhere
could reach it by a name of its own), and no other Origin may ask. No path comes from a request.
"""

import asyncio
import contextlib
import dataclasses
import functools
import ipaddress
import json
import secrets
import shlex
import socket
from collections.abc import Callable
from concurrent.futures import Future
from importlib import resources
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from inr_gan_jax.errors import UserError
from inr_gan_jax.render.files import FUNCTION
from inr_gan_jax.view.artist import Artist, Busy
from inr_gan_jax.view.picture import parse
from inr_gan_jax.view.save import Order, Saves
from inr_gan_jax.view.watch import Watch
from inr_gan_jax.view.world import REACH, TILE

FOLDER = resources.files("inr_gan_jax.view")
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
ASSETS = {  # what the page is made of, by the name that it asks for
    "": FOLDER / "static" / "index.html",
    "base.css": FOLDER / "site" / "base.css",
    **{f.name: f for f in (FOLDER / "static").iterdir() if f.name.endswith((".css", ".js"))},
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
LONGEST = 10_000  # bytes of what a page may say at once
ADDRESS = 4_000  # and of an address
EVERYWHERE = ("0.0.0.0", "::")  # hosts that are all of this machine's


class Studio:
    """All that a viewer has: who draws, what is being saved, the run that is watched.

    `title` and `told` are what the page says; `command` is how --checkpoint was given.
    """

    def __init__(self, source, title: str, told: str, command: list[str]):
        self.artist, self.saves = Artist(source), Saves()
        self.watch: Watch | None = None
        self.title, self.told, self.command = title, told, command
        self._start = secrets.token_hex(4)

    @property
    def version(self) -> str:
        """Of all tiles: another one after a new checkpoint, and after a new start."""
        return f"{self._start}-{self.artist.version}"

    def about(self) -> dict:
        """What the page has to know, for JSON."""
        source = self.artist.source
        world, top = source.world, source.world.levels - 1
        width, height = world.size(top)
        return {
            "title": self.title, "told": self.told, "version": self.version,
            "family": source.name, "size": [world.width, world.height],
            "width": width, "height": height, "levels": world.levels, "tile": TILE,
            "reach": REACH, "native": -world.lowest,
            "count": source.count, "layers": source.layers, "classes": source.class_names,
            "cells": source.cells, "off": source.off, "run": self.watch is not None,
        }  # fmt: skip

    def end(self) -> None:
        """Ends its threads."""
        self.artist.end()
        self.saves.end()
        if self.watch:
            self.watch.end()


def application(studio: Studio, may: Callable[[str], bool]) -> Starlette:
    """The ASGI application of a studio; `may` says whether a host name is its own."""
    tiles = "/tiles/{version}"
    routes = [
        Route("/api/model", functools.partial(_about, studio)),
        Route(f"{tiles}/{{level:int}}/{{column:int}}_{{row:int}}.png",
              functools.partial(_tile, studio)),
        Route(f"{tiles}/whole.png", functools.partial(_tile, studio)),
        Route("/api/curves", functools.partial(_curves, studio)),
        Route("/api/command", functools.partial(_command, studio)),
        Route("/api/saves", functools.partial(_save, studio), methods=["POST"]),
        Route("/api/saves/{key}", functools.partial(_saved, studio), methods=["GET", "DELETE"]),
        Route("/api/saves/{key}/file", functools.partial(_file, studio)),
        Route("/{name}", _asset), Route("/", _asset),
    ]  # fmt: skip

    @contextlib.asynccontextmanager
    async def life(_):
        yield
        studio.end()

    return Starlette(
        routes=routes,
        lifespan=life,
        middleware=[Middleware(_Guard, may=may)],
        exception_handlers={
            UserError: lambda _, error: _wrong(400, str(error)),
            Busy: lambda _, error: _wrong(503, "too much is asked for at once: wait a little"),
            HTTPException: lambda _, error: _wrong(error.status_code, error.detail),
            Exception: lambda _, error: _wrong(500, f"{type(error).__name__}: {error}"),
        },
    )


def own_hosts(host: str, port: int) -> Callable[[str], bool]:
    """Whether a Host header is that of a server on `host`.

    A server that listens beyond the loopback takes any numeric address too, which no foreign name
    can be made to resolve to; one that listens everywhere this machine's name.
    """
    local, host = {"localhost", "127.0.0.1", "::1"}, host.lower()  # as browsers send it
    wide = not (host in local or _is_loopback(host))
    names = {*local, host, *([socket.gethostname().lower()] if host in EVERYWHERE else ())}

    def may(header: str) -> bool:
        try:
            parts = urlsplit(f"//{header}")
            name, given = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        known = name in names or (wide and _is_address(name))
        return known and given == port

    return may


def _is_loopback(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Guard:
    """Refuses what is not asked by the viewer's own page; says so on every answer."""

    def __init__(self, app, may: Callable[[str], bool]):
        self._app, self._may = app, may

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        host = headers.get("host", "")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if not self._may(host):
            answer = _wrong(
                403, f"this viewer is not {host[:100]}: use the address that it printed"
            )
        elif (origin is not None and origin != f"http://{host}") or (
            site not in ("none", "same-origin") and scope["path"] != "/"
        ):
            answer = _wrong(403, "another page may not use this viewer")
        elif len(scope["path"]) + len(scope["query_string"]) > ADDRESS:
            answer = _wrong(414, f"an address has at most {ADDRESS} bytes")
        else:
            return await self._app(scope, receive, _with_headers(send))
        return await answer(scope, receive, send)


def _with_headers(send):
    added = {
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    async def wrapped(message):
        if message["type"] == "http.response.start":
            headers = [(k.lower().encode(), v.encode()) for k, v in added.items()]
            message = {**message, "headers": [*message.get("headers", []), *headers]}
        await send(message)

    return wrapped


def _wrong(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason}, status)


async def _asset(request: Request) -> Response:
    name = request.path_params.get("name", "")
    if name not in ASSETS:
        raise HTTPException(404, "there is no such page")
    file = ASSETS[name]
    kind = next(kind for suffix, kind in KINDS.items() if file.name.endswith(suffix))
    return Response(file.read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"})


async def _about(studio: Studio, request: Request) -> Response:
    return JSONResponse(studio.about(), headers={"Cache-Control": "no-store"})


async def _tile(studio: Studio, request: Request) -> Response:
    at, picture = request.path_params, parse(request.url.query)
    if "level" in at:
        make = functools.partial(studio.artist.tile, picture, at["level"], at["column"], at["row"])
    else:
        make = functools.partial(studio.artist.thumbnail, picture)
    png = await _awaited(request, studio.artist.wish(make, last="level" not in at))
    # Of another version than the newest, it would be kept under a wrong name.
    keep = "private, max-age=3600" if at["version"] == studio.version else "no-store"
    return Response(png, media_type="image/png", headers={"Cache-Control": keep})


async def _awaited(request: Request, wish: Future):
    """What is wished for; the wish is dropped when nobody waits any more."""
    future = asyncio.wrap_future(wish)
    while True:
        done, _ = await asyncio.wait({future}, timeout=0.2)
        if done:
            return future.result()
        if await request.is_disconnected():
            future.cancel()
            raise HTTPException(499, "nobody waits for it any more")


async def _curves(studio: Studio, request: Request) -> Response:
    if studio.watch is None:
        raise UserError("this is no run, so there are no curves")
    found = await asyncio.to_thread(studio.watch.curves)
    return JSONResponse(found, headers={"Cache-Control": "no-store"})


async def _command(studio: Studio, request: Request) -> Response:
    order = _order(dict(request.query_params))
    words = ["python", "-m", "inr_gan_jax.view", *studio.command]
    words += [f"--picture={order.picture.text()}"]
    if order.suffix != FUNCTION:  # which has no size or window
        words += [f"--size={order.width}x{order.height}"]
        words += [f"--window={','.join(map(repr, order.window))}"]
    words += [f"--dest=picture{order.suffix}"]
    return JSONResponse({"command": shlex.join(words)})


async def _save(studio: Studio, request: Request) -> Response:
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise UserError("what is to be saved must be JSON")
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > LONGEST:
        raise UserError(f"what is to be saved must be said in at most {LONGEST} bytes")
    try:
        given = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise UserError("what is to be saved must be JSON") from None
    if not isinstance(given, dict):
        raise UserError("what is to be saved must be an object")
    order = _order(given)
    name = "seeds_" + "_".join(map(str, order.picture.seeds)) + ("_film" if order.film else "")
    source = studio.artist.source
    if order.suffix == FUNCTION and "inr" in source.off:
        raise UserError(f".inr: {source.off['inr']}")
    return JSONResponse({"key": studio.saves.start(source, order, name)})


def _order(given: dict) -> Order:
    """`picture` (a text), suffix, width, height, window, film, frames, fps -> Order."""
    known = [f.name for f in dataclasses.fields(Order)]
    if unknown := set(given) - set(known):
        raise UserError(f"{unknown.pop()!r} is not one of {', '.join(known)}")
    values = {"picture": parse(str(given.get("picture", "")))}
    values |= {name: str(given[name]) for name in ("suffix", "film") if name in given}
    for name, high in (("width", 2**31), ("height", 2**31), ("frames", 10_001), ("fps", 1001)):
        if name in given:
            values[name] = _whole(name, given[name], high)
    if "window" in given:
        window = given["window"]
        try:
            window = window.split(",") if isinstance(window, str) else list(window)
            values["window"] = tuple(map(float, window))
        except (TypeError, ValueError, OverflowError):
            raise UserError("window must be four numbers: left, bottom, right, top") from None
    if missing := {"suffix", "width", "height"} - set(values):
        raise UserError(f"{missing.pop()} is missing")
    return Order(**values)


def _whole(name: str, value, high: int) -> int:
    text = str(value)
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and 1 <= int(text) < high):
        raise UserError(f"{name} must be a whole number from 1 to {high - 1}")
    return int(text)


async def _saved(studio: Studio, request: Request) -> Response:
    job = studio.saves.job(request.path_params["key"])
    if request.method == "DELETE":
        job.cancelled.set()
    return JSONResponse(job.told(), headers={"Cache-Control": "no-store"})


async def _file(studio: Studio, request: Request) -> Response:
    job = studio.saves.job(request.path_params["key"])
    if job.state != "done":
        raise UserError(f"{job.name} is not there: {job.error or job.state}")
    return FileResponse(job.path, filename=job.name, headers={"Cache-Control": "no-store"})
