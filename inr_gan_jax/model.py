"""A trained generator as an object: latents or seeds -> styles, INR parameters, images."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath
from tqdm import tqdm

from inr_gan_jax.config import Config, parse
from inr_gan_jax.foreign.checkpoint import located
from inr_gan_jax.foreign.published import NUMPY
from inr_gan_jax.models import inr, mapping
from inr_gan_jax.models.networks import Networks, networks_of
from inr_gan_jax.models.parameters import InrParams
from inr_gan_jax.render.between import Between
from inr_gan_jax.render.image import ContinuousImage
from inr_gan_jax.storage.averages import reconstructed
from inr_gan_jax.storage.checkpoint import Checkpoints


class Model:
    """The averaged (EMA) generator of a run.

    Arrays: latents z `[n, z_dim]`, styles ws `[n, L, w_dim]`, images `[n, H, W, C]` float32, about
    [-1, 1] and unclipped. `config` is the run's configuration, `images_seen` its image count,
    `checkpoint` the folder that it was loaded from, `w_avg` the mean w `[w_dim]`, or that of each
    class `[C, w_dim]`, `dtype` that of features and products: float32, or bfloat16, which is
    quicker where the hardware has it, `draws` how a seed becomes a latent. Raises ValueError for
    another dtype.
    """

    def __init__(
        self,
        config: Config,
        params: dict,
        buffers: dict,
        w_avg: jax.Array,
        *,
        class_counts: Sequence[int] = (),
        class_names: Sequence[str] = (),
        images_seen: int = 0,
        checkpoint: str = "",
        dtype: str = "float32",
        draws: str = "",
    ):
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be float32 or bfloat16, not {dtype!r}")
        self.dtype, self.draws = dtype, draws
        self.config, self.images_seen, self.checkpoint = config, images_seen, checkpoint
        self.class_counts, self.class_names = tuple(class_counts), tuple(class_names)
        self.networks: Networks = networks_of(config.model, config.discriminator)
        self._params, self._buffers, self.w_avg = params, buffers, w_avg
        self._styles, self._inr, self._image = _programs(self.networks, dtype)

    def with_arrays(
        self, params: dict, buffers: dict, w_avg: jax.Array, *, images_seen: int = 0
    ) -> "Model":
        """The same model with other weights; nothing is compiled anew."""
        other = copy.copy(self)
        other.images_seen, other.checkpoint = images_seen, ""
        other._params, other._buffers, other.w_avg = params, buffers, w_avg
        return other

    @property
    def arrays(self) -> tuple[dict, dict]:
        """(parameters, buffers) of which `networks.generator` makes the module, also under jit."""
        return self._params, self._buffers

    @property
    def num_classes(self) -> int:
        """0 for an unconditional model."""
        return self.config.model.num_classes

    @property
    def num_styles(self) -> int:
        """L, the number of styles of an image."""
        return self.networks.num_styles

    def latents(self, seeds: Sequence[int]) -> np.ndarray:
        """One latent N(0, 1) per seed (0 to 2^32 - 1), `[n, z_dim]`: of its own seed alone.

        A model that came from a published file draws as its own code did (`draws` numpy), so that a
        seed gives the image that people know. Raises ValueError for what is no such seed.
        """
        seeds, shape = _integers(seeds, "seeds", 2**32), (self.config.model.z_dim,)
        if self.draws == NUMPY:
            rows = [np.random.RandomState(seed).randn(1, *shape) for seed in seeds.tolist()]
            return np.concatenate(rows or [np.zeros((0, *shape))]).astype(np.float32)
        seeds = jnp.asarray(seeds.astype(np.uint32))
        draw = jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), shape))
        return np.asarray(draw(seeds))

    def classes(self, seeds: Sequence[int]) -> np.ndarray:
        """One class per seed, int `[n]`, drawn as often as the training data has it.

        Raises ValueError for an unconditional model.
        """
        if not self.num_classes:
            raise ValueError("this model is not class-conditional: it has no classes")
        weights = np.asarray(self.class_counts, np.float64)
        weights /= weights.sum()
        draws = [np.random.default_rng(int(s)).choice(len(weights), p=weights) for s in seeds]
        return np.asarray(draws)

    def styles(
        self,
        latents: np.ndarray | jax.Array | None = None,
        *,
        seeds: Sequence[int] | None = None,
        classes: int | Sequence[int] | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
    ) -> jax.Array:
        """Latents `[n, z_dim]` (or one per seed) -> styles `[n, L, w_dim]`.

        Args:
          latents: or `seeds` in their place, each of which is one latent.
          classes: for a class-conditional model, one class or one per image.
          truncation: psi; 1 is none, 0 is the average image, of its class where there are classes
            (Karras et al. 2019, section 2.1).
          cutoff: truncate the first `cutoff` styles only.

        Raises ValueError for shapes or classes that the model cannot have.
        """
        if (latents is None) == (seeds is None):
            raise ValueError("give latents or seeds, one of the two")
        z = jnp.asarray(self.latents(seeds) if latents is None else latents, jnp.float32)
        if z.ndim != 2 or z.shape[1] != self.config.model.z_dim:
            raise ValueError(f"latents must be [n, {self.config.model.z_dim}], not {list(z.shape)}")
        if cutoff is not None and not 0 <= cutoff <= self.num_styles:
            raise ValueError(f"cutoff must be 0 to {self.num_styles}, not {cutoff}")
        one_hot = self._one_hot(classes, len(z))
        return self._styles(
            self._params, self._buffers, self.w_avg, z, one_hot, truncation, cutoff=cutoff
        )

    def inr(self, ws: jax.Array) -> InrParams:
        """Styles -> the parameters of n coordinate networks (see models.inr: `points`, `grid`).

        Raises ValueError for styles of another shape than `[n, L, w_dim]`, and for the StyleGAN2
        baseline, which is no coordinate function.
        """
        return self._inr(self._params, self._buffers, self._checked(ws))

    def functions(self, seeds, *, classes=None, truncation=1.0, few: int = 16) -> InrParams:
        """The networks of one image per seed, made a `few` at a time (see `styles` and `inr`)."""
        made, starts = [], range(0, len(seeds), few)
        for some in (slice(k, k + few) for k in tqdm(starts, unit=f" x {few} images", delay=2)):
            label = classes if np.ndim(classes) == 0 else classes[some]
            ws = self.styles(seeds=seeds[some], classes=label, truncation=truncation)
            made.append(self.inr(ws))
        image = jax.tree.map(lambda *parts: np.concatenate(parts), *(one.image for one in made))
        return dataclasses.replace(made[0], image=image)

    def images(
        self,
        latents: np.ndarray | jax.Array | None = None,
        *,
        seeds: Sequence[int] | None = None,
        ws: np.ndarray | jax.Array | None = None,
        classes: int | Sequence[int] | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise_seed: int | None = None,
    ) -> np.ndarray:
        """Images `[n, H, W, C]` of latents, of seeds (see `styles`), or of styles `ws`.

        `noise_seed` draws noise anew, for each image its own, where networks have it (StyleGAN2,
        whose noise is fixed otherwise, and CIPS, which has none otherwise). Raises ValueError for
        shapes or classes that the model cannot have.
        """
        if ws is None:
            ws = self.styles(
                latents, seeds=seeds, classes=classes, truncation=truncation, cutoff=cutoff
            )
        elif latents is not None or seeds is not None:
            raise ValueError("give latents, seeds or ws, one of the three")
        elif classes is not None or truncation != 1 or cutoff is not None:
            raise ValueError("classes, truncation and cutoff make styles: give them to `styles`")
        keys, ws = None, self._checked(ws)
        if noise_seed is not None:
            if not self.config.model.has_noise:
                raise ValueError(f"{self.config.model.family} has no noise to draw")
            keys = jax.random.split(jax.random.key(noise_seed), len(ws))
        return np.asarray(self._image(self._params, self._buffers, ws, keys))

    def image(
        self,
        seed: int | None = None,
        *,
        latent: np.ndarray | None = None,
        ws: np.ndarray | None = None,
        classes: int | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
    ) -> ContinuousImage:
        """One image as a function, from a seed, a latent `[z_dim]` or styles `[L, w_dim]`.

        Raises ValueError for shapes or classes that the model cannot have, and for the StyleGAN2
        baseline, which is no coordinate function.
        """
        if sum(given is not None for given in (seed, latent, ws)) != 1:
            raise ValueError("give a seed, a latent or ws, one of the three")
        if ws is None:
            latents = self.latents([seed]) if latent is None else np.asarray(latent)[None]
            ws = self.styles(latents, classes=classes, truncation=truncation, cutoff=cutoff)[0]
        return ContinuousImage(self.inr(jnp.asarray(ws)[None])[0], dtype=self.dtype)

    def _checked(self, ws: np.ndarray | jax.Array) -> jax.Array:
        ws = jnp.asarray(ws, jnp.float32)
        layers, w_dim = self.num_styles, self.config.model.w_dim
        if ws.ndim != 3 or ws.shape[1:] != (layers, w_dim):
            raise ValueError(f"ws must be [n, {layers}, {w_dim}], not {list(ws.shape)}")
        return ws

    def interpolate(
        self,
        a: int | np.ndarray,
        b: int | np.ndarray,
        t: float,
        *,
        space: str = "weights",
        classes: int | Sequence[int] | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
    ) -> ContinuousImage | np.ndarray:
        """The image a part t of the way from a to b, each a seed or a latent `[z_dim]`.

        `space`: `weights` (effective weights of the networks: the paper's image-space
        interpolation), `style`, `latent` (spherical), or `pixel` (a cross-fade: pixels `[H, W, C]`
        of the native grid). `classes`: one, or those of a and b. Raises ValueError (see Between).
        """
        between = Between(
            self, self._pair(a, b), space=space, classes=classes, truncation=truncation,
            cutoff=cutoff,
        )  # fmt: skip
        return between.image(between.blend(between.anchor(0), between.anchor(1), t))

    def mix(
        self,
        a: int | np.ndarray,
        b: int | np.ndarray,
        from_layer: int,
        *,
        classes: int | Sequence[int] | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
    ) -> ContinuousImage:
        """Style mixing: the image of a with the styles of b from layer `from_layer` (0 to L) on.

        a and b are seeds or latents `[z_dim]`, `classes` one or those of a and b.
        """
        if not 0 <= from_layer <= self.num_styles:
            raise ValueError(f"from_layer = {from_layer} must be 0 to {self.num_styles}")
        ws = self.styles(self._pair(a, b), classes=classes, truncation=truncation, cutoff=cutoff)
        return self.image(ws=mapping.mix_styles(ws[:1], ws[1:], from_layer)[0])

    def _pair(self, a, b) -> np.ndarray:
        """Latents `[2, z_dim]` of two seeds or latents."""
        return np.stack([self.latents([x])[0] if np.ndim(x) == 0 else x for x in (a, b)])

    def _one_hot(self, classes, count: int) -> jax.Array | None:
        n = self.num_classes
        if not n:
            if classes is not None:
                raise ValueError("this model is not class-conditional: it takes no classes")
            return None
        if classes is None:
            raise ValueError(f"this model is class-conditional: give classes, 0 to {n - 1}")
        classes = _integers(classes, "classes", n)
        if classes.shape not in ((), (1,), (count,)):
            raise ValueError(f"give one class or {count}, not {list(classes.shape)}")
        return jax.nn.one_hot(np.broadcast_to(classes, (count,)), n)


@functools.lru_cache(maxsize=8)
def _programs(networks: Networks, dtype: str) -> tuple[Callable, Callable, Callable]:
    """What makes styles, INR parameters and images: compiled once for all models of a kind."""

    def styles(params, buffers, w_avg, z, one_hot, truncation, cutoff):
        generator = networks.generator(params, buffers)
        ws = mapping.broadcast_styles(generator.mapping(z, one_hot), generator.num_styles)
        return mapping.truncate(ws, w_avg, truncation, cutoff, one_hot)

    def inr_params(params, buffers, ws):
        return networks.generator(params, buffers).inr_params(ws)

    def image(params, buffers, ws, keys):
        generator = networks.generator(params, buffers)
        return generator.image(ws, dtype=jnp.dtype(dtype), noise_keys=keys, grid=inr.grid_by_few)

    return jax.jit(styles, static_argnames="cutoff"), jax.jit(inr_params), jax.jit(image)


def _integers(values, name: str, end: int) -> np.ndarray:
    values = np.asarray(values)
    if values.size and values.dtype.kind not in "iu":
        raise ValueError(f"{name} must be whole numbers, not {values.dtype}")
    if values.size and (values.min() < 0 or values.max() >= end):
        raise ValueError(f"{name} must be 0 to {end - 1}")
    return values.astype(np.int64)


def load(
    path: epath.PathLike,
    *,
    dtype: str = "float32",
    cache_dir: epath.PathLike | None = None,
    ema: float | None = None,
) -> Model:
    """Opens a workdir, a folder of checkpoints or one checkpoint; the newest intact one is used.

    Or a published file (INR-GAN's and StyleGAN2-ADA's .pkl, CIPS's .pt), a shared folder or a hub's
    model (hf://user/model[@revision]): fetched and converted, once, into `cache_dir` (by default
    `$INR_GAN_JAX_CACHE` or `~/.cache/inr_gan_jax`). `dtype`: see Model. `ema`: the average of this
    relative width, made of those that the run's checkpoints hold (see storage.averages). Raises
    UserError, one line, where there is none or where it does not fit this version.
    """
    directory, step = located(path, cache_dir)
    with Checkpoints(directory, read_only=True) as checkpoints:
        metadata = checkpoints.metadata(step)
        config = parse(metadata["config"], num_classes=len(metadata["class_counts"]))
        networks = networks_of(config.model, config.discriminator)
        g, buffers = jax.eval_shape(networks.init_generator, jax.random.key(0))
        w_avg = jax.ShapeDtypeStruct(config.model.w_avg_shape, jnp.float32)
        wanted = {"model": {"g_ema": g, "g_buffers": buffers, "w_avg": w_avg}}
        restored, metadata, step = checkpoints.restore(wanted, step)
        model = restored["model"]
        if ema is not None:
            model["g_ema"], missing = reconstructed(checkpoints, step, g, ema)
            if missing > 0.02:  # a hundredth of what its weights differ by is never seen
                logging.warning("--ema=%g: its profile is met but for %.0f%%", ema, 100 * missing)
    return Model(
        config,
        model["g_ema"],
        model["g_buffers"],
        model["w_avg"],
        class_counts=metadata["class_counts"],
        class_names=metadata.get("class_names", ()),
        images_seen=metadata["images"],
        checkpoint=str(directory / str(step)),
        dtype=dtype,
        draws=metadata.get("draws", ""),
    )
