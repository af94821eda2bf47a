import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from aft_jax.aot.costs import NOTHING, Costs, program_costs

COUNTED = """%less (c: (s32[], f32[4,4])) -> pred[] {
  %c = (s32[], f32[4,4]{1,0}) parameter(0)
  %n = s32[] constant(5)
  %i = s32[] get-tuple-element(%c), index=0
  ROOT %l = pred[] compare(%i, %n), direction=LT
}

%body (b: (s32[], f32[4,4])) -> (s32[], f32[4,4]) {
  %b = (s32[], f32[4,4]{1,0}) parameter(0)
  %x = f32[4,4]{1,0} get-tuple-element(%b), index=1
  %y = f32[4,4]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %i = s32[] get-tuple-element(%b), index=0
  ROOT %t = (s32[], f32[4,4]{1,0}) tuple(%i, %y)
}

ENTRY %main (a: (s32[], f32[4,4])) -> (s32[], f32[4,4]) {
  %a = (s32[], f32[4,4]{1,0}) parameter(0)
  ROOT %w = (s32[], f32[4,4]{1,0}) while(%a), condition=%less, body=%body
}
"""
FLOPS, BYTES = 2 * 4 * 4 * 4, 2 * (4 * 4 * 4) + 4 * 4 * 4


def test_a_loop_counts_as_often_as_it_runs():
    costs = program_costs(COUNTED, devices=1)
    assert costs == Costs(5 * FLOPS, 5 * FLOPS, 5 * BYTES, {}, {})


def test_a_comparison_in_a_fusion_is_read_too():
    fused = (
        "%f (p: s32[], q: s32[]) -> pred[] {\n  %p = s32[] parameter(0)\n"
        "  %q = s32[] parameter(1)\n  ROOT %l = pred[] compare(%p, %q), direction=LT\n}\n\n"
    )
    root = "ROOT %l = pred[] fusion(%i, %n), kind=kLoop, calls=%f"
    text = fused + COUNTED.replace("ROOT %l = pred[] compare(%i, %n), direction=LT", root)
    assert program_costs(text, devices=1).flops == 5 * FLOPS


def test_a_known_count_is_taken_from_the_loop():
    known = 'body=%body, backend_config={"known_trip_count":{"n":"7"}}'
    assert program_costs(COUNTED.replace("body=%body", known), devices=1).flops == 7 * FLOPS


def test_a_loop_of_unknown_length_counts_once_and_is_told():
    text = COUNTED.replace("direction=LT", "direction=NE")
    costs = program_costs(text, devices=1)
    assert costs == Costs(FLOPS, FLOPS, BYTES, {}, {}, unknown_loops=1)
    assert costs.times(3).plus(costs).unknown_loops == 2


PRODUCT = "dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}"


@pytest.mark.parametrize(("work", "flops"), [(PRODUCT, FLOPS), ("add(%x, %x)", 0)])
def test_of_branches_the_longest_counts(work, flops):
    """By its products; where none has any, by its memory."""
    text = (
        COUNTED.split("ENTRY")[0].replace(PRODUCT, work)
        + """%none (b: f32[4,4]) -> f32[4,4] {
  ROOT %b = f32[4,4]{1,0} parameter(0)
}

ENTRY %main (a: (s32[], f32[4,4])) -> (s32[], f32[4,4]) {
  %a = (s32[], f32[4,4]{1,0}) parameter(0)
  %p = pred[] constant(true)
  ROOT %o = (s32[], f32[4,4]) conditional(%p, %a, %a), branch_computations={%none, %body}
}
"""
    )
    costs = program_costs(text, devices=1)
    assert costs.flops == flops
    assert costs.memory > 0


def test_sums_have_every_kind_of_both():
    one = Costs(1, 2, 3, {"all-reduce": 4.0}, {"all-reduce": 1})
    two = Costs(10, 20, 30, {"all-gather": 40.0}, {"all-gather": 1})
    both = one.plus(two)
    assert both.sent == {"all-gather": 40.0, "all-reduce": 4.0}
    assert both.calls == {"all-gather": 1, "all-reduce": 1}
    assert (both.flops, both.passes, both.memory) == (11, 22, 33)
    assert one.times(3) == Costs(3, 6, 9, {"all-reduce": 12.0}, {"all-reduce": 3})
    assert NOTHING.plus(one) == one


def test_products_of_a_compiled_scan():
    def loop(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, length=6)[0]

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((32, 64), (64, 64))]
    text = jax.jit(loop).lower(*shapes).compile().as_text()
    assert program_costs(str(text), devices=1).flops == 6 * 2 * 32 * 64 * 64


def test_collectives_of_a_compiled_sum_over_rows():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    summed = jax.jit(lambda x: x.T @ x, in_shardings=rows, out_shardings=whole)
    compiled = summed.lower(jax.ShapeDtypeStruct((64, 24), np.float32)).compile()
    costs = program_costs(str(compiled.as_text()), devices=8)
    assert costs.flops == 2 * 8 * 24 * 24
    assert costs.sent == {"all-reduce": 2 * 24 * 24 * 4 * 7 / 8}
