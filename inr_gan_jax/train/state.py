"""The train state: everything that a run is, apart from its configuration."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from inr_gan_jax.models.networks import Networks
from inr_gan_jax.runtime.sharding import cut
from inr_gan_jax.storage.averages import PART


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All arrays of a run; a checkpoint holds exactly this.

    Parameters are nested dicts. `w_avg` is the running mean of w `[w_dim]`, or of each class's
    `[C, w_dim]`, `path_mean` that of path lengths, `ada_p` the augmentation probability,
    `ada_signs` the sum since it last moved of each iteration's mean sign of D on real images;
    `iteration` and `images` are int32 counts. `averages` of `g`, by name, are there if the recipe
    has any beside `g_ema`; `logit_means` are running means of D's, where the recipe uses them.
    """

    g: dict
    g_ema: dict
    d: dict
    g_buffers: dict
    g_optimizer: optax.OptState
    d_optimizer: optax.OptState
    w_avg: jax.Array
    path_mean: jax.Array
    ada_p: jax.Array
    ada_signs: jax.Array
    iteration: jax.Array
    images: jax.Array
    averages: dict = dataclasses.field(default_factory=dict)
    logit_means: dict = dataclasses.field(default_factory=dict)

    def replace(self, **changes) -> "TrainState":
        """The same state with other arrays in the named fields."""
        return dataclasses.replace(self, **changes)


def init_state(
    networks: Networks,
    g_optimizer: optax.GradientTransformation,
    d_optimizer: optax.GradientTransformation,
    seed: int,
    ada_p: float = 0.0,
    averages: Iterable[str] = (),
    logit_means: bool = False,
) -> TrainState:
    """A fresh state; call it under jit (or eval_shape), where it is quick and can be sharded."""
    key = jax.random.key(seed)
    g, g_buffers = networks.init_generator(jax.random.fold_in(key, 0))
    d = networks.init_discriminator(jax.random.fold_in(key, 1))
    # A constant's dtype is weak, a step's result is not: every phase would be compiled twice.
    g, g_buffers, d = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), (g, g_buffers, d))
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        g=g,
        g_ema=jax.tree.map(jnp.copy, g),
        d=d,
        g_buffers=g_buffers,
        g_optimizer=g_optimizer.init(g),
        d_optimizer=d_optimizer.init(d),
        w_avg=jnp.zeros(networks.generator_config.w_avg_shape),
        path_mean=jnp.zeros(()),
        ada_p=jnp.asarray(ada_p, float),
        ada_signs=jnp.zeros(()),
        iteration=zero,
        images=zero,
        averages={name: jax.tree.map(jnp.copy, g) for name in averages},
        logit_means={kind: jnp.zeros(()) for kind in ("fake", "real") if logit_means},
    )


def state_specs(shapes: TrainState, mesh: Mesh) -> TrainState:
    """How each array of a state lies on the mesh: what a network learns is cut along `fsdp`."""
    learned = ("g", "g_ema", "averages", "d", "g_optimizer", "d_optimizer")
    fields = {f.name: getattr(shapes, f.name) for f in dataclasses.fields(shapes)}
    return TrainState(
        **{
            name: cut(tree, mesh) if name in learned else jax.tree.map(lambda _: P(), tree)
            for name, tree in fields.items()
        }
    )


def checkpoint_items(state: TrainState) -> dict[str, dict]:
    """A state as a checkpoint's parts: what makes images, what only training needs, averages."""
    fields = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    model = {name: fields.pop(name) for name in ("g_ema", "g_buffers", "w_avg")}
    averages = fields.pop("averages")
    if not fields["logit_means"]:  # as if there had never been any
        del fields["logit_means"]
    parts = {"model": model, "training": fields}
    return parts | ({PART: averages} if averages else {})


def from_checkpoint_items(items: dict[str, dict]) -> TrainState:
    """The inverse of `checkpoint_items`."""
    return TrainState(**items["model"], **items["training"], averages=items.get(PART, {}))
