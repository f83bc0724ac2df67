"""What pickles wrap (configurations, NumPy arrays) -> plain values."""

import re
from collections.abc import Callable
from typing import Any

from inr_gan_jax.foreign import tensors
from inr_gan_jax.foreign.opcodes import Inert


class Plain:
    """Turns what pickles wrap (configurations, numpy arrays) into plain values, each once."""

    def __init__(self, spend: Callable[[int], None]):
        """`spend` counts the bytes of arrays, and raises where a file uses its own too often."""
        self._spend = spend
        self._done: dict[int, Any] = {}

    def convert(self, value: Any) -> Any:
        """`value`, in which shared objects stay shared and cycles stay cycles."""
        if not isinstance(value, (dict, list, tuple, Inert)):
            return value
        if id(value) not in self._done:
            self._convert(value)
        return self._done[id(value)]

    def _convert(self, value: Any) -> None:
        done, here = self._done, id(value)
        if isinstance(value, dict):
            done[here] = made = {}
            made.update((key, self.convert(child)) for key, child in value.items())
        elif isinstance(value, list):
            done[here] = made = []
            made.extend(map(self.convert, value))
        elif isinstance(value, tuple):
            done[here] = tuple(map(self.convert, value))
        elif value.name == "numpy.ndarray":
            done[here] = tensors.array(value.state)
            self._spend(done[here].nbytes)
        elif value.name.startswith("omegaconf.") and isinstance(value.state, dict):
            content = value.state.get("_content", value.state.get("_val"))
            done[here] = self.convert(_resolved(value, content))
        else:
            done[here] = value
            value.args, value.state = self.convert(value.args), self.convert(value.state)


def _resolved(node: Inert, content: Any) -> Any:
    """`${a.b}` in a configuration -> what stands at a.b from its root; all else as it is."""
    reference = re.fullmatch(r"\$\{(\w+(?:\.\w+)*)\}", content) if type(content) is str else None
    if reference is None:
        return content
    for _ in range(100):  # a chain of parents that is longer is a circle
        if not isinstance(node.state.get("_parent"), Inert):
            break
        node = node.state["_parent"]
    for key in reference[1].split("."):
        node = node.state["_content"][key]
    return node
