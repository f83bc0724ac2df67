"""Exchanges read from HLO text: forms that compilers write, and programs whose bytes are known."""

import textwrap

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from inr_gan_jax.costs.collectives import Collective, collectives
from inr_gan_jax.runtime.sharding import AXES, make_mesh

ADD = """
%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  ROOT %sum = f32[] add(%x, %y)
}
"""


def program(*lines: str, before: str = ADD, devices: int = 8) -> str:
    """An HLO module whose entry computation holds these lines."""
    body = "\n".join(f"  {line}" for line in lines)
    return (
        f"HloModule jit_f, is_scheduled=true, num_partitions={devices}\n\n"
        f"{textwrap.dedent(before)}\nENTRY %main.10_spmd (p: f32[4,2]) -> f32[4,2] {{\n"
        f"  %p = f32[4,2]{{1,0}} parameter(0)\n{body}\n}}\n"
    )


def only(*lines: str, **keywords) -> Collective:
    (found,) = collectives(program(*lines, **keywords))
    return found


# What follows the operands, in each spelling -> devices in a group, of 8.
GROUPS = {
    "replica_groups={{0,1},{2,3},{4,5},{6,7}}": 2,
    "replica_groups={{0,2,4,6},{1,3,5,7}}": 4,
    "replica_groups=[2,4]<=[8]": 4,
    "replica_groups=[4,2]<=[2,4]T(1,0)": 2,
    "replica_groups={}": 8,
    "to_apply=%add": 8,
}


@pytest.mark.parametrize("attributes", GROUPS)
def test_groups(attributes):
    found = only(f"%r = f32[4,2]{{1,0}} all-reduce(%p), channel_id=1, {attributes}")
    assert found == Collective("all-reduce", (("f32", (4, 2)),), 32, 1, GROUPS[attributes])


def test_groups_in_an_unknown_spelling_are_refused():
    with pytest.raises(ValueError, match="groups of r are written in an unknown way"):
        only("%r = f32[4,2]{1,0} all-reduce(%p), replica_groups=mesh['data'=8], to_apply=%add")


# An instruction, as CPU, GPU or TPU write it -> (kind, shapes, bytes); groups are of 2.
FORMS = {
    "%a = (f32[8,5]{1,0}, f32[], /*index=2*/s32[3]{0}) all-reduce(%p, %q, %r)": (
        "all-reduce", [("f32", (8, 5)), ("f32", ()), ("s32", (3,))], 160 + 4 + 12),
    "%a = f32[]{:T(128)} all-reduce(%p)": ("all-reduce", [("f32", ())], 4),
    "ROOT %a = bf16[1024,512]{1,0:T(8,128)(2,1)S(1)} all-gather(%p), dimensions={0}": (
        "all-gather", [("bf16", (1024, 512))], 2**20),
    "%a = f32[32,3]{1,0} reduce-scatter(%p), dimensions={0}": (
        "reduce-scatter", [("f32", (32, 3))], 2 * 32 * 3 * 4),
    "%a = (f32[2,5]{1,0}, f32[2,5]{1,0}) all-to-all(%p, %q)": (
        "all-to-all", [("f32", (2, 5))] * 2, 80),
    "%a = pred[16]{0} collective-permute(%p), source_target_pairs={{0,2},{2,4},{4,0}}": (
        "collective-permute", [("pred", (16,))], 16),
    "%a = s4[7]{0} collective-broadcast(%p)": ("collective-broadcast", [("s4", (7,))], 4),
    "%a = f8e4m3fn[3]{0} all-reduce(%p)": ("all-reduce", [("f8e4m3fn", (3,))], 3),
    "%a = f32[4]{0} all-reduce-start(%p)": ("all-reduce", [("f32", (4,))], 16),
    "%a = (f32[4]{0}, f64[2]{0}) all-reduce-start(%p, %q)": (
        "all-reduce", [("f32", (4,)), ("f64", (2,))], 32),
    "%a = (f32[4,2]{1,0}, f32[8,2]{1,0}) all-gather-start(%p), dimensions={0}": (
        "all-gather", [("f32", (8, 2))], 64),
    "%a = ((f32[4]{0}, f32[1]{0}), (f32[8]{0}, f32[2]{0})) all-gather-start(%p, %q)": (
        "all-gather", [("f32", (8,)), ("f32", (2,))], 40),
    "%a = ((f32[8,2]{1,0}), f32[4,2]{1,0}) reduce-scatter-start(%p), dimensions={0}": (
        "reduce-scatter", [("f32", (4, 2))], 64),
    "%a = ((f32[4]{0}), f32[4]{0}, u32[]{:S(2)}) all-to-all-start(%p)": (
        "all-to-all", [("f32", (4,))], 16),
    "%a = (f32[8]{0:T(128)}, f32[8]{0:T(128)S(1)}, u32[]{:S(2)}, u32[]{:S(2)}) "
    "collective-permute-start(%p), source_target_pairs={{0,1},{1,0}}": (
        "collective-permute", [("f32", (8,))], 32),
}  # fmt: skip


@pytest.mark.parametrize("line", FORMS)
def test_forms(line):
    kind, shapes, size = FORMS[line]
    found = only(f'{line}, replica_groups=[4,2]<=[8], metadata={{op_name="jit(f)/all-gather(x)"}}')
    assert found == Collective(kind, tuple(shapes), size, 1, 2)


def test_an_asynchronous_exchange_counts_once():
    assert (
        len(
            collectives(
                program(
                    "%s = (f32[4]{0}, f32[8]{0}) all-gather-start(%p), replica_groups={{0,1}}",
                    "%d = f32[8]{0} all-gather-done(%s)",
                    "%t = ((f32[4]{0}), f32[2]{0}) reduce-scatter-start(%p), to_apply=%add",
                    "%u = ((f32[4]{0}), f32[2]{0}) reduce-scatter-update(%t)",
                    "ROOT %e = f32[2]{0} reduce-scatter-done(%u)",
                )
            )
        )
        == 2
    )


GENERIC = """
%async_computation (q: f32[8]) -> f32[4] {
  %q = f32[8]{0} parameter(0)
  ROOT %r = f32[4]{0} reduce-scatter(%q), replica_groups={{0,1}}, dimensions={0}, to_apply=%add
}, execution_thread="parallel"
"""


def test_a_generic_asynchronous_operation_counts_once():
    found = only(
        "%s = ((f32[8]{0}), f32[4]{0}, u32[]) async-start(%p), calls=%async_computation",
        "%u = ((f32[8]{0}), f32[4]{0}, u32[]) async-update(%s), calls=%async_computation",
        "ROOT %d = f32[4]{0} async-done(%u), calls=%async_computation",
        before=ADD + GENERIC,
    )
    assert found == Collective("reduce-scatter", (("f32", (4,)),), 32, 1, 2)


CHAIN = """
%fused.1 (q: f32[4]) -> f32[8] {
  ROOT %g.1 = f32[8]{0:T(128)} all-gather(%q), replica_groups={{0,1}}, frontend_attributes={chain_id="3"}
}

%fused.2 (q: f32[4]) -> f32[8] {
  ROOT %g.2 = f32[8]{0:T(128)} all-gather(%q), replica_groups={{0,1}}, frontend_attributes={chain_id="3"}
}

%fused.3 (q: f32[4]) -> f32[8] {
  ROOT %g.3 = f32[8]{0:T(128)} all-gather(%q), replica_groups={{0,1}}, frontend_attributes={chain_id="4"}
}
"""  # noqa: E501


def test_steps_of_an_exchange_in_several_fusions_count_once():
    """As TPUs write it: of two exchanges, one has two steps."""
    steps = (
        f"%fusion.{i} = f32[8]{{0:T(128)}} fusion(%p), kind=kOutput, calls=%fused.{i}"
        for i in (1, 2, 3)
    )
    found = collectives(program(*steps, before=ADD + CHAIN))
    assert found == [Collective("all-gather", (("f32", (8,)),), 32, 1, 2)] * 2


LOOPS = """
%inner (c: (s32[], f32[4])) -> (s32[], f32[4]) {
  %r = f32[4]{0} all-reduce(%x), replica_groups={{0,1}}, to_apply=%add
}

%outer (c: (s32[], f32[4])) -> (s32[], f32[4]) {
  %g = f32[8]{0} all-gather(%x), replica_groups={{0,1}}, dimensions={0}
  %w = (s32[], f32[4]{0}) while(%t), condition=%still, body=%inner, INNER
}

%still (c: (s32[], f32[4])) -> pred[] {
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%asks (c: (s32[], f32[4])) -> pred[] {
  %m = s32[] all-reduce(%i), replica_groups={}, to_apply=%add
}
"""
KNOWN = 'backend_config={"known_init_step":{"init":"0"},"known_trip_count":{"n":"5"}}'
ESCAPED = r'backend_config="{\"known_trip_count\":{\"n\":\"5\"}}"'


@pytest.mark.parametrize("known", [KNOWN, ESCAPED])
def test_loops_multiply(known):
    loop = (
        "%w = (s32[], f32[4]{0}) while(%t), condition=%asks, body=%outer, "
        'backend_config={"known_trip_count":{"n":"3"}}'
    )
    found = collectives(program(loop, before=ADD + LOOPS.replace("INNER", known)))
    times = {one.kind + str(one.bytes): one.times for one in found}
    assert times == {"all-gather32": 3, "all-reduce16": 15, "all-reduce4": 4}


def test_a_loop_of_unknown_length_is_refused_if_it_exchanges():
    loop = "%while.7 = (s32[], f32[4]{0}) while(%t), condition=%still, body=%inner"
    with pytest.raises(ValueError, match=r"loop while\.7 .*all-reduce"):
        collectives(program(loop, before=ADD + LOOPS.replace("INNER", KNOWN)))
    quiet = loop.replace("body=%inner", "body=%add")
    assert collectives(program(quiet, before=ADD + LOOPS.replace("INNER", KNOWN))) == []


NESTED = """
%left (q: f32[4]) -> f32[4] {
  ROOT %r = f32[4]{0} all-reduce(%q), replica_groups={{0,1}}, to_apply=%add
}

%right (q: f32[4]) -> f32[4] {
  ROOT %r = f32[4]{0} collective-permute(%q), source_target_pairs={{0,1}}
}
"""


@pytest.mark.parametrize(
    "line, count",
    [
        ("%c = f32[4]{0} call(%p), to_apply=%left", 1),
        ("%c = f32[4]{0} fusion(%p), kind=kCustom, calls=%right", 1),
        ("%c = f32[4]{0} conditional(%i, %p, %p), branch_computations={%left, %right}", 2),
        ("%c = f32[4]{0} conditional(%i, %p, %p), true_computation=%left, "
         "false_computation=%right", 2),
        ('%c = f32[4]{0} custom-call(%p), custom_call_target="f", called_computations={%left}', 1),
    ],
)  # fmt: skip
def test_what_is_called_counts(line, count):
    assert len(collectives(program(line, before=ADD + NESTED))) == count


def test_text_that_is_no_program():
    with pytest.raises(ValueError, match="no ENTRY"):
        collectives("module @jit_f {\n  func.func public @main() {\n  }\n}\n")


def exchanges(function, *shapes, fsdp: int = 2, out=None) -> list[Collective]:
    """Of a function of float32 arrays, cut along their first axis over two devices."""
    mesh, cut = make_mesh(fsdp=fsdp), P(AXES)
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=cut, out_specs=cut if out is None else out, check_vma=False
    )
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return collectives(jax.jit(mapped).lower(*arguments).compile().as_text())


def test_compiled_programs():
    """Every kind, from jax itself; [8, 6] is 96 bytes on each of two devices."""

    def function(x):
        gathered = lax.all_gather(x, "fsdp", tiled=True)
        scattered = lax.psum_scatter(jnp.sin(gathered), "fsdp", tiled=True)
        swapped = lax.ppermute(scattered, "fsdp", [(0, 1), (1, 0)])
        return lax.all_to_all(jnp.sin(swapped), "fsdp", 0, 1, tiled=True)

    found = exchanges(function, (8, 6), out=P("fsdp"))
    assert {one.kind: (one.bytes, one.times, one.group) for one in found} == {
        "all-gather": (192, 1, 2),
        "reduce-scatter": (192, 1, 2),
        "collective-permute": (96, 1, 2),
        "all-to-all": (96, 1, 2),
    }
    assert len(found) == 4


def test_a_compiled_loop_and_a_combined_reduction():
    def function(x, y):
        total, _ = lax.scan(lambda c, _: (jnp.sin(lax.psum(c, AXES)), None), x, length=7)
        return lax.psum((total, y, jnp.sum(y)), AXES)

    found = exchanges(function, (8, 6), (4, 3), out=P())
    loop = [one for one in found if one.times > 1]
    assert [(one.kind, one.bytes, one.times) for one in loop] == [("all-reduce", 96, 7)]
    rest = [one for one in found if one.times == 1]
    assert {one.kind for one in rest} == {"all-reduce"}
    assert sum(one.bytes for one in rest) == 96 + 24 + 4


def test_a_program_of_one_device_exchanges_nothing():
    text = jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.ones((4, 4))).compile().as_text()
    assert collectives(text) == []


@pytest.mark.parametrize(
    "groups, size",
    [
        ("mesh['data'=4,'fsdp'=2] {'data','fsdp'}", 8),
        ("mesh['data'=4,'fsdp'=2] {'fsdp'}", 2),
        ("mesh['data'=4,'fsdp'=2] {'data':(1)2}", 2),
    ],
)
def test_groups_named_after_the_axes_of_a_mesh(groups, size):
    text = (
        "HloModule m, num_partitions=8\n\n"
        "ENTRY %main (p: f32[6]) -> f32[6] {\n"
        "  %p = f32[6]{0} parameter(0)\n"
        f"  ROOT %r = f32[6]{{0}} all-reduce(%p), channel_id=1, replica_groups={groups}, "
        "use_global_device_ids=true, to_apply=%add\n}\n"
        "%add (a: f32[], b: f32[]) -> f32[] {\n"
        "  %a = f32[] parameter(0)\n}\n"
    )
    (one,) = collectives(text)
    assert (one.kind, one.bytes, one.group) == ("all-reduce", 24, size)
