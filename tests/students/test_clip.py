"""CLIP with two towers as a student: its head, its texts, its dtypes, and what it refuses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.students.clip import clip
from aft_jax.students.clip_resnet import average_pool
from aft_jax.students.layers.bilinear import Bilinear
from aft_jax.students.student import from_linen
from tests.losses.test_structure import array_shapes

RNG = np.random.default_rng(0)
TEXT = {"vocab_size": 20, "positions": 6, "width": 8, "depth": 2, "heads": 2, "hidden": 12}
VIT = {"image_size": 8, "patch_size": 4, "width": 8, "depth": 2, "heads": 2, "hidden": 12}
VIT |= {"kind": "vit"}
RESNET = {"kind": "resnet", "image_size": 32, "depths": [1, 1, 1, 1], "width": 2, "heads": 4}
IMAGES = {"vit": VIT, "resnet": RESNET}
LENGTHS = np.array([6, 3, 1, 0])


def inputs_of(size, batch=4, length=6):
    real = np.arange(length) < np.resize(LENGTHS, batch)[:, None]
    inputs = {
        "image": RNG.normal(size=(batch, size, size, 3)).astype(np.float32),
        "input_ids": RNG.integers(0, 20, (batch, length), dtype=np.int32),
        "attention_mask": real.astype(np.int32),
    }
    return jax.tree.map(jnp.asarray, inputs)


def student_of(kind, projection=5, **options):
    return from_linen(clip(3, image=IMAGES[kind], text=TEXT, projection=projection, **options))


def compiled(student):
    return jax.jit(student.apply, static_argnums=2)


@pytest.fixture(scope="module", params=IMAGES)
def case(request):
    """(kind, compiled `apply`, variables, inputs)"""
    student, inputs = student_of(request.param), inputs_of(IMAGES[request.param]["image_size"])
    variables = jax.jit(student.init)(jax.random.key(0), inputs)
    return request.param, compiled(student), variables, inputs


@pytest.mark.parametrize("gradient", [False, True])
def test_the_outer_product_is_never_built(gradient):
    batch, width = 32, 64
    student, inputs = student_of("vit", width), inputs_of(8, batch)
    variables = jax.eval_shape(student.init, jax.random.key(0), inputs)

    def loss(params):
        output, _ = student.apply({"params": params}, inputs, True, {})
        return jnp.sum(output.logits**2) + sum(jnp.sum(f**2) for f in output.features.values())

    function = jax.grad(loss) if gradient else loss
    shapes = array_shapes(jax.jit(function).lower(variables["params"]))
    assert (width, width, 3) in shapes
    assert (batch, width) in shapes
    assert max(map(math.prod, shapes)) < batch * width * width


def test_the_head_at_its_start_keeps_the_scale_of_its_features():
    x, y = jax.random.normal(jax.random.key(1), (2, 64, 512))
    logits, _ = Bilinear(3).init_with_output(jax.random.key(0), x, y)
    assert 0.5 < float(jnp.std(logits)) < 2


def text_of(case, **changes):
    _, apply, variables, inputs = case
    return np.asarray(apply(variables, inputs | changes, False, {})[0].features["text"])


def test_nothing_at_padding_is_read(case):
    inputs = case[3]
    real = inputs["attention_mask"] > 0
    other = np.where(real, inputs["input_ids"], 10**6)
    np.testing.assert_array_equal(text_of(case, input_ids=other), text_of(case))
    shorter = {name: inputs[name][:, :3] for name in ("input_ids", "attention_mask")}
    np.testing.assert_allclose(
        text_of(case, **shorter)[1:], text_of(case)[1:], rtol=1e-4, atol=1e-6
    )


def test_every_token_up_to_the_last_is_read_in_order(case):
    ids = case[3]["input_ids"]
    for position in range(3):
        changed = ids.at[:, position].set((ids[:, position] + 1) % 20)
        differ = np.any(text_of(case, input_ids=changed) != text_of(case), axis=1)
        np.testing.assert_array_equal(differ, position < LENGTHS)
    swapped = ids.at[1, :2].set(ids[1, 1::-1])
    assert ids[1, 0] != ids[1, 1]
    assert np.any(text_of(case, input_ids=swapped)[1] != text_of(case)[1])


def test_ids_beyond_the_vocabulary_give_nan(case):
    ids = case[3]["input_ids"].at[1, 1].set(20)
    assert np.isnan(text_of(case, input_ids=ids)).any(axis=1).tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_training_in_bfloat16_with_remat(case):
    kind, apply, variables, inputs = case
    plain_step = apply(variables, inputs, True, {})
    half = student_of(kind, dtype="bfloat16", remat=True)

    def loss(params):
        output, changed = half.apply(variables | {"params": params}, inputs, True, {})
        return jnp.sum(output.logits), (output, changed)

    with jax.numpy_dtype_promotion("standard"):  # JAX's own attention needs it for its gradient
        gradient, half_step = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    for leaf in jax.tree.leaves((gradient, half_step)):
        assert leaf.dtype == jnp.float32
        assert np.all(np.isfinite(leaf))
    # Statistics of a block that is computed again for its gradient move once, from ones and zeros.
    moved, expected = (step[1].get("batch_stats") for step in (half_step, plain_step))
    for actual, wanted in zip(jax.tree.leaves(moved), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.02, atol=0.01)


def test_an_image_tower_is_clips_unless_options_say_otherwise():
    tower = clip(3, image=VIT, text=TEXT).tower.image
    assert (tower.pre_norm, tower.patch_bias, tower.pooling) == (True, False, "cls")
    assert (tower.activation, tower.epsilon) == ("quick_gelu", 1e-5)
    assert clip(3, image=VIT | {"activation": "gelu"}, text=TEXT).tower.image.activation == "gelu"


def test_average_pool():
    x = np.arange(2 * 5 * 4).reshape(1, 5, 4, 2).astype(np.float32)
    expected = [[[5, 6], [9, 10]], [[21, 22], [25, 26]]]
    np.testing.assert_array_equal(average_pool(jnp.asarray(x), 2)[0], expected)


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_another_size(kind):
    student, size = student_of(kind), IMAGES[kind]["image_size"]
    with pytest.raises(ValueError, match=r"got 64 x 64. Set config.inputs.image_size to"):
        jax.eval_shape(student.init, jax.random.key(0), inputs_of(64))
    assert size != 64


def test_longer_texts():
    with pytest.raises(
        ValueError, match=r"positions tokens, 6; got texts of 7. Set config.inputs.max_le"
    ):
        jax.eval_shape(student_of("vit").init, jax.random.key(0), inputs_of(8, length=7))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": 3}, "image is a mapping with the options of a tower; got 3"),
        ({"image": VIT | {"kind": "swin"}}, "image.kind is one of 'vit', 'resnet'; got 'swin'"),
        ({"image": {}}, "image.kind is one of 'vit', 'resnet'; got None"),
        ({"image": VIT | {"heads": 3}}, "image: width is a multiple of heads; got 8 for 3"),
        ({"image": VIT | {"dtype": "float32"}}, "image: .*multiple values .*'dtype'"),
        ({"image": RESNET | {"image_size": 40}}, "image: image_size is a multiple of 32.*Take 64"),
        ({"image": RESNET | {"depths": [1, 1]}}, "image: depths are those of 4 stages; got 2"),
        ({"image": RESNET | {"width": 3}}, "image: width is even, .*96 channels.* got width 3"),
        ({"image": RESNET | {"heads": 5}}, "image: .*divide the 64 channels.*and 5 heads"),
        ({"text": TEXT | {"positions": 0}}, "text: positions is a positive integer; got 0"),
        ({"text": TEXT | {"activation": "elu"}}, "text: activation is one of .* got 'elu'"),
        ({"text": TEXT | {"layers": 2}}, "text: .*unexpected keyword argument 'layers'"),
        ({"projection": 1.5}, "projection is a positive integer; got 1.5"),
        ({"remat": 1}, "remat is True or False; got 1"),
        ({"dtype": "float8"}, "dtype is one of float32, bfloat16, float16; got 'float8'"),
    ],
)
def test_options_that_fit_nothing(changes, message):
    with pytest.raises(ValueError, match=message):
        clip(3, **{"image": VIT, "text": TEXT} | changes)
