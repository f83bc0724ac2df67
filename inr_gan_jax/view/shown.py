"""The images behind pictures: of a generator, of an .inr file, of a generator of pixels alone."""

import collections
import dataclasses
import threading
from collections.abc import Iterator

import jax
import numpy as np

from inr_gan_jax.errors import UserError
from inr_gan_jax.model import Model
from inr_gan_jax.models.families import inr_spec
from inr_gan_jax.models.parameters import InrParams, InrSpec
from inr_gan_jax.render.between import Between, lerp, materialize
from inr_gan_jax.render.image import ContinuousImage
from inr_gan_jax.render.steady import Steady
from inr_gan_jax.view.picture import SPACES, Picture
from inr_gan_jax.view.still import Still
from inr_gan_jax.view.world import World

MEMORY = 2**28  # bytes of functions that are kept


class Kept:
    """The last values that were asked for, by key, up to so many bytes; for several threads."""

    def __init__(self, most: int):
        self._most, self._values, self._size = most, collections.OrderedDict(), 0
        self._lock = threading.Lock()

    def get(self, key):
        """The value, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key, (None, 0))[0]

    def put(self, key, value, size: int) -> None:
        """Keeps it, and forgets those that were not asked for the longest."""
        with self._lock:
            self._size += size - self._values.get(key, (None, 0))[1]
            self._values[key] = value, size
            while len(self._values) > 1 and self._size > self._most:
                self._size -= self._values.popitem(last=False)[1][1]


class _Source:
    """What both kinds have in common. `off`: why a control does nothing here, by its name."""

    world: World
    off: dict[str, str]
    functions = True

    def image(self, picture: Picture) -> Steady | Still:
        """What renders a picture; UserError for what cannot be shown."""
        picture = picture.function
        found = self._images.get(picture)
        if found is None:
            try:
                found = self._made(picture)
            except ValueError as error:
                raise UserError(str(error)) from None
            if not isinstance(found, Still):
                found = Steady(found, self.world.least)
            self._images.put(picture, found, _size(getattr(found, "params", found)))
        return found


class Generated(_Source):
    """Images of a `Model`."""

    def __init__(self, model: Model):
        self.model, self._images, self._between = model, Kept(MEMORY), Kept(MEMORY // 2)
        config, align = model.config.model, "edge"
        self.name, self.count, self.layers = config.family, 2**32, model.num_styles
        self.functions = config.family != "stylegan2"
        self.class_names = model.class_names or tuple(map(str, range(model.num_classes)))
        self.off = {} if model.num_classes else {"class": "This model has no classes."}
        self.cells = 0
        if self.functions:
            spec = inr_spec(config)
            align, self.cells = spec.align, len(spec.levels)
            self.off |= off_for(spec)
        else:
            reason = "StyleGAN2 makes pixels, not a function: there is nothing between them."
            self.off |= dict.fromkeys(("blend", "cells", "tables", "inr"), reason)
        self.world = World(config.width, config.height, align)

    def warm(self) -> Iterator[Steady | Still]:
        """Images of every kind there is: when all were made, making others compiles nothing."""
        label = 0 if self.model.num_classes else None
        yield self.image(Picture(class_index=label))
        self.image(Picture())
        if "mix" not in self.off:
            self.image(Picture(seeds=(0,), mix=1, layers=(0, 0), class_index=label))
        for count in (2, 4) if "blend" not in self.off else ():
            for space in SPACES:
                picture = Picture(tuple(range(count)), 0.5, 0.5, space=space, class_index=label)
                made = self.image(picture)
                if space != "latent":
                    self.image(dataclasses.replace(picture, class_index=None))
                if space == "weights" and count == 2:
                    yield made  # of full weights: another program

    def _made(self, picture: Picture) -> ContinuousImage | Still:
        if len(picture.seeds) > 1:
            if reason := self.off.get("blend"):
                raise UserError(reason)
            between = self._blend(picture)
            if len(picture.seeds) == 4:
                return between.image(between.across(picture.u, picture.v))
            return between.image(between.blend(between.anchor(0), between.anchor(1), picture.u))
        ws = self._styles(picture, picture.seeds[0])
        if picture.mix is not None:
            first, last = picture.layers
            if last >= self.layers:
                raise UserError(
                    f"layers={first}-{last}: this model has layers 0 to {self.layers - 1}"
                )
            ws[first : last + 1] = self._styles(picture, picture.mix)[first : last + 1]
        if not self.functions:
            return Still(self.model.images(ws=ws[None])[0])
        return self.model.image(ws=ws)

    def _styles(self, picture: Picture, seed: int) -> np.ndarray:
        classes = self._classes(picture, [seed])
        ws = self.model.styles(seeds=[seed], classes=classes, truncation=picture.truncation)
        return np.array(ws[0])

    def _classes(self, picture: Picture, seeds: list[int]):
        if picture.class_index is not None:
            if reason := self.off.get("class"):
                raise UserError(reason)
            return [picture.class_index] * len(seeds)
        return self.model.classes(seeds) if self.model.num_classes else None

    def _blend(self, picture: Picture) -> Between:
        key = dataclasses.replace(picture, u=0.0, v=0.0)
        between = self._between.get(key)
        if between is None:
            seeds = list(picture.seeds)
            between = Between(
                self.model, self.model.latents(seeds), space=picture.space,
                classes=self._classes(picture, seeds), truncation=picture.truncation,
            )  # fmt: skip
            self._between.put(key, between, _size(between.anchor(0)) * len(seeds))
        return between


class Opened(_Source):
    """Images of an .inr file, by their numbers in it."""

    def __init__(self, params: InrParams):
        self._params, self._images = params, Kept(MEMORY)
        spec = params.spec
        self.world = World(*spec.size[::-1], spec.align)
        self.name, self.count, self.layers, self.class_names = ".inr", len(params), 0, ()
        self.cells = len(spec.levels)
        reason = "An .inr file holds functions, not the generator that made them."
        self.off = dict.fromkeys(("truncation", "class", "mix", "latent", "style"), reason)
        self.off |= off_for(spec)

    def warm(self) -> Iterator[Steady]:
        """As Generated.warm."""
        yield self.image(Picture())
        yield self.image(Picture((0, 0), 0.5))
        self.image(Picture((0,) * 4, 0.5, 0.5))

    def _made(self, picture: Picture) -> ContinuousImage:
        asked = {
            "truncation": picture.truncation != 1,
            "class": picture.class_index is not None,
            "mix": picture.mix is not None,
        }
        for name in (name for name, given in asked.items() if given):
            raise UserError(f"{name}: {self.off[name]}")
        if (wrong := max(picture.seeds)) >= self.count:
            raise UserError(f"the file has no image {wrong}: it holds 0 to {self.count - 1}")
        params = self._params[np.asarray(picture.seeds)]
        if len(params) == 1:
            return ContinuousImage(params[0])
        if picture.space != "weights":
            raise UserError(f"space={picture.space}: {self.off[picture.space]}")
        params = materialize(params)
        at = [params[k].image for k in range(len(params))]
        image = lerp(at[0], at[1], picture.u)
        if len(at) == 4:
            image = lerp(image, lerp(at[2], at[3], picture.u), picture.v)
        return ContinuousImage(dataclasses.replace(params, image=image))


def off_for(spec: InrSpec) -> dict[str, str]:
    """Why controls do nothing for a network, by their names."""
    off = {}
    if spec.continuous:
        off["cells"] = "This function is continuous everywhere: it has no cells to refine."
    if not any(block.embedding and block.embedding.table for block in spec.blocks):
        off["tables"] = "This model has no learned tables: its function simply goes on."
    return off


def _size(tree) -> int:
    """Bytes of all arrays in it."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree) if hasattr(leaf, "nbytes"))
