"""What every student keeps to, whatever module lies behind it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from aft_jax.losses.factors import named_factors
from aft_jax.students import STUDENTS
from aft_jax.types import StudentOutput
from tests.students.conformance import BATCH_NORM, CASES, CLASSES, OPTIONS, ROWS

RNGS = {"dropout": jax.random.key(1)}
SMALL = ("small_cnn", "bag_of_tokens", "small_pair")
"""Too small to have an option `remat`."""


class Compiled:
    """A case with its `apply`, compiled, and its variables."""

    def __init__(self, name, **options):
        case = CASES[name]
        self.name, self.widths = name, case.widths
        self.inputs = case.inputs(ROWS)
        self.student = case.make(**options)
        self.apply = jax.jit(self.student.apply, static_argnums=2)
        first = jax.tree.map(lambda x: x[:1], self.inputs)
        self.variables = jax.jit(self.student.init)(jax.random.key(2), first)

    def __call__(self, train, rngs=None, variables=None, inputs=None):
        inputs = self.inputs if inputs is None else inputs
        return self.apply(
            variables or self.variables, inputs, train, RNGS if rngs is None else rngs
        )


compiled = functools.cache(Compiled)


@pytest.fixture(params=list(CASES))
def case(request):
    return compiled(request.param)


def arrays(features):
    """The arrays of features, one or several factors."""
    return list(named_factors(features).values())


def assert_trees_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_every_architecture_has_a_case():
    assert {architecture for architecture, *_ in OPTIONS.values()} == set(STUDENTS)


@pytest.mark.parametrize("train", [False, True])
def test_output_has_the_declared_shapes(case, train):
    output, _ = case(train)
    assert isinstance(output, StudentOutput)
    assert output.logits.shape == (ROWS, CLASSES)
    assert [x.shape for x in arrays(output.features)] == [(ROWS, width) for width in case.widths]
    assert {x.dtype for x in (output.logits, *arrays(output.features))} == {jnp.dtype("float32")}
    assert np.all(np.isfinite(output.logits))


@pytest.mark.parametrize("train", [False, True])
def test_new_variables_have_the_structure_of_the_old(case, train):
    _, changed = case(train)
    assert jax.tree.structure(changed) == jax.tree.structure(case.variables)
    for new, old in zip(jax.tree.leaves(changed), jax.tree.leaves(case.variables), strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)
    assert_trees_equal(changed["params"], case.variables["params"])


def test_inference_changes_nothing_and_needs_no_randomness(case):
    output, changed = case(False, rngs={})
    assert_trees_equal(changed, case.variables)
    assert_trees_equal(case(False)[0], output)


def test_training_moves_the_statistics_and_nothing_else(case):
    _, changed = case(True)
    moved = [
        jax.tree_util.keystr(path)
        for (path, new), old in zip(
            jax.tree.leaves_with_path(changed), jax.tree.leaves(case.variables), strict=True
        )
        if np.any(new != old)
    ]
    assert bool(moved) == (case.name in BATCH_NORM)
    assert all("params" not in path for path in moved)


def test_inference_treats_every_row_alone(case):
    whole, _ = case(False, rngs={})
    alone, _ = case(False, rngs={}, inputs=jax.tree.map(lambda x: x[2:3], case.inputs))
    for one, many in zip(arrays(alone.features), arrays(whole.features), strict=True):
        np.testing.assert_allclose(many[2:3], one, rtol=1e-4, atol=1e-5)


def test_the_head_reads_the_features(case):
    output, _ = case(False, rngs={})
    head = jax.tree.map(np.asarray, case.variables["params"]["head"])
    product = np.ones((ROWS, 1))
    for factor in arrays(output.features):
        product = np.einsum("bi,bj->bij", product, factor).reshape(ROWS, -1)
    expected = product @ head["kernel"].reshape(-1, CLASSES) + head["bias"]
    np.testing.assert_allclose(output.logits, expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_reaches_every_parameter(case):
    @jax.jit
    @jax.grad
    def gradients(params):
        output, _ = case.student.apply(
            {**case.variables, "params": params}, case.inputs, True, RNGS
        )
        cubes = sum(jnp.mean(x**3) for x in arrays(output.features))
        return jnp.mean(jax.nn.logsumexp(output.logits, axis=1)) + cubes

    for path, gradient in jax.tree.leaves_with_path(gradients(case.variables["params"])):
        assert np.all(np.isfinite(gradient)), path
        assert np.any(gradient), path


def test_the_same_key_gives_the_same_weights_and_another_key_others(case):
    init = jax.jit(case.student.init)
    assert_trees_equal(init(jax.random.key(2), case.inputs), case.variables)
    other = init(jax.random.key(3), case.inputs)
    kernels = (tree["params"]["head"]["kernel"] for tree in (other, case.variables))
    assert np.any(next(kernels) != next(kernels))


def test_the_second_step_compiles_nothing(case):
    apply: Any = jax.jit(case.student.apply, static_argnums=2)
    variables, sizes = case.variables, []
    for step in range(3):
        key = jax.random.fold_in(jax.random.key(3), step)
        inputs = jax.tree.map(lambda x: x[::-1], case.inputs)
        _, variables = apply(variables, inputs, True, {"dropout": key})
        sizes.append(apply._cache_size())  # the jitted function's own counter
    assert sizes[0] == sizes[2]


@functools.cache
def derived(name, dtype):
    """Output and gradients of a case at the weights that it has in float32, at inference."""
    case, student = compiled(name), CASES[name].make(dtype=dtype)
    shapes = jax.eval_shape(student.init, jax.random.key(2), case.inputs)

    def loss(params):
        variables = {**case.variables, "params": params}
        output, _ = student.apply(variables, case.inputs, False, {})
        squares = sum(jnp.mean(jnp.square(x)) for x in arrays(output.features))
        return 1024 * (jnp.mean(jax.nn.logsumexp(output.logits, axis=1)) + squares), output

    return shapes, *jax.jit(jax.grad(loss, has_aux=True))(case.variables["params"])


@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 0.05), ("float16", 0.01)])
@pytest.mark.parametrize("name", list(OPTIONS))
def test_half_precision_is_near_float32_and_keeps_parameters_and_results_in_it(name, dtype, error):
    shapes, gradients, output = derived(name, dtype)
    plain_shapes, plain_gradients, expected = derived(name, "float32")
    assert shapes == plain_shapes
    for tree in (shapes, gradients, output):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    for x, y in zip(arrays(output.features), arrays(expected.features), strict=True):
        assert np.any(x != y)  # it is another computation
        np.testing.assert_allclose(x, y, atol=error * np.abs(y).max())
    ours, theirs = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (gradients, plain_gradients)
    )
    assert np.all(np.isfinite(ours))
    assert np.linalg.norm(ours - theirs) <= 2 * error * np.linalg.norm(theirs)


@pytest.mark.parametrize("name", list(OPTIONS))
def test_an_unknown_dtype_is_refused(name):
    from aft_jax.errors import ConfigError

    with pytest.raises(
        ConfigError, match=r"dtype is one of float32, bfloat16, float16; got 'float8'"
    ):
        CASES[name].make(dtype="float8")


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in SMALL])
def test_rematerialisation_changes_no_gradient(name):
    def gradients(student, variables, inputs):
        def loss(params):
            output, _ = student.apply({**variables, "params": params}, inputs, True, RNGS)
            return jnp.mean(jnp.square(output.logits))

        return jax.jit(jax.grad(loss))(variables["params"])

    plain, remat = compiled(name), compiled(name, remat=True)
    expected = gradients(plain.student, plain.variables, plain.inputs)
    actual = gradients(remat.student, plain.variables, plain.inputs)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), actual, expected
    )


@pytest.mark.parametrize("name", ["vit", "bert", "resnet", "mobilenet_v4", "clip_resnet"])
def test_eight_devices_give_what_one_gives(name):
    """Batch norm is over the global batch; so are the gradients, and the statistics that move."""
    case = CASES[name]
    student, inputs = case.make(**({"dropout": 0.0} if name == "bert" else {})), case.inputs(8)
    variables = jax.jit(student.init)(jax.random.key(2), inputs)

    def step(variables, inputs):
        def loss(params):
            output, changed = student.apply({**variables, "params": params}, inputs, True, RNGS)
            return jnp.mean(jnp.square(output.logits)), (output.logits, changed)

        return jax.grad(loss, has_aux=True)(variables["params"])

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    everywhere, rows = (NamedSharding(mesh, spec) for spec in (P(), P("data")))
    spread = jax.jit(step, out_shardings=everywhere)(
        jax.device_put(variables, everywhere), jax.device_put(inputs, rows)
    )
    alone = jax.jit(step)(variables, inputs)
    for actual, expected in zip(jax.tree.leaves(spread), jax.tree.leaves(alone), strict=True):
        largest = np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4 * largest + 1e-7)
