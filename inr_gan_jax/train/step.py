"""The phases of a training iteration: pure functions (state, batch) -> (state, metrics).

One iteration runs, in this order, G main, G path length (lazy), D main, D R1 (lazy), and `finish`
(averages and counts): the released recipe. Each phase draws its own latents and takes its own Adam
step. What a recipe may have in its place (pairs, R2, differences, schedules) is chosen here, once,
while a phase is traced.

A phase runs on each device for its own images (shard_map); devices exchange the mean gradients, a
few means of numbers, and nothing else.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from inr_gan_jax.config.augmentations import PSEUDO
from inr_gan_jax.kernels import grid as kernels
from inr_gan_jax.models import inr
from inr_gan_jax.models.mapping import broadcast_styles, class_sums, mix_styles, update_w_avg
from inr_gan_jax.models.networks import Networks
from inr_gan_jax.runtime.sharding import AXES, mean_over_devices, whole
from inr_gan_jax.train import losses
from inr_gan_jax.train.accumulate import gradients, split
from inr_gan_jax.train.augment import update_p
from inr_gan_jax.train.inputs import NOISE, Inputs, to_floats
from inr_gan_jax.train.judge import Judge
from inr_gan_jax.train.optim import ema_decay, power_decay, replace_nonfinite, slow_tables
from inr_gan_jax.train.recipe import Phase, Recipe
from inr_gan_jax.train.state import TrainState

# Number of images seen -> a transformation; its state is of one structure whatever the number.
Optimizer = Callable[[jax.Array], optax.GradientTransformation]


class Steps:
    """The phases of one recipe on a mesh; `specs` say how the train state is cut over it."""

    def __init__(
        self,
        recipe: Recipe,
        networks: Networks,
        g_optimizer: Optimizer,
        d_optimizer: Optimizer,
        mesh: Mesh,
        specs: TrainState,
    ):
        self.recipe, self.networks, self.mesh, self.specs = recipe, networks, mesh, specs
        self.g_optimizer, self.d_optimizer = g_optimizer, d_optimizer
        here = mesh.devices.flat[0].platform
        self.inputs = Inputs(recipe, networks, mesh)
        self.judge = Judge(recipe, networks, folded=here == "tpu")
        self.dtype = jnp.dtype(recipe.dtype)
        self.grid = inr.grid
        if recipe.kernels == "pallas":
            self.grid = functools.partial(kernels.grid, interpret=here != "tpu")

    def due(self, iteration: int) -> list[Phase]:
        """The phases of an iteration, in order."""
        r = self.recipe
        path = r.path_weight > 0 and iteration % r.path_interval == 0
        r1 = bool(r.gammas) and r.r1_interval > 0 and iteration % r.r1_interval == 0
        phases = [Phase.G_MAIN, *[Phase.G_PATH] * path, Phase.D_MAIN, *[Phase.D_R1] * r1]
        return [*phases, Phase.FINISH]

    def function(self, phase: Phase) -> Callable:
        """A phase as a pure function of global arrays: (state, batch) -> (state, metrics)."""
        of_device = {
            Phase.G_MAIN: self.g_main,
            Phase.G_PATH: self.g_path,
            Phase.D_MAIN: self.d_main,
            Phase.D_R1: self.d_r1,
            Phase.FINISH: self.finish,
        }[phase]
        return jax.shard_map(
            of_device,
            mesh=self.mesh,
            in_specs=(self.specs, PartitionSpec(AXES)),
            out_specs=(self.specs, PartitionSpec()),
            check_vma=False,
        )

    # Phases, on each device: its part of the state, its rows of the batch.

    def g_main(self, state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        """Mean softplus(-D(G(z))), with style mixing; of pairs, D(x) is taken off."""
        r, relativistic = self.recipe, self.recipe.loss == "relativistic"
        if relativistic:  # the batch is new to D, which learns from it after this
            inputs = self.inputs.pairs(state, Phase.G_MAIN, batch)
        else:
            inputs = self.inputs.latents(state, Phase.G_MAIN, self.recipe.batch_size, batch)
        g, d = self._networks(state, "g", "d")

        def loss(g, inputs):
            images, w = self._generate(g, state, inputs)
            logits = self.judge.logits(d, {"fake": images}, inputs, state.ada_p)
            aux = {"w": class_sums(w, inputs["classes"]), "logits/g_fake": jnp.mean(logits)}
            if relativistic:
                real = {"real": to_floats(inputs["real"])}
                logits -= self.judge.logits(d, real, inputs, state.ada_p)
            value = aux["loss/g"] = losses.generator_loss(logits)
            if r.align_weight:
                aux["align"] = losses.alignment(images)
                value = value + r.align_weight * aux["align"]
            if r.consistency:
                aux["consistency"] = self._inconsistency(g, state, inputs, images[-1])
                value = value + r.consistency * aux["consistency"]
            return value, aux

        _, aux, grads = gradients(loss, g, inputs)
        state, bad = self._update_g(state, grads, aux.pop("w"))
        return state, aux | {"nonfinite/g": bad}

    def g_path(self, state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        """Path-length regularisation on half a batch (Karras et al. 2020, section 3.2)."""
        r, config = self.recipe, self.networks.generator_config
        size = r.batch_size // 2
        inputs = self.inputs.latents(state, Phase.G_PATH, size, batch)
        shape = (config.height, config.width, config.channels)
        noise = self.inputs.normal(self.inputs.key(state, Phase.G_PATH, NOISE), size, shape)
        noise = noise / (config.height * config.width) ** 0.5
        inputs["cotangent"] = split(noise, r.microbatches)
        (g,) = self._networks(state, "g")

        def lengths_of(g, inputs):
            generator = self.networks.generator(g, state.g_buffers)
            ws, w = self._styles(generator, inputs)

            def synthesize(ws):
                return self._images(generator, ws, inputs, inr.grid)  # kernels have no jvp

            return losses.path_lengths(synthesize, ws, inputs["cotangent"]), w

        def loss(g, inputs):
            lengths, w = lengths_of(g, inputs)
            batch_mean = mean_of(lengths) if known is None else known
            # The running mean moves first, and is a constant for the gradient.
            mean = jax.lax.stop_gradient(losses.path_mean(state.path_mean, batch_mean))
            penalty = jnp.mean(losses.path_penalties(lengths, mean))
            aux = {"lengths": jnp.mean(lengths), "penalty": penalty}
            aux["w"] = class_sums(w, inputs["classes"])
            return penalty * r.path_weight * r.path_interval, aux

        def mean_of(lengths):  # over the whole batch
            return jax.lax.pmean(jax.lax.stop_gradient(jnp.mean(lengths)), AXES)

        known = None
        if r.microbatches > 1:  # the penalty needs the whole batch's mean before its gradients
            known = mean_of(jax.lax.map(lambda i: lengths_of(g, i)[0], inputs))
        _, aux, grads = gradients(loss, g, inputs)
        state, bad = self._update_g(state, grads, aux["w"])
        mean = losses.path_mean(state.path_mean, aux["lengths"])
        metrics = {"path/length": aux["lengths"], "path/penalty": aux["penalty"]}
        return state.replace(path_mean=mean), metrics | {"nonfinite/g_path": bad}

    def d_main(self, state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        """Logistic loss of D; with `r1_interval = 0` penalties are a part of it at every step."""
        inputs = self.inputs.pairs(state, Phase.D_MAIN, batch)
        inputs |= self.judge.nudges(self.inputs, state, Phase.D_MAIN)
        g, d = self._networks(state, "g", "d")
        r, san = self.recipe, self.networks.discriminator_config.san
        penalised = bool(r.gammas) and not r.r1_interval

        def loss(d, inputs):
            fake, w = self._generate(g, state, inputs)
            real = to_floats(inputs["real"])
            if r.pipeline == PSEUDO:
                real, inputs = self.judge.pseudo(real, fake, inputs, state.ada_p)
            both = {"fake": fake, "real": real}
            logits = self.judge.logits(d, both, inputs, state.ada_p, along=san)
            logits, along = logits if san else (logits, None)
            fake_logits, real_logits = jnp.split(logits, 2)
            relativistic = r.loss == "relativistic"
            loss_of = losses.relativistic_loss if relativistic else losses.discriminator_loss
            value = loss_of(real_logits, fake_logits)
            aux = {
                "w": class_sums(w, inputs["classes"]),
                "loss/d": value,
                "logits/fake": jnp.mean(fake_logits),
                "logits/real": jnp.mean(real_logits),
                "logits/real_sign": jnp.mean(jnp.sign(real_logits)),
            }
            if san:  # what the direction alone learns
                value = value + jnp.mean(along[: len(fake_logits)] - along[len(fake_logits) :])
            if r.lecam:
                aux["lecam"] = losses.lecam(real_logits, fake_logits, state.logit_means)
                value = value + r.lecam * aux["lecam"]
            if penalised:
                penalty, told = self.judge.penalty(d, both, inputs, state)
                value, aux = value + penalty, aux | told
            return value, aux

        _, aux, grads = gradients(loss, d, inputs)
        w_avg = update_w_avg(state.w_avg, *aux.pop("w"))
        signs = state.ada_signs + aux["logits/real_sign"]
        if r.lecam:
            moved = {
                kind: losses.moved_mean(mean, aux[f"logits/{kind}"])
                for kind, mean in state.logit_means.items()
            }
            state = state.replace(logit_means=moved)
        state, bad = self._update_d(state.replace(w_avg=w_avg, ada_signs=signs), grads)
        return state, aux | {"nonfinite/d": bad}

    def d_r1(self, state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        """Lazy penalties: on the same real images, and others that G makes; times the interval."""
        r = self.recipe
        (d,) = self._networks(state, "d")
        inputs = self.inputs.real(state, Phase.D_R1, batch)
        if "fake" in r.gammas:
            (g,) = self._networks(state, "g")
            inputs = self.inputs.pairs(state, Phase.D_R1, batch)
        inputs |= self.judge.nudges(self.inputs, state, Phase.D_R1)

        def loss(d, inputs):
            images = {"real": to_floats(inputs["real"])}
            if "fake" in r.gammas:
                images = {"fake": self._generate(g, state, inputs)[0]} | images
            return self.judge.penalty(d, images, inputs, state, times=r.r1_interval)

        _, told, grads = gradients(loss, d, inputs)
        state, bad = self._update_d(state, grads)
        return state, told | {"nonfinite/d_r1": bad}

    def finish(self, state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        """Averages the generator's parameters, counts, and adapts the augmentation's probability.

        w_avg is copied, not averaged.
        """
        r = self.recipe
        beta = ema_decay(r.batch_size, state.images, r.ema_kimg(state.images), r.ema_rampup)

        def mixed(average, beta):
            return jax.tree.map(lambda new, old: new + (old - new) * beta, state.g, average)

        seen = state.images.astype(float)
        averages = {
            key: mixed(state.averages[key], power_decay(r.batch_size, seen, exponent))
            for key, exponent in r.powers.items()
        }
        state = state.replace(
            g_ema=mixed(state.g_ema, beta),
            averages=averages,
            iteration=state.iteration + 1,
            images=state.images + r.batch_size,
        )
        if not r.pipeline:
            return state.replace(ada_signs=jnp.zeros(())), {}
        due = state.iteration % r.ada_interval == 0
        if r.ada_kimg:  # Karras et al. 2020b, section 3.1: p follows the overfitting of D
            seen = r.batch_size * r.ada_interval
            mean = state.ada_signs / r.ada_interval
            moved = update_p(state.ada_p, mean, images=seen, target=r.ada_target, kimg=r.ada_kimg)
            state = state.replace(ada_p=jnp.where(due, moved, state.ada_p))
        elif not r.p.constant:
            state = state.replace(ada_p=r.p(state.images))
        state = state.replace(ada_signs=jnp.where(due, 0.0, state.ada_signs))
        return state, {"augment/p": state.ada_p}

    # Parts of phases.

    def _networks(self, state: TrainState, *names: str) -> list[dict]:
        """Whole parameters."""
        return [whole(getattr(state, name), getattr(self.specs, name)) for name in names]

    def _styles(self, generator, inputs: dict) -> tuple[jax.Array, jax.Array]:
        w = generator.mapping(inputs["z"], inputs["classes"])
        ws = broadcast_styles(w, generator.num_styles)
        if "mix_z" in inputs:
            other = generator.mapping(inputs["mix_z"], inputs["classes"])
            other = broadcast_styles(other, generator.num_styles)
            ws = mix_styles(ws, other, inputs["mix_from"][0])
        return ws, w

    def _generate(self, g: dict, state: TrainState, inputs: dict) -> tuple[list, jax.Array]:
        """(all images that D sees, coarse to fine; w)."""
        generator = self.networks.generator(g, state.g_buffers)
        ws, w = self._styles(generator, inputs)
        seen = len(self.networks.discriminator_config.levels) + 1
        if seen == 1 and not self.recipe.jitter:
            return [self._images(generator, ws, inputs, self.grid)], w
        keys, remat = inputs["jitter_keys"], self.recipe.remat
        return generator.levels(ws, dtype=self.dtype, jitter_keys=keys, remat=remat)[-seen:], w

    def _images(self, generator, ws: jax.Array, inputs: dict, grid: Callable) -> jax.Array:
        keys, remat = inputs["noise_keys"], self.recipe.remat
        if inputs["windows"] is not None:
            return generator.patches(
                ws, inputs["windows"], dtype=self.dtype, noise_keys=keys, remat=remat
            )
        return generator.image(
            ws, dtype=self.dtype, noise_keys=keys, remat=remat, training=True, grid=grid
        )

    def _inconsistency(self, g: dict, state: TrainState, inputs: dict, patch) -> jax.Array:
        """How far a patch, made smaller, is from the same window at half its size."""
        generator = self.networks.generator(g, state.g_buffers)
        ws, _ = self._styles(generator, inputs)
        half = generator.patches(
            ws,
            inputs["windows"],
            dtype=self.dtype,
            noise_keys=inputs["noise_keys"],
            remat=self.recipe.remat,
            coarser=2,
        )
        return losses.alignment([half, patch])

    def _reduced(self, grads: dict, specs: dict) -> tuple[dict, jax.Array]:
        """This device's part of the mean gradients, finite, and how many values were not."""
        parts = mean_over_devices(grads, specs)
        cut = jax.tree.leaves(specs)
        finite, bad = zip(*map(replace_nonfinite, jax.tree.leaves(parts)), strict=True)
        here = sum(n for n, spec in zip(bad, cut, strict=True) if not spec)
        split = sum(n for n, spec in zip(bad, cut, strict=True) if spec)
        split = jax.lax.psum(split, "fsdp") if any(cut) else split
        return jax.tree.unflatten(jax.tree.structure(parts), finite), here + split

    def _update_g(self, state: TrainState, grads: dict, w_sums) -> tuple[TrainState, jax.Array]:
        grads, bad = self._reduced(grads, self.specs.g)
        update = self.g_optimizer(state.images).update
        updates, optimizer = update(grads, state.g_optimizer, state.g)
        updates = slow_tables(updates, self.recipe.table_lr)
        g = optax.apply_updates(state.g, updates)
        w_avg = update_w_avg(state.w_avg, *w_sums)
        return state.replace(g=g, g_optimizer=optimizer, w_avg=w_avg), bad

    def _update_d(self, state: TrainState, grads: dict) -> tuple[TrainState, jax.Array]:
        grads, bad = self._reduced(grads, self.specs.d)
        update = self.d_optimizer(state.images).update
        updates, optimizer = update(grads, state.d_optimizer, state.d)
        return state.replace(d=optax.apply_updates(state.d, updates), d_optimizer=optimizer), bad
