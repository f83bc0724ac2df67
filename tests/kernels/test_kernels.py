"""The fused kernels, run step by step, against the plain version; and what they move."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_gan_jax.kernels import tiling
from inr_gan_jax.kernels.grid import grid
from inr_gan_jax.kernels.tiling import Operand, moved_bytes
from inr_gan_jax.models import families, inr
from inr_gan_jax.models.fourier import Embedding
from inr_gan_jax.models.parameters import Block, InrParams, InrSpec, Layer

SHARED = Embedding(raw=True, random=3, cosine=True, table=2)
OWN = Embedding(predicted=2, cosine=True)


@st.composite
def networks(draw) -> InrSpec:
    """Two blocks of any widths, factor, modulation and embeddings; few are powers of two."""
    number = st.integers(2, 9)  # demodulated by itself, a single input has no gradient
    height, width = draw(st.sampled_from([(8, 16), (4, 5), (6, 3)]))
    factor = draw(st.sampled_from([1, 2, 3]))
    kind = draw(st.sampled_from(["fmm_demod", "fmm_tanh", "fmm_paper", "style_demod", "full"]))
    blocks, before = [], 0
    for scale in (1, factor):
        size = (height * scale, width * scale)
        embedding = draw(st.sampled_from([SHARED, OWN] + [None] * bool(before)))
        outputs, e = draw(number), embedding.features(size) if embedding else 0
        joint = draw(st.booleans()) or not (before and e)
        first = Layer("layer0", kind, outputs, before, e, joint=joint)
        layers = [first] + [Layer("layer1", kind, outputs, outputs)] * draw(st.integers(0, 1))
        rgb = Layer("rgb", "style", 3, outputs) if before or draw(st.booleans()) else None
        blocks.append(Block(f"b{len(blocks)}", size, scale, embedding, tuple(layers), rgb))
        before = outputs
    frame, activation = draw(st.sampled_from([("symmetric", "lrelu"), ("unit", "relu")]))
    return InrSpec(tuple(blocks), frame=frame, activation=activation,
                   output=draw(st.sampled_from(["linear", "tanh"])))  # fmt: skip


def parameters(spec: InrSpec, images: int, seed: int) -> InrParams:
    """Random ones; biases of `full` and `fmm_paper` are an image's own, all others shared."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    shared, image = {}, {}
    for block in spec.blocks:
        s, i = shared.setdefault(block.name, {}), image.setdefault(block.name, {})
        if block.embedding is SHARED:
            s["embedding"] = {"random": normal(3, 2), "table": normal(2, *block.size)}
        elif block.embedding is OWN:
            i["embedding"] = {"basis": normal(images, 2, 2), "phase": normal(images, 2)}
        for layer in block.modulated:
            s[layer.name], i[layer.name] = {}, {}
            for part, inputs in layer.parts.items():
                own, common = {}, {}
                if layer.modulation.startswith("fmm"):
                    own = {"a": normal(images, layer.outputs, 2), "b": normal(images, 2, inputs)}
                elif layer.modulation.startswith("style"):
                    own = {"style": normal(images, inputs)}
                else:
                    own = {"weight": normal(images, layer.outputs, inputs)}
                if "weight" not in own:
                    common["weight"] = normal(layer.outputs, inputs)
                bias = own if layer.modulation in ("full", "fmm_paper") else common
                bias["bias"] = normal(*([images] if bias is own else []), layer.outputs)
                s[layer.name][part], i[layer.name][part] = common, own
    return InrParams(shared, image, spec)


def distance(found, wanted) -> float:
    """The largest, as a part of the largest magnitude."""
    return float(np.max(np.abs(found - wanted)) / np.max(np.abs(wanted), initial=1e-3))


@settings(max_examples=6, deadline=None, derandomize=True)
@given(spec=networks(), images=st.integers(1, 3), seed=st.integers(0, 99), small=st.booleans())
def test_kernels_equal_the_plain_version_and_so_do_gradients(spec, images, seed, small):
    params = parameters(spec, images, seed)
    height, width = spec.size
    g = np.random.default_rng(seed).standard_normal((images, height, width, 3)).astype("float32")

    def both(evaluate, params=params):
        def loss(shared, image):
            made = evaluate(InrParams(shared, image, spec))
            return jnp.sum(made * g), made

        step = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
        return jax.device_get(step(params.shared, params.image))

    with pytest.MonkeyPatch.context() as patch:
        if small:  # as many strips as there may be
            patch.setattr(tiling, "STEP", 1)
            patch.setattr(tiling, "HELD", 1)
        found, images_found = both(lambda p: grid(p, interpret=True))
    plain, images_plain = both(inr.grid)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
        exact, images_exact = both(lambda p: inr.grid(p, jnp.float64), wide)
    # Sums that cancel leave few digits, whoever takes them: as good as the plain ones, then.
    triples = zip(*map(jax.tree.leaves, (found, plain, exact)), strict=True)
    for x, y, z in ((images_found, images_plain, images_exact), *triples):
        assert distance(x, z) <= 1e-5 + 2 * distance(y, z)


def test_bfloat16_features_are_those_of_the_plain_version():
    block = Block("b", (8, 16), 1, SHARED, (Layer("layer0", "fmm_demod", 24, 0, 10),) * 1, None)
    rgb = Layer("rgb", "style", 3, 24)
    fine = Block("c", (16, 32), 2, SHARED, (Layer("layer0", "fmm_demod", 16, 24, 10),),
                 dataclasses.replace(rgb, h=16))  # fmt: skip
    params = parameters(InrSpec((block, fine)), 2, 0)
    found = jax.jit(lambda p: grid(p, jnp.bfloat16, interpret=True))(params)
    assert distance(found, jax.jit(lambda p: inr.grid(p, jnp.bfloat16))(params)) <= 1e-5
    assert 1e-5 < distance(found, inr.grid(params)) < 2e-2


def test_networks_that_need_whole_levels_are_refused():
    config = families.inr_gan_bil()
    with pytest.raises(ValueError, match="pixel-independent"):
        grid(InrParams({}, {}, families.inr_spec(config)))
    spec = families.inr_spec(families.inr_gan())
    with pytest.raises(ValueError, match="not in float64"):
        grid(InrParams({}, {}, spec), jnp.float64)


@pytest.mark.parametrize("family", ["inr_gan", "cips", "paper"])
def test_strips_cover_a_level_and_can_be_addressed(family):
    for block in families.inr_spec(families.FAMILIES[family]()).blocks:
        own = family == "paper"
        walk = tiling.tiling(block, shared_embedding=block.embedding is not None and not own)
        height, width = block.size
        assert walk.outer * walk.inner * walk.rows == height
        positions, below = walk.rows * width, walk.rows * width // block.upsample**2
        assert positions % 128 == 0 and below % 16 == 0
        widest = max(layer.outputs for layer in block.layers)
        assert positions * widest * 4 <= 2 * tiling.STEP


def test_moved_bytes_are_fetches_times_tiles():
    """By hand: a block is fetched whenever it is not the one that is there already."""

    def operand(shape, block, index, dtype="float32"):
        return Operand(jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)), block, index)

    walk = tiling.Tiling(outer=2, inner=3, rows=4)
    grid_ = (2, 5, 3)
    weights = operand((8, 128), (8, 128), walk.whole)  # 4 KiB, once
    assert moved_bytes([weights], grid_) == 4096
    table = operand((6 * 64, 128), (3 * 64, 128), walk.outer_strip, "bfloat16")
    assert moved_bytes([table], grid_) == 2 * (3 * 64) * 128 * 2
    own = operand((5, 8, 128), (1, 8, 128), walk.image)  # of 5 images, for each outer strip anew
    assert moved_bytes([own], grid_) == 2 * 5 * 4096
    features = operand((5, 6 * 64, 128), (1, 64, 128), walk.strip, "bfloat16")
    assert moved_bytes([features], grid_) == 5 * 6 * 64 * 128 * 2
    rgb = operand((5, 3, 6 * 128), (1, 3, 128), walk.columns)  # 3 rows lie in 8
    assert moved_bytes([rgb], grid_) == 5 * 6 * 8 * 128 * 4
    assert moved_bytes([weights, own, rgb], grid_) == 4096 + 40960 + 5 * 6 * 4096


def test_moved_bytes_against_a_memory_that_holds_one_block_of_each():
    """A slow simulation, of a real block's operands."""
    spec = families.inr_spec(families.inr_gan())
    block = spec.blocks[-1]
    walk = tiling.tiling(block, shared_embedding=True)
    grid_ = (walk.outer, 4, walk.inner)
    assert min(grid_) > 1
    one = Operand(jax.ShapeDtypeStruct((4, 65536, 128), jnp.bfloat16), (1, 512, 128), walk.strip)
    shared = Operand(jax.ShapeDtypeStruct((65536, 160), jnp.bfloat16), (8192, 160),
                     walk.outer_strip)  # fmt: skip
    fetched, here = 0, {}
    for step in itertools.product(*map(range, grid_)):
        for name, operand in (("one", one), ("shared", shared)):
            if here.get(name) != operand.index(*step):
                here[name] = operand.index(*step)
                lanes = -(-operand.block[-1] // 128) * 128
                fetched += operand.block[-2] * lanes * 2
    assert moved_bytes([one, shared], grid_) == fetched
