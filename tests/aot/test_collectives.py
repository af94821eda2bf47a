import pytest

from aft_jax.aot.collectives import group_size
from aft_jax.aot.costs import program_costs

MESH = "replica_groups=mesh['data'=4,'model'=2] {'data'}"


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ("channel_id=1, replica_groups=mesh['axis_0'=16] {'axis_0'}, to_apply=%add", 16),
        (MESH, 4),
        ("replica_groups=mesh['data'=4,'model'=2] {'data','model'}", 8),
        ("replica_groups=[2,4]<=[8], use_global_device_ids=true", 4),
        ("replica_groups=[1,8]<=[4,2]T(1,0)", 8),
        ("replica_groups={{0,1,2},{3,4,5}}", 3),
        ("replica_groups={}", 8),
        ("channel_id=1", 8),
    ],
)
def test_group_of_every_way_of_writing_it(attributes, size):
    assert group_size(attributes, devices=8) == size


def entry(*lines: str, before: str = "") -> str:
    body = "\n".join(f"  {line}" for line in ("%x = f32[64]{0} parameter(0)", *lines))
    return f"{before}ENTRY %main (x: f32[64]) -> f32[64] {{\n{body}\n}}\n"


@pytest.mark.parametrize(
    ("line", "kind", "sent"),
    [
        ("ROOT %a = f32[64]{0} all-reduce(%x), to_apply=%add", "all-reduce", 2 * 256 * 7 / 8),
        ("ROOT %a = f32[512]{0} all-gather(%x), dimensions={0}", "all-gather", 256 * 7),
        ("ROOT %a = f32[8]{0} reduce-scatter(%x), to_apply=%add", "reduce-scatter", 256 * 7 / 8),
        ("ROOT %a = f32[64]{0} all-to-all(%x), dimensions={0}", "all-to-all", 256 * 7 / 8),
        (
            "ROOT %a = f32[64]{0} collective-permute(%x), source_target_pairs={{0,1},{1,0}}",
            "collective-permute",
            256,
        ),
    ],
)
def test_bytes_that_each_device_sends(line, kind, sent):
    costs = program_costs(entry(line), devices=8)
    assert costs.sent == {kind: sent}
    assert costs.calls == {kind: 1}


def test_an_asynchronous_one_counts_once():
    text = entry(
        "%s = (f32[64]{0}, f32[512]{0}) all-gather-start(%x), replica_groups=[1,8]<=[8]",
        "ROOT %d = f32[512]{0} all-gather-done(%s)",
    )
    assert program_costs(text, devices=8).sent == {"all-gather": 256 * 7}


def test_one_in_a_computation_of_its_own_counts_once():
    inner = (
        "%wrapped (p: f32[64]) -> f32[64] {\n  %p = f32[64]{0} parameter(0)\n"
        "  ROOT %a = f32[64]{0} all-reduce(%p), to_apply=%add\n}\n\n"
    )
    text = entry(
        "%s = ((f32[64]{0}), f32[64]{0}, u32[]) async-start(%x), calls=%wrapped",
        "ROOT %d = f32[64]{0} async-done(%s), calls=%wrapped",
        before=inner,
    )
    assert program_costs(text, devices=8).calls == {"all-reduce": 1}


def test_a_sum_of_which_a_part_is_kept_is_a_reduce_scatter():
    inner = (
        "%all-reduce-scatter.1 (p: f32[64]) -> f32[8] {\n  %p = f32[64]{0} parameter(0)\n"
        "  %a = f32[64]{0} all-reduce(%p), to_apply=%add\n"
        "  ROOT %part = f32[8]{0} dynamic-slice(%a, %a), dynamic_slice_sizes={8}\n}\n\n"
    )
    text = entry(
        "ROOT %f = f32[8]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1", before=inner
    )
    assert program_costs(text, devices=8).sent == {"reduce-scatter": 256 * 7 / 8}
