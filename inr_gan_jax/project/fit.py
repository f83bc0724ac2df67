"""The search for the styles whose image is nearest to a target.

Adam moves an offset from the mean style, in units of the styles' standard deviation, so that a
learning rate means the same for every model. Space `w` has one offset for all layers: the images
that the generator itself makes. Space `w+` has one for each layer (Abdal et al. 2019, arXiv
1904.03189): nearer to a given photo, further from what the generator knows.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from inr_gan_jax.models.networks import Networks
from inr_gan_jax.project import compare
from inr_gan_jax.project.compare import Goal

SPACES = ("w", "w+")
SAMPLES = 256  # styles whose mean and deviation are taken
LOOKS = 16  # of them are looked at where a class is searched
STEPS_PER_CALL = 25
FRAMES = 60  # that are kept of the way, at most
WARM_UP = 0.05  # of the steps: the learning rate rises, then falls along a cosine
ROUGH = 0.25  # of the steps: coarse scales fade out
# It must forget how large gradients were at coarse scales.
ADAM = optax.scale_by_adam(b2=0.95)


@dataclass(frozen=True)
class Settings:
    """How to search. `learning_rate` is in standard deviations of the styles per step."""

    space: str = "w+"
    steps: int = 500
    seed: int = 0
    learning_rate: float = 0.1

    def __post_init__(self):
        if self.space not in SPACES:
            raise ValueError(f"space must be w or w+, not {self.space!r}")
        if self.steps < 1:
            raise ValueError(f"steps = {self.steps} must be 1 or more")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate = {self.learning_rate} must be above 0")


class Projection:
    """A search: call `advance` until `done`, then take `styles`.

    `step` steps are done; `loss` and `error` are those of the last one: what is minimised, and the
    mean squared difference at the finest scale, of a sample where that is large.
    """

    def __init__(
        self,
        model,
        goal: Goal,
        settings: Settings = Settings(),
        *,
        class_index: int | None = None,
        perceptual: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    ):
        """`model`: a Model; of `class_index` if it is class-conditional.

        `perceptual(images_bhwc, targets_bhwc)` gives distances `[b]` that are added to the loss of
        a whole photo; as a jax.tree_util.Partial it keeps its weights out of the program. Raises
        ValueError if there is no photo.
        """
        if perceptual is not None and goal.grid is None:
            raise ValueError("a perceptual distance is one of photos: scattered pixels are none")
        self.settings, self._model, self._goal = settings, model, goal
        if perceptual is not None and not isinstance(perceptual, Partial):
            perceptual = Partial(perceptual)
        self._perceptual = perceptual
        samples_nw = _samples(model, class_index)
        self._mean, self._deviation = samples_nw.mean(0), samples_nw.std(0)
        layers = model.num_styles if settings.space == "w+" else 1
        self._offset = jnp.zeros((layers, len(self._mean)))
        self._adam = ADAM.init(self._offset)
        self.step, self._way = 0, [np.array(self._offset)]
        self.loss = self.error = math.nan

    @property
    def done(self) -> bool:
        """Whether all steps are."""
        return self.step >= self.settings.steps

    @property
    def styles(self) -> np.ndarray:
        """What was found so far, `[L, w_dim]`."""
        return self._styles(self._offset)

    @property
    def way(self) -> np.ndarray:
        """Styles from the mean to what was found so far, evenly in steps: `[n, L, w_dim]`."""
        return np.stack([self._styles(offset) for offset in self._way])

    def advance(self) -> int:
        """Takes some steps; returns how many. The rest does not depend on how they are grouped."""
        steps = self.settings.steps
        together = min(STEPS_PER_CALL, -(-steps // FRAMES))
        count = min(together, steps - self.step)
        self._offset, self._adam, (loss, error) = _advance(
            self._offset, self._adam, self._model.arrays, self._goal, self._perceptual,
            (self._mean, self._deviation), np.uint32(self.settings.seed),
            self.settings.learning_rate, steps, (self.step, self.step + count),
            networks=self._model.networks,
        )  # fmt: skip
        self.step += count
        self.loss, self.error = float(loss), float(error)
        every = together * -(-steps // (together * FRAMES))
        if self.step % every == 0 or self.done:
            self._way.append(np.array(self._offset))  # a copy: the array is given away
        return count

    def state(self) -> dict[str, np.ndarray]:
        """All that `restore` needs to go on, bit for bit."""
        leaves = jax.tree.leaves((self._offset, self._adam))
        arrays = {f"array{k}": np.array(leaf) for k, leaf in enumerate(leaves)}
        return arrays | {"way": np.stack(self._way), "step": np.asarray(self.step)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on where the same search was; KeyError or ValueError for another one's state."""
        tree = (self._offset, self._adam)
        leaves = [
            jnp.asarray(state[f"array{k}"], leaf.dtype).reshape(leaf.shape)
            for k, leaf in enumerate(jax.tree.leaves(tree))
        ]
        self._offset, self._adam = jax.tree.unflatten(jax.tree.structure(tree), leaves)
        self._way, self.step = list(state["way"]), int(state["step"])

    def _styles(self, offset_lw: np.ndarray | jax.Array) -> np.ndarray:
        ws = np.asarray(_styles_of(jnp.asarray(offset_lw), self._mean, self._deviation))
        return np.broadcast_to(ws, (self._model.num_styles, ws.shape[1]))


def _styles_of(offset_lw, mean_w, deviation_w):
    return mean_w + deviation_w * offset_lw


def _loss(networks: Networks, ws_lw, arrays, goal: Goal, perceptual, rough, key):
    """(loss, (loss, error at the finest scale)) of one image's styles, `[L or 1, w_dim]`."""
    ws_blw = jnp.broadcast_to(ws_lw, (1, networks.num_styles, ws_lw.shape[-1]))
    params = networks.generator(*arrays).inr_params(ws_blw)[0]
    loss, finest, shown = compare.differences(params, goal, key, rough)
    if perceptual is not None:
        loss += perceptual(shown[None], goal.grid.pixels[None])[0]
    return loss, (loss, finest)


@functools.partial(jax.jit, static_argnames="networks", donate_argnames=("offset", "adam"))
def _advance(
    offset, adam, arrays, goal, perceptual, statistics, seed, rate, steps, span, *, networks
):
    """Takes a span of `steps` steps: (offset, state of Adam, (loss, error) of the last one)."""

    def step(number, carry):
        offset, adam, _ = carry
        key = jax.random.fold_in(jax.random.key(seed), number)
        rough = jnp.maximum(0, 1 - number / (ROUGH * steps))

        def loss(offset):
            ws = _styles_of(offset, *statistics)
            return _loss(networks, ws, arrays, goal, perceptual, rough, key)

        gradient, values = jax.grad(loss, has_aux=True)(offset)
        direction, adam = ADAM.update(gradient, adam)
        rise, fall = (number + 1) / (WARM_UP * steps), 0.5 + 0.5 * jnp.cos(jnp.pi * number / steps)
        return offset - rate * jnp.minimum(rise, 1) * fall * direction, adam, values

    nothing = jnp.zeros(()), jnp.zeros(())
    return jax.lax.fori_loop(*span, step, (offset, adam, nothing))


def _samples(model, class_index: int | None) -> jax.Array:
    """Styles `[SAMPLES, w_dim]`, of one class if the model has classes."""
    return model.styles(seeds=range(SAMPLES), classes=class_index)[:, 0]


def nearest_class(model, goal: Goal, seed: int = 0) -> int:
    """The class that has, among LOOKS images of each, the one nearest to the goal.

    The mean styles alone would tell less: of 30 handwritten digits they name 26 rightly, this 29.
    """
    losses = [
        _nearest(
            _samples(model, k)[:LOOKS], model.arrays, goal, np.uint32(seed), networks=model.networks
        )
        for k in range(model.num_classes)
    ]
    return int(np.argmin(losses))


@functools.partial(jax.jit, static_argnames="networks")
def _nearest(samples_nw, arrays, goal, seed, *, networks):
    def loss(w):
        return _loss(networks, w[None], arrays, goal, None, 1.0, jax.random.key(seed))[0]

    return jax.lax.map(loss, samples_nw).min()
