import pytest

from aft_jax.aot.hlo import parse
from aft_jax.aot.traffic import memory_bytes

MAIN, CORE = "{1,0}", "{1,0:S(1)}"
KIB = 4 * 16 * 16  # of an f32[16,16]


def moved(*lines: str, before: str = "") -> int:
    """Bytes of the last line, in a program whose x, y and i are two arrays and a number."""
    start = (
        f"%x = f32[16,16]{MAIN} parameter(0)",
        f"%y = f32[16,16]{CORE} parameter(1)",
        "%i = s32[] parameter(2)",
    )
    body = "\n".join(f"  {line}" for line in (*start, *lines))
    program = parse(f"{before}ENTRY %main (x: f32[16,16]) -> f32[16,16] {{\n{body}\n}}\n")
    inside = program.computations["main"]
    return memory_bytes(inside.root, inside, program)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"ROOT %out = f32[16,16]{MAIN} add(%x, %x)", 3 * KIB),
        (f"ROOT %out = f32[16,16]{MAIN} add(%x, %y)", 2 * KIB),
        (f"ROOT %out = f32[16,16]{CORE} add(%y, %y)", 0),
        (f"ROOT %out = f32[16,16]{MAIN} bitcast(%x)", 0),
        (f"ROOT %out = f32[2,16]{MAIN} slice(%x), slice={{[0:2], [0:16]}}", 2 * KIB // 8),
        (f"ROOT %out = f32[2,16]{MAIN} dynamic-slice(%x, %i, %i)", 2 * KIB // 8 + 2 * 4),
        (f"ROOT %out = f32[2,16]{CORE} dynamic-slice(%y, %i, %i)", 2 * 4),
        (
            f"ROOT %out = (f32[16,16]{CORE}, f32[16,16]{MAIN}, u32[]) copy-start(%x)",
            KIB,
        ),
        (
            f"ROOT %out = ((f32[16,16]{MAIN}), f32[2,16]{CORE}, s32[]) slice-start(%x)",
            KIB // 8,
        ),
        (f'ROOT %out = f32[16,16]{MAIN} custom-call(), custom_call_target="AllocateBuffer"', 0),
        (f'ROOT %out = f32[16,16]{MAIN} custom-call(%x), custom_call_target="Mine"', 2 * KIB),
        (f"ROOT %out = (f32[16,16]{MAIN}, s32[]) while(%x), condition=%c, body=%b", 0),
    ],
)
def test_bytes_of_an_instruction(line, expected):
    assert moved(line) == expected


def test_what_is_waited_for_was_counted_at_its_start():
    start = f"%s = (f32[16,16]{CORE}, f32[16,16]{MAIN}, u32[]) copy-start(%x)"
    assert moved(start, f"ROOT %out = f32[16,16]{CORE} copy-done(%s)") == 0


def test_an_update_in_place_moves_what_changes():
    row = f"%row = f32[1,16]{MAIN} slice(%x), slice={{[0:1], [0:16]}}"
    update = f"ROOT %out = f32[16,16]{MAIN} dynamic-update-slice(%x, %row, %i, %i)"
    assert moved(row, update) == 2 * 64


FUSED = """%fused (p: f32[16,16], q: s32[]) -> (f32[2,16], f32[16,16]) {{
  %p = f32[16,16]{{1,0}} parameter(0)
  %q = s32[] parameter(1)
  %part = f32[2,16]{{1,0}} dynamic-slice(%p, %q, %q)
  %more = f32[2,16]{{1,0}} add(%part, %part)
  {result}
}}

"""


def fusion(result: str, shape: str) -> int:
    line = f"ROOT %out = {shape} fusion(%x, %i), kind=kLoop, calls=%fused"
    return moved(line, before=FUSED.format(result=result))


def test_a_fusion_reads_the_slice_that_it_takes():
    result = "ROOT %r = f32[2,16]{1,0} negate(%more)"
    assert fusion(result, f"f32[2,16]{MAIN}") == 2 * 128 + 4


def test_a_fusion_that_reads_all_beside_a_slice_reads_all():
    result = "ROOT %r = (f32[2,16], f32[16,16]) tuple(%more, %p)"
    assert fusion(result, f"(f32[2,16]{MAIN}, f32[16,16]{MAIN})") == KIB + 4 + 128 + KIB


def test_a_fusion_that_updates_its_operand_moves_what_changes():
    result = "ROOT %r = f32[16,16]{1,0} dynamic-update-slice(%p, %more, %q, %q)"
    assert fusion(result, f"f32[16,16]{MAIN}") == 128 + 4 + 128


def test_results_of_a_fusion_count_where_they_are():
    result = "ROOT %r = (f32[2,16], f32[2,16]) tuple(%part, %more)"
    assert fusion(result, f"(f32[2,16]{CORE}, f32[2,16]{MAIN})") == 128 + 4 + 128


def test_a_fusion_in_a_fusion_is_looked_into():
    outer = (
        "%outer (p: f32[16,16], q: s32[]) -> f32[2,16] {\n"
        "  %p = f32[16,16]{1,0} parameter(0)\n  %q = s32[] parameter(1)\n"
        "  %b = f32[16,16]{1,0} bitcast(%p)\n"
        "  ROOT %r = f32[2,16]{1,0} fusion(%b, %q), kind=kLoop, calls=%fused\n}\n\n"
    )
    inner = FUSED.format(result="ROOT %r = f32[2,16]{1,0} negate(%more)")
    line = f"ROOT %out = f32[2,16]{MAIN} fusion(%x, %i), kind=kOutput, calls=%outer"
    assert moved(line, before=inner + outer) == 2 * 128 + 4


@pytest.mark.parametrize(
    ("result", "read"),
    [
        ("ROOT %r = f32[16,16]{1,0} negate(%f)", KIB),
        ("ROOT %r = f32[2,16]{1,0} slice(%f), slice={[0:2], [0:16]}", KIB // 8),
    ],
)
def test_what_a_fusion_hands_on_is_followed(result, read):
    """A product's operands come through fusions that are bitcasts alone."""
    handed_on = (
        "%on (p: f32[16,16]) -> f32[16,16] {\n  %p = f32[16,16]{1,0} parameter(0)\n"
        "  ROOT %b = f32[16,16]{1,0} bitcast(%p)\n}\n\n"
    )
    outer = (
        "%outer (p: f32[16,16]) -> f32[16,16] {\n  %p = f32[16,16]{1,0} parameter(0)\n"
        f"  %f = f32[16,16]{{1,0}} fusion(%p), kind=kLoop, calls=%on\n  {result}\n}}\n\n"
    )
    line = f"ROOT %out = f32[16,16]{CORE} fusion(%x), kind=kOutput, calls=%outer"
    assert moved(line, before=handed_on + outer) == read
