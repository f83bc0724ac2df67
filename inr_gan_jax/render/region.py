"""Evaluates the part of a coordinate network that a planned render needs, and no more."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from inr_gan_jax.models import inr, nodes
from inr_gan_jax.models.parameters import Block, InrParams
from inr_gan_jax.models.places import Place
from inr_gan_jax.render.plan import Axis, AxisLevel


def _read(x: jax.Array, axis: int, low, high, weight) -> jax.Array:
    """Interpolates linearly along an axis between the entries `low` and `high`."""
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    a, b = jnp.take(x, low, axis), jnp.take(x, high, axis)
    return a + weight.reshape(shape) * (b - a)


def _read_spline(x: jax.Array, axis: int, low, high, weight) -> jax.Array:
    """Likewise, smoothly, with the entry between them."""
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    three = (jnp.take(x, at, axis) for at in (low, low + 1, high))
    return nodes.smooth(*three, weight.reshape(shape))


# How a level is read by the one above; of `nearest` each position has one alone.
READS = {
    "nearest": lambda x, axis, low, high, weight: jnp.take(x, low, axis),
    "bilinear": _read,
    "continuous": _read,
    "spline": _read_spline,
}


def _place(block: Block, rows: AxisLevel, columns: AxisLevel, below, upsampling: str) -> Place:
    r, c = len(rows.coordinate), len(columns.coordinate)

    def table(table_chw):
        t = _read(table_chw, 1, rows.low, rows.high, rows.weight)
        return _read(t, 2, columns.low, columns.high, columns.weight).reshape(-1, r * c)

    def upsample(x_cn):
        x, read = x_cn.reshape(-1, *below), READS[upsampling]
        x = read(x, 1, rows.parent_low, rows.parent_high, rows.parent_weight)
        x = read(x, 2, columns.parent_low, columns.parent_high, columns.parent_weight)
        return x.reshape(-1, r * c)

    return Place.of_sides(columns.coordinate, rows.coordinate, table, upsample)


@functools.partial(jax.jit, static_argnames="dtype")
def render_region(
    params: InrParams, rows: Axis, columns: Axis, deviations: dict | None, dtype="float32"
) -> jax.Array:
    """Pixels `[len(rows.pixels), len(columns.pixels), C]` of one image, rows from the top.

    `deviations` are `native_deviations(params)` for networks with instance norm, else None.
    """
    spec = params.spec
    level_of = {size: level for level, size in enumerate(spec.levels)}

    def place_of(block):
        level = level_of[block.size]
        below = ()
        if level:
            below = tuple(len(axis.levels[level - 1].coordinate) for axis in (rows, columns))
        place = _place(block, rows.levels[level], columns.levels[level], below, spec.upsampling)
        if not spec.has_nodes or block.size != spec.size:
            return place
        footprint = jnp.stack([columns.footprint, rows.footprint])
        return dataclasses.replace(place, footprint=footprint)

    outputs = inr.evaluate(params, place_of, jnp.dtype(dtype), deviations)
    rgb = inr.final_rgb(params, outputs)
    rgb = rgb.reshape(len(rgb), len(rows.levels[-1].coordinate), -1)
    return jnp.take(jnp.take(rgb, rows.pixels, 1), columns.pixels, 2).transpose(1, 2, 0)


@jax.jit
def native_deviations(params: InrParams) -> dict | None:
    """Instance norm's statistics on the training grid: {block: {layer: [C]}}, or None."""
    outputs = inr.grid_blocks(params)
    found = {
        block.name: out.deviations
        for block, out in zip(params.spec.blocks, outputs, strict=True)
        if out.deviations
    }
    return found or None
