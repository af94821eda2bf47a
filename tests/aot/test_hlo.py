import pytest

from aft_jax.aot.hlo import parse, shapes

TEXT = """HloModule jit_f, entry_computation_layout={(f32[8,128]{1,0})->f32[8,128]{1,0}}

%body.1 (arg: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %arg = (s32[]{:T(128)}, /*index=1*/f32[8,128]{1,0:T(8,128)S(1)}) parameter(0)
  ROOT %out.2 = (s32[], f32[8,128]) tuple(%arg, %arg), metadata={op_name="jit(f)/calls=%no"}
}

ENTRY %main.3 (x: f32[8,128]) -> f32[8,128] {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  %two = s32[] constant(2)
  ROOT %loop = (s32[], f32[8,128]{1,0}) while(%x), condition=%cond.4, body=%body.1
}
"""


def test_computations_and_instructions_are_read():
    program = parse(TEXT)
    assert program.entry == "main.3"
    assert list(program.computations) == ["body.1", "main.3"]
    main = program.computations["main.3"]
    assert list(main.instructions) == ["x", "two", "loop"]
    assert main.root.name == "loop"
    assert main.root.called == ("cond.4", "body.1")
    assert main.instructions["two"].text == "2"
    assert main.instructions["two"].operands == ()
    assert main.parameter(0).name == "x"
    assert [(user.name, place) for user, place in main.users("x")] == [("loop", 0)]


def test_what_metadata_says_is_no_attribute():
    root = parse(TEXT).computations["body.1"].root
    assert root.called == ()
    assert root.operands == ("arg", "arg")


def test_shapes_of_a_tuple_are_flat_with_their_memory():
    counter, array = parse(TEXT).computations["body.1"].parameter(0).shapes
    assert (counter.dtype, counter.dims, counter.on_hbm) == ("s32", (), True)
    assert (array.dtype, array.dims, array.on_hbm) == ("f32", (8, 128), False)


@pytest.mark.parametrize(
    ("text", "size", "padded"),
    [
        ("f32[8,128]{1,0:T(8,128)}", 4096, 4096),
        ("bf16[3,200]{1,0:T(8,128)(2,1)}", 1200, 2 * 8 * 256),
        ("bf16[200,3]{0,1:T(8,128)(2,1)}", 1200, 2 * 8 * 256),
        ("f32[2,5,130]{2,0,1:T(8,128)}", 5200, 4 * 5 * 8 * 256),
        ("f32[]{:T(128)}", 4, 512),
        ("f32[7]{0:T(8,128)}", 28, 4 * 8 * 128),
        ("pred[3,5]{1,0}", 15, 15),
        ("u8[4]", 4, 4),
        ("s4[5]{0}", 3, 3),
        ("f8e4m3fn[6]{0}", 6, 6),
        ("c64[2]{0}", 16, 16),
        ("f32[0,4]{1,0:T(8,128)}", 0, 0),
        ("token[]", 0, 0),
        ("f32[<=8,2]{1,0}", 64, 64),
    ],
)
def test_bytes_with_and_without_the_padding_of_tiles(text, size, padded):
    (shape,) = shapes(text)
    assert (shape.size, shape.padded_size) == (size, padded)


def test_host_memory_is_no_main_memory():
    assert not shapes("f32[8]{0:T(128)S(5)}")[0].on_hbm


def test_a_text_without_entry_is_refused():
    with pytest.raises(ValueError, match="has an ENTRY computation; found none"):
        parse("HloModule nothing\n")
