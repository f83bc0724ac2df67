"""Operations and bytes of programs whose numbers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec as P

from inr_gan_jax.costs import flops
from inr_gan_jax.costs.traffic import Traffic, traffic


def counted(function, *shapes, dtype="float32"):
    return flops.count(jax.make_jaxpr(function)(*[jnp.zeros(s, dtype) for s in shapes]))


def test_products_by_the_type_of_their_factors():
    product = lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32)  # noqa: E731
    assert counted(product, (5, 7), (7, 11)) == {"float32": 2 * 5 * 7 * 11}
    assert counted(product, (3, 5, 7), (3, 7, 11), dtype="bfloat16") == {
        "bfloat16": 2 * 3 * 5 * 7 * 11
    }
    gradients = jax.grad(lambda a, b: jnp.sum(jnp.sin(a @ b)), (0, 1))
    assert counted(gradients, (5, 7), (7, 11)) == {"float32": 3 * 2 * 5 * 7 * 11}
    assert counted(jnp.sin, (5, 7)) == {}


def test_loops_branches_and_devices():
    one = 2 * 4 * 4 * 4

    def loop(c, xs):
        return jax.lax.scan(lambda c, x: (jax.jit(jnp.dot)(c, x), None), c, xs)

    def either(a):
        return jax.lax.cond(a[0, 0] > 0, lambda a: a @ a @ a, lambda a: a @ a, a)

    def endless(a):
        return jax.lax.while_loop(lambda a: a[0, 0] > 0, lambda a: a @ a, a)

    def kernel_of_steps(a, b):
        def step(a, b, out):
            out[...] = a[...] @ b[...]

        blocks = [pl.BlockSpec((4, 4), lambda i: (i, 0)), pl.BlockSpec((4, 4), lambda i: (0, 0))]
        return pl.pallas_call(step, a, grid=6, in_specs=blocks, out_specs=blocks[0])(a, b)

    mesh = jax.make_mesh((2,), ("x",), (jax.sharding.AxisType.Auto,))
    part = jax.shard_map(jnp.dot, mesh=mesh, in_specs=(P("x"), P()), out_specs=P("x"))
    assert counted(loop, (4, 4), (6, 4, 4)) == {"float32": 6 * one}
    assert counted(either, (4, 4)) == {"float32": 2 * one}
    assert counted(part, (8, 4), (4, 4)) == {"float32": one}  # of one device
    assert counted(kernel_of_steps, (24, 4), (4, 4)) == {"float32": 6 * one}
    with pytest.raises(ValueError, match="loop of unknown length"):
        counted(endless, (4, 4))


@settings(max_examples=8, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 3),
    window_dilation=st.integers(1, 2),
    groups=st.integers(1, 2),
)
def test_convolutions_count_what_meets_a_value(
    size, window, stride, padding, dilation, window_dilation, groups
):
    """Of an image and a kernel of ones, each output is the number of its multiplications."""

    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (stride, 1), [(padding, 1), (0, 2)], (dilation, 1), (window_dilation, 1),
            ("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
        )  # fmt: skip

    x, w = np.ones((3, *size, 4), np.float32), np.ones((*window, 4 // groups, 6), np.float32)
    reach = (size[0] - 1) * dilation + 1 + padding + 1
    if reach < (window[0] - 1) * window_dilation + 1 or size[1] + 2 < window[1]:
        return
    assert counted(convolve, x.shape, w.shape).total() == 2 * np.sum(convolve(x, w))


def compiled_text(function, *shapes) -> str:
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).lower(*arguments).compile().as_text()


def test_bytes_of_one_operation():
    text = compiled_text(lambda a, b: jnp.sin(a) + b, (1000,), (1000,))
    assert traffic(text) == Traffic(bytes=3 * 4 * 1000, cycles=0)


def test_a_loop_counts_as_often_as_it_runs():
    def times(n):
        def loop(c, x):
            return jax.lax.fori_loop(0, n, lambda _, c: jnp.sin(c @ x), c)

        return traffic(compiled_text(loop, (64, 64), (64, 64))).bytes

    body = times(11) - times(10)
    assert times(21) - times(11) == 10 * body
    assert 5 * 64 * 64 * 4 <= body <= 6 * 64 * 64 * 4 + 100  # the product and its sine


TPU = """\
HloModule jit_f, is_scheduled=true

%fused (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %sin.1 = f32[8,128]{1,0:T(8,128)S(1)} sine(%p), backend_config={"estimated_cycles":"7777"}
}

%sum (p1: bf16[8,128], p2: f32[8,128]) -> f32[8,128] {
  %p1 = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %p2 = f32[8,128]{1,0:T(8,128)S(1)} parameter(1)
  %p3 = f32[8,128]{1,0:T(8,128)} convert(%p1)
  ROOT %add.1 = f32[8,128]{1,0:T(8,128)S(1)} add(%p2, %p3)
}

%body (b: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %b = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)S(1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%b), index=0
  %x = f32[8,128]{1,0:T(8,128)S(1)} get-tuple-element(%b), index=1
  %y = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%x), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"100"}
  %z = f32[8,128]{1,0:T(8,128)S(1)} fusion(%y, /*index=1*/%x), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"23"}
  ROOT %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)S(1)}) tuple(%i, %z)
}

%condition (c: (s32[], f32[8,128])) -> pred[] {
  %limit = s32[]{:T(128)} constant(15)
  %c = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)S(1)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %limit), direction=LT
}

ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %start = (f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%a)
  %done = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%start)
  %tuple = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)S(1)}) tuple(%zero, %done)
  %loop = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)S(1)}) while(%tuple), condition=%condition, body=%body
  ROOT %out = f32[8,128]{1,0:T(8,128)S(1)} get-tuple-element(%loop), index=1
}
"""  # noqa: E501


def test_a_program_of_a_tpu():
    """What lies in vector memory, S(1), is no traffic; the loop's length is in its condition."""
    assert traffic(TPU) == Traffic(4096 + 15 * (2 + 2) * 1024, 15 * 123, near=15 * 3 * 4096)
    kernel = 'custom-call(%y), backend_config={"cost_estimate":{"bytes_accessed":"5000"}}'
    fused = TPU.replace("fusion(%y, /*index=1*/%x), kind=kLoop", kernel)
    assert traffic(fused) == Traffic(4096 + 15 * (2 * 1024 + 5000), None, near=15 * 2 * 4096)
    endless = TPU.replace("direction=LT", "direction=NE")
    assert traffic(endless) == Traffic(4096 + (2 + 2) * 1024, 123, near=3 * 4096)
    with pytest.raises(ValueError, match="not the text of an HLO module"):
        traffic("module @jit_f {}")


def test_an_array_that_is_taken_or_changed_in_part_moves_that_part():
    """As a compiler fuses it: what a loop reads of its inputs, and stacks of its results."""

    @jax.jit
    def loop(xs):
        return jax.lax.map(lambda x: jnp.sin(x) + 1, xs)

    moved = [
        traffic(loop.lower(jax.ShapeDtypeStruct((n, 1000), jnp.float32)).compile().as_text()).bytes
        for n in (100, 200)
    ]
    row = 4 * 1000
    assert 2 * row <= (moved[1] - moved[0]) / 100 <= 5 * row
