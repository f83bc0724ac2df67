"""The compiled phases of a run, and the state that they start from."""

import jax
from jax.sharding import NamedSharding

from inr_gan_jax.config import Config
from inr_gan_jax.models.networks import networks_of
from inr_gan_jax.sharding import make_mesh, over_batch, replicated
from inr_gan_jax.train.optim import lazy_adam
from inr_gan_jax.train.recipe import recipe_of
from inr_gan_jax.train.state import TrainState, init_state, state_specs
from inr_gan_jax.train.step import Steps


class Trainer:
    """The compiled phases of a configuration on a mesh, and the state they start from."""

    def __init__(self, config: Config, class_counts, *, dtype: str, mesh=None):
        train = config.train
        self.config, self.mesh = config, mesh or make_mesh(fsdp=config.mesh.fsdp)
        self.networks = networks_of(config.model, config.discriminator)
        adam = {"b1": train.beta1, "b2": train.beta2, "eps": train.eps}
        self.g_optimizer = lazy_adam(
            train.g_lr, interval=train.g_interval, shared_learning_rate=train.shared_lr, **adam
        )
        self.d_optimizer = lazy_adam(train.d_lr, interval=train.r1_interval, **adam)
        recipe = recipe_of(config, class_counts, dtype)
        self._shapes = jax.eval_shape(lambda: self._init(0))
        self.specs = state_specs(self._shapes, self.mesh)
        self.shardings = jax.tree.map(lambda s: NamedSharding(self.mesh, s), self.specs)
        self.steps = Steps(
            recipe, self.networks, self.g_optimizer, self.d_optimizer, self.mesh, self.specs
        )
        self.compiled = {}

    def init(self, seed: int) -> TrainState:
        """A fresh state, made on the devices."""
        return jax.jit(self._init, static_argnums=0, out_shardings=self.shardings)(seed)

    def abstract_state(self) -> TrainState:
        """Shapes, types and shardings of the state, no arrays."""
        return jax.tree.map(
            lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding),
            self._shapes,
            self.shardings,
        )

    def _init(self, seed: int) -> TrainState:
        return init_state(
            self.networks, self.g_optimizer, self.d_optimizer, seed, self.config.augment.p
        )

    def iterate(self, state: TrainState, batch: dict, iteration: int) -> tuple[TrainState, list]:
        """One iteration: (state, metrics of each phase). The given state's buffers are used up."""
        metrics = []
        for phase in self.steps.due(iteration):
            if phase not in self.compiled:
                self.compiled[phase] = jax.jit(
                    self.steps.function(phase),
                    donate_argnums=0,
                    in_shardings=(self.shardings, over_batch(self.mesh)),
                    out_shardings=(self.shardings, replicated(self.mesh)),
                )
            state, values = self.compiled[phase](state, batch)
            metrics.append(values)
        return state, metrics
