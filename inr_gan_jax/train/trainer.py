"""The compiled phases of a run, and the state that they start from."""

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from inr_gan_jax.config import Config, TrainConfig
from inr_gan_jax.costs.hardware import hardware
from inr_gan_jax.costs.program import Program, cost_of
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.checkpoint import AVERAGE, NETWORKS
from inr_gan_jax.models.networks import Networks, networks_of
from inr_gan_jax.runtime.sharding import make_mesh, over_batch, replicated
from inr_gan_jax.storage.checkpoint import Checkpoints
from inr_gan_jax.train.optim import lazy_adam
from inr_gan_jax.train.recipe import Phase, Recipe, recipe_of
from inr_gan_jax.train.state import (
    TrainState,
    checkpoint_items,
    from_checkpoint_items,
    init_state,
    state_specs,
)
from inr_gan_jax.train.step import Optimizer, Steps


class DoesNotFit(UserError):
    """A phase needs more memory than a device has: bytes `needed`, of which `available` are."""

    def __init__(self, phase: Phase, needed: int, available: int):
        super().__init__(
            f"{phase.name.lower()} needs {needed / 2**30:.2f} GiB of a device's memory, which has "
            f"{available / 2**30:.2f}: more config.train.microbatches, or config.train.remat, "
            "take less"
        )
        self.phase, self.needed, self.available = phase, needed, available


class Trainer:
    """The compiled phases of a configuration on a mesh, and the state they start from."""

    def __init__(
        self,
        config: Config,
        class_counts,
        *,
        dtype: str,
        kernels: str = "xla",
        mesh=None,
        networks: Networks | None = None,
    ):
        """By default on all devices, with the networks of the configuration."""
        self.config, self.mesh = config, mesh or make_mesh(fsdp=config.mesh.fsdp)
        self.networks = networks or networks_of(config.model, config.discriminator)
        self._recipe = recipe_of(config, class_counts, dtype, kernels)
        self._optimizers = optimizers_of(config.train, self._recipe)
        self._shapes = jax.eval_shape(lambda: self._init(0))
        self.specs = state_specs(self._shapes, self.mesh)
        self.shardings = jax.tree.map(lambda s: NamedSharding(self.mesh, s), self.specs)
        self.steps = Steps(self._recipe, self.networks, *self._optimizers, self.mesh, self.specs)
        # What each phase runs as, and what `compile` traced for it (its program, not compiled).
        self.compiled: dict[Phase, Callable] = {}
        self.traced: dict[Phase, jax.stages.Traced] = {}

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

    def restored(
        self, checkpoints: Checkpoints, step: int | None = None, *, average: bool = False
    ) -> tuple[TrainState, dict, int] | None:
        """(state, metadata, step) of the newest intact checkpoint, or of one; None: there is none.

        Of a published file there may be networks alone: optimisers then start fresh. Of an average
        alone training cannot go on: UserError, or, with `average`, a state that has it as both
        generators, and a fresh discriminator.
        """
        everything = checkpoint_items(self.abstract_state())

        def wanted(metadata: dict) -> dict:
            holds, parts = metadata.get("holds"), everything["training"]
            if holds == AVERAGE and not average:
                raise UserError(
                    f"{checkpoints.directory} holds the averaged generator alone: G and D are "
                    "missing, so training cannot go on from it; a new run can start from its "
                    "weights: --config.train.init_from"
                )
            if holds is None:
                return everything
            networks = {name: parts[name] for name in ("g", "d")} if holds == NETWORKS else None
            return {"model": everything["model"]} | ({"training": networks} if networks else {})

        found = checkpoints.restore(wanted, step)
        if found is None:
            return None
        items, metadata, step = found
        holds = metadata.get("holds")
        if holds is None:
            return from_checkpoint_items(items), metadata, step
        known = dict(items["model"]) | items.get("training", {})
        known.setdefault("g", jax.tree.map(jnp.copy, known["g_ema"]))  # buffers are used up once
        state = begun(self.init(self.config.seed).replace(**known))
        images = jax.device_put(jnp.asarray(metadata["images"], jnp.int32), self.shardings.images)
        return state.replace(images=images), metadata, step

    def with_ada_p(self, state: TrainState, p: float) -> TrainState:
        """The state whose images are augmented with probability p from now on."""
        sharding = self.shardings.ada_p
        zero = jax.device_put(jnp.zeros(()), self.shardings.ada_signs)
        return state.replace(ada_p=jax.device_put(jnp.asarray(p, float), sharding), ada_signs=zero)

    def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes, types and sharding of a batch of real images and their labels."""
        size, model = self.config.train.batch_size, self.config.model
        shapes = {
            "image": ((size, model.height, model.width, model.channels), jnp.uint8),
            "label": ((size,), jnp.int32),
        }
        if self._recipe.patches:
            shapes["window"] = ((size, 3), jnp.int32)
        sharding = over_batch(self.mesh)
        return {k: jax.ShapeDtypeStruct(*v, sharding=sharding) for k, v in shapes.items()}

    def _init(self, seed: int) -> TrainState:
        optimizers = (make(jnp.zeros((), jnp.int32)) for make in self._optimizers)
        p, averages = self.config.augment.p, self._recipe.powers
        lecam = bool(self._recipe.lecam)
        return init_state(self.networks, *optimizers, seed, p, averages, lecam)

    def compile(self, phases: Iterable[Phase] | None = None) -> None:
        """Compiles phases (all by default), for `iterate` to use; all processes make this call.

        Side by side, as compilers leave Python's lock alone (a CPU's uses two cores for one phase).
        Raises DoesNotFit where the compiler knows how much memory there is (it does for TPUs).
        """
        with ThreadPoolExecutor() as pool:
            running = {}
            for phase in self.steps.due(0) if phases is None else phases:
                self.traced[phase] = self._jitted(phase).trace(
                    self.abstract_state(), self.abstract_batch()
                )
                running[phase] = pool.submit(self.traced[phase].lower().compile)
            for phase, compiled in running.items():
                try:
                    self.compiled[phase] = compiled.result()
                except jax.errors.JaxRuntimeError as error:
                    raise _explained(error, phase) from error

    def iterate(self, state: TrainState, batch: dict, iteration: int) -> tuple[TrainState, list]:
        """One iteration: (state, metrics of each phase). The given state's buffers are used up."""
        metrics = []
        for phase in self.steps.due(iteration):
            if phase not in self.compiled:
                self.compiled[phase] = self._jitted(phase)
            state, values = self.compiled[phase](state, batch)
            metrics.append(values)
        return state, metrics

    def program(self, refused: dict[str, int] | None = None) -> Program:
        """What the phases that `compile` compiled cost (see costs.program).

        `refused`: bytes that phases need for which there was no room. Raises ValueError for the
        text of a compiler that is newer than its reader.
        """
        mesh, recipe = self.mesh, self.steps.recipe
        costs = {
            phase.name.lower(): cost_of(
                self.compiled[phase], self.traced[phase], recipe.runs(phase)
            )
            for phase in sorted(self.compiled)
        }
        one = mesh.local_devices[0] if mesh.local_devices else mesh.devices.flat[0]
        return Program(
            costs, refused or {}, mesh.size, recipe.batch_size // mesh.size, hardware(one)
        )

    def _jitted(self, phase: Phase):
        return jax.jit(
            self.steps.function(phase),
            donate_argnums=0,
            in_shardings=(self.shardings, over_batch(self.mesh)),
            out_shardings=(self.shardings, replicated(self.mesh)),
        )


def optimizers_of(train: TrainConfig, recipe: Recipe) -> tuple[Optimizer, Optimizer]:
    """Those of G and D, for any number of images seen."""

    def made(rate: float, interval: int, shared: float = 0.0) -> Optimizer:
        def optimizer(images):
            scale = recipe.lr(images)
            return lazy_adam(
                rate * scale,
                b1=train.beta1,
                b2=recipe.beta2(images),
                eps=train.eps,
                interval=interval,
                shared_learning_rate=shared * scale if shared else None,
            )

        return optimizer

    return made(train.g_lr, train.g_interval, train.shared_lr), made(train.d_lr, train.r1_interval)


def begun(state: TrainState) -> TrainState:
    """A state whose parameters were not its own from the start: so do its averages begin."""
    averages = {key: jax.tree.map(jnp.copy, state.g) for key in state.averages}
    return state.replace(averages=averages)


def _explained(error: Exception, phase: Phase) -> Exception:
    """DoesNotFit for a compiler that ran out of a device's memory; any other error as it is."""
    numbers = r"([\d.]+)([BKMGT])"
    for pattern in (
        rf"Used {numbers} of {numbers} hbm",
        rf"\({numbers}\) exceeds available HBM \({numbers}\)",
    ):
        if found := re.search(pattern, str(error)):
            size, unit, limit, limit_unit = found.groups()
            return DoesNotFit(phase, _bytes(size, unit), _bytes(limit, limit_unit))
    return error


def _bytes(number: str, unit: str) -> int:
    return round(float(number) * 2 ** (10 * "BKMGT".index(unit)))
