"""Floating-point operations of a traced program: its products and convolutions, nothing else.

Counted from what was traced, so that the number is the program's own and the same on every device:
two per multiplication with its addition; where a convolution's window stands on padding or between
dilated values, nothing. A loop's body counts as often as it runs.
"""

import collections
import functools
import math

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr


def count(jaxpr: Jaxpr | ClosedJaxpr) -> collections.Counter:
    """Operations by the type of the factors: {"bfloat16": ..., "float32": ...}.

    Of the branches of a conditional the most expensive counts; within shard_map one device's part.
    Raises ValueError for a product in a loop whose length is not known before it runs.
    """
    total = collections.Counter()
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name = eqn.primitive.name
        if name in ("dot_general", "conv_general_dilated"):
            types = [variable.aval.dtype for variable in eqn.invars[:2]]
            product = _dot if name == "dot_general" else _convolution
            total[np.result_type(*types).name] += product(eqn)
            continue
        if meaning := getattr(eqn.primitive, "meaning", None):  # ours (models.convolution)
            shapes = [variable.aval for variable in eqn.invars]
            meant = jax.make_jaxpr(functools.partial(meaning, **eqn.params))(*shapes)
            total.update(count(meant))
            continue
        parts = [count(part) for part in _jaxprs(eqn.params)]
        if name == "while" and any(part.total() for part in parts):
            raise ValueError("a loop of unknown length holds a product: its work is not known")
        if name == "cond":
            parts = [max(parts, key=collections.Counter.total)]
        times = eqn.params["length"] if name == "scan" else 1
        if name == "pallas_call":  # what is done in some steps only counts in all: little
            times = math.prod(eqn.params["grid_mapping"].grid)
        for part in parts:
            total.update({kind: times * flops for kind, flops in part.items()})
    return total


def _jaxprs(params: dict):
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else [value]:
            if isinstance(part, Jaxpr | ClosedJaxpr):
                yield part


def _dot(eqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    return 2 * eqn.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)


def _convolution(eqn) -> int:
    (left, right), (out,), p = eqn.invars, eqn.outvars, eqn.params
    numbers = p["dimension_numbers"]
    taps = math.prod(
        _taps(left.aval.shape[i], right.aval.shape[k], out.aval.shape[o], *window)
        for i, k, o, *window in zip(
            numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:],
            p["window_strides"], p["padding"], p["lhs_dilation"], p["rhs_dilation"], strict=True,
        )
    )  # fmt: skip
    batch, features = (out.aval.shape[axis] for axis in numbers.out_spec[:2])
    return 2 * batch * features * right.aval.shape[numbers.rhs_spec[1]] * taps


def _taps(size, window, places, stride, padding, dilation, window_dilation) -> int:
    """(output place, window element) pairs along one axis that meet a value of the input."""
    at = np.arange(places)[:, None] * stride + np.arange(window) * window_dilation - padding[0]
    return int(np.sum((at % dilation == 0) & (at >= 0) & (at <= (size - 1) * dilation)))
