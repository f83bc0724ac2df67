"""`Artist`: one thread that makes what is looked at, the newest wish first."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from inr_gan_jax.errors import UserError
from inr_gan_jax.pictures.encode import encode_png
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render.view import FRAME
from inr_gan_jax.view.picture import Picture
from inr_gan_jax.view.shown import Kept

MOST = 500  # wishes at once
MEMORY = 2**27  # bytes of tiles that are kept


class Busy(Exception):
    """More is asked for than can be remembered."""


class Artist:
    """Tiles of pictures as PNG. `source`: Generated or Opened; it may be replaced by a newer one.

    While nothing is wished for, neighbours of the last tile are made.
    """

    def __init__(self, source):
        self.source, self.version = source, 0
        self._tiles = Kept(MEMORY)
        self._wishes: list[tuple[Future, Callable]] = []
        self._next: list[tuple] = []  # tiles that may be wanted soon
        self._more = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def warm(self) -> Iterator[str]:
        """Compiles all that tiles need; says what it does next, step by step. Then it works."""
        for number, image in enumerate(self.source.warm(), 1):
            for view in image.kinds():
                yield f"images of kind {number}, {view.width}x{view.height}"
                image.render(**vars(view))
        self._thread.start()

    def replace(self, source) -> None:
        """Shows a newer checkpoint of the same model from now on."""
        with self._more:
            self.source, self.version = source, self.version + 1
            self._next.clear()

    def wish(self, make: Callable[[], object], *, last: bool = False) -> Future:
        """What `make` gives, when its turn comes; cancel it when nobody wants it any more.

        The newest wish comes first, but those that are `last` after all others, in their order.
        """
        future: Future = Future()
        with self._more:
            self._wishes = [wish for wish in self._wishes if not wish[0].cancelled()]
            if len(self._wishes) >= MOST:
                raise Busy
            self._wishes.insert(0 if last else len(self._wishes), (future, make))
            self._more.notify()
        return future

    def tile(self, picture: Picture, level: int, column: int, row: int) -> bytes:
        """PNG of a tile; UserError for one that is not there. To be called through `wish`."""
        made = self._area(picture, level, self.source.world.tile(level, column, row))
        self._next = [
            (picture, level, column + x, row + y) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y
        ]
        return made

    def thumbnail(self, picture: Picture) -> bytes:
        """PNG of the whole frame. To be called through `wish`."""
        width, height = self.source.world.thumbnail()
        return self._png(picture, width, height)

    def end(self) -> None:
        """Ends the thread."""
        with self._more:
            self._ended = True
            self._more.notify()

    def _area(self, picture: Picture, level: int, area: tuple[int, int, int, int]) -> bytes:
        return self._png(picture, *area[2:], self.source.world.window(level, area))

    def _png(self, picture: Picture, width: int, height: int, window=FRAME) -> bytes:
        with self._more:  # both of one checkpoint, or its tile is kept as another's
            source, version = self.source, self.version
        key = version, picture, width, height, window
        png = self._tiles.get(key)
        if png is None:
            try:
                image = source.image(picture)
                pixels = image.render(width, height, window=window, **picture.seen)
            except ValueError as error:
                raise UserError(str(error)) from None
            png = encode_png(to_uint8(pixels))
            self._tiles.put(key, png, len(png))
        return png

    def _work(self) -> None:
        while True:
            with self._more:
                while not (self._wishes or self._next or self._ended):
                    self._more.wait()
                if self._ended:
                    return
                future, make = self._wishes.pop() if self._wishes else (None, None)
                soon = self._next.pop() if future is None else None
            if future is None:
                self._prepare(*soon)
            elif future.set_running_or_notify_cancel():
                try:
                    future.set_result(make())
                except BaseException as error:  # it is whose wish it was that must hear of it
                    future.set_exception(error)

    def _prepare(self, picture: Picture, level: int, column: int, row: int) -> None:
        with contextlib.suppress(Exception):  # there may be no such neighbour, or no memory for it
            self._area(picture, level, self.source.world.tile(level, column, row))
