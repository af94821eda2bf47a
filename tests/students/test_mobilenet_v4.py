import jax
import jax.numpy as jnp
import pytest

from aft_jax.students.mobilenet_v4 import mobilenet_v4
from aft_jax.students.student import from_linen

CONVOLUTION = {"kind": "convolution", "kernel": 3, "stride": 2, "channels": 8}
FUSED = {"kind": "fused", "kernel": 3, "stride": 2, "expansion": 2, "channels": 8}
UNIVERSAL = {
    **{"kind": "universal", "start": 3, "middle": 5},
    **{"stride": 1, "expansion": 2, "channels": 8},
}
OPTIONS = {"stem": 8, "head_width": 16, "blocks": [[CONVOLUTION], [FUSED, UNIVERSAL]]}


def test_bfloat16_keeps_parameters_features_and_logits_in_float32():
    images = jax.random.normal(jax.random.key(1), (4, 20, 20, 3))
    variables, outputs = None, []
    for dtype in ("float32", "bfloat16"):
        student = from_linen(mobilenet_v4(3, **OPTIONS, dtype=dtype))
        if variables is None:
            variables = student.init(jax.random.key(0), images)
        output, changed = jax.jit(student.apply, static_argnums=2)(variables, images, True, {})
        assert {leaf.dtype for leaf in jax.tree.leaves((changed, output))} == {jnp.dtype("float32")}
        assert output.features.shape == (4, 16)
        outputs.append(output.features)
    assert 0 < jnp.abs(outputs[0] - outputs[1]).max() < 0.1 * jnp.abs(outputs[0]).max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem": 0}, "stem is a positive integer; got 0"),
        ({"head_width": "x"}, "head_width is a positive integer; got 'x'"),
        ({"remat": 1}, "remat is True or False; got 1"),
        ({"dtype": "float8"}, "dtype is one of float32, bfloat16, float16; got 'float8'"),
        ({"blocks": []}, r"blocks is a list of stages; got \[\]"),
        ({"blocks": [[UNIVERSAL], []]}, r"blocks\[1\] is a list of blocks; got \[\]"),
        ({"blocks": [UNIVERSAL]}, r"blocks\[0\] is a list of blocks; got {'kind'"),
        ({"blocks": [[UNIVERSAL, 3]]}, r'blocks\[0\]\[1\] is a mapping with a "kind"; got 3'),
    ],
)
def test_options_of_another_form(changes, message):
    with pytest.raises(ValueError, match=message):
        mobilenet_v4(3, **(OPTIONS | changes))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"kind": "mbconv"}, "kind is one of 'convolution', 'fused', 'universal'; got 'mbconv'"),
        (
            FUSED | {"start": 3},
            "of kind 'fused', has the keys kind, kernel, stride, .*; got .*start",
        ),
        (CONVOLUTION | {"channels": 1.5}, "channels is a positive integer; got 1.5"),
        (CONVOLUTION | {"kernel": 0}, "kernel is an odd number of pixels; got 0"),
        (UNIVERSAL | {"start": 4}, "start is an odd number of pixels, or 0 for none; got 4"),
        (UNIVERSAL | {"middle": True}, "middle is an odd number of pixels.*; got True"),
        (
            UNIVERSAL | {"start": 0, "middle": 0, "stride": 2},
            "has a window to move by its stride of 2; got start and middle 0. Set one of them",
        ),
    ],
)
def test_a_block_of_another_form(block, message):
    with pytest.raises(ValueError, match=rf"blocks\[0\]\[1\].*{message}"):
        mobilenet_v4(3, stem=8, blocks=[[UNIVERSAL, block]])
