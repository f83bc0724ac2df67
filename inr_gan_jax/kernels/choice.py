"""Which evaluates a generator's training grid sooner: XLA's program, or the fused kernels."""

import importlib.metadata
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from etils import epath

from inr_gan_jax.errors import UserError
from inr_gan_jax.kernels.grid import grid
from inr_gan_jax.models import inr
from inr_gan_jax.models.networks import Networks
from inr_gan_jax.runtime import devices
from inr_gan_jax.storage.atomic import replaced

FILE = "kernels.json"  # beside the cache of compiled programs: what was timed on this machine


def choose(wanted: str, networks: Networks, images: int, dtype: str) -> tuple[str, str]:
    """(`xla` or `pallas`, why) for training on the devices at hand.

    `wanted`: xla, pallas, or auto, which times both once on a TPU, and remembers; without a timing
    it is `xla`. A pass is of `images` images, with features of `dtype`. UserError where kernels are
    demanded that cannot be.
    """
    backend = jax.default_backend()
    if wanted == "pallas":
        if backend == "gpu":
            raise UserError("config.kernels=pallas: the kernels are for TPUs; on a GPU use xla")
        why = "as configured" if backend == "tpu" else "interpreted on this CPU: slow, for tests"
        return "pallas", why
    if wanted == "xla":
        return "xla", "as configured"
    if backend != "tpu":
        return "xla", "the kernels are for TPUs"
    if networks.spec is None or not networks.spec.fusible:
        return "xla", "there are no kernels for this generator"
    return _remembered(networks, images, dtype)


def seconds(
    networks: Networks, images: int, dtype: str, *, interpret: bool = False, repeats: int = 5
) -> dict:
    """Median seconds of `xla` and `pallas`: images of one pass on one device, and gradients.

    Taken in turns; RuntimeError (of jax) where the kernels cannot be compiled for this device.
    """
    params = _parameters(networks, images)

    def step(evaluate):
        def loss(shared, image):
            made = evaluate(inr.InrParams(shared, image, params.spec))
            return jnp.sum(jnp.square(made))

        return jax.jit(jax.grad(loss, (0, 1)))

    compute = jnp.dtype(dtype)
    cases = {
        "xla": step(lambda p: inr.grid(p, compute)),
        "pallas": step(lambda p: grid(p, compute, interpret=interpret)),
    }
    taken = {name: [] for name in cases}
    for _ in range(repeats + 1):
        for name, case in cases.items():
            start = time.perf_counter()
            jax.block_until_ready(case(params.shared, params.image))
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def _parameters(networks: Networks, images: int) -> inr.InrParams:
    """Random ones: speed does not depend on their values."""

    def make(key):
        generator = networks.generator(*networks.init_generator(key))
        ws = jax.random.normal(key, (images, networks.num_styles, networks.generator_config.w_dim))
        params = generator.inr_params(ws)
        return params.shared, params.image

    return inr.InrParams(*jax.jit(make)(jax.random.key(0)), networks.spec)


def _remembered(networks: Networks, images: int, dtype: str) -> tuple[str, str]:
    cache = devices.compilation_cache()
    path = epath.Path(Path(cache).with_name(FILE)) if cache else None
    known = _read(path)
    key = _key(networks, images, dtype)
    if key not in known:
        try:
            known[key] = seconds(networks, images, dtype)
        except jax.errors.JaxRuntimeError as error:
            return "xla", f"the kernels cannot be compiled here: {str(error).splitlines()[0]}"
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(path) as file:
                file.write(json.dumps(known, indent=1).encode())
    return judged(known[key])


def judged(timed: dict[str, float]) -> tuple[str, str]:
    """The quicker of `xla` and `pallas`, and by how much."""
    name = min(timed, key=timed.get)
    other = next(one for one in timed if one != name)
    return name, f"{1e3 * timed[name]:.2f} ms a pass here, {1e3 * timed[other]:.2f} ms by {other}"


def _read(path: epath.Path | None) -> dict:
    try:
        known = json.loads(path.read_text()) if path and path.exists() else {}
    except ValueError:  # a file of another program's: it is made anew
        known = {}
    return known if isinstance(known, dict) else {}


def _key(networks: Networks, images: int, dtype: str) -> str:
    kind, versions = jax.devices()[0].device_kind, "jax " + importlib.metadata.version("jax")
    return f"{kind}, {versions}, {networks.generator_config}, {dtype}, {images} images"
