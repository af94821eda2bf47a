"""The form for long batches: the same sum, when it is taken, what its cancellation costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax import aft_loss
from aft_jax.losses.squares import MOMENT_CROSSOVER, squares_by_kernel, squares_by_moment
from tests import reference

EPS32 = float(np.finfo(np.float32).eps)


def features(batch, d, t, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, d)) + 0.5, rng.normal(size=(batch, t)) - 0.5


def squares_of_one_teacher(student, teacher, mask):
    return squares_by_kernel([student], [teacher], mask)


@pytest.mark.parametrize("batch", [5, 40])
@pytest.mark.parametrize("kept", [1.0, 0.6])
def test_both_forms_give_the_same_sum_and_gradients(batch, kept, x64):
    student, teacher = features(batch, 4, 7)
    counted = np.random.default_rng(1).random(batch) <= kept
    mask = jnp.asarray(counted, jnp.float64)

    @jax.jit
    def both(*arguments):
        forms = (squares_of_one_teacher, squares_by_moment)
        return [jax.value_and_grad(squares, (0, 1))(*arguments) for squares in forms]

    (expected, want), (actual, have) = both(student, teacher, mask)
    kernels = [reference.cosine_kernel(x[counted]) for x in (student, teacher)]
    assert float(expected) == pytest.approx(np.sum((kernels[0] - kernels[1]) ** 2), rel=1e-12)
    assert float(actual) == pytest.approx(float(expected), rel=1e-12)
    for a, b in zip(have, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.max(np.abs(b)))


@pytest.mark.parametrize("options", [{}, {"kernel": "rbf"}, {"combine": "product"}])
def test_the_loss_takes_it_for_long_batches_of_linear_kernels(options):
    widths = {"a": 5, "b": 6}

    def lowered(batch):
        shape = jax.ShapeDtypeStruct
        scales = {name: shape((width,), jnp.float32) for name, width in widths.items()}
        teachers = {name: shape((batch, width), jnp.float32) for name, width in widths.items()}
        gradients = jax.jit(jax.value_and_grad(lambda *args: aft_loss(*args, **options), (0, 1)))
        return gradients.lower(scales, shape((batch, 4), jnp.float32), teachers).as_text()

    longest = int(MOMENT_CROSSOVER * (4 + 5 + 6))
    assert f"(tensor<{longest}x4xf32>, tensor<{longest}x4xf32>)" in lowered(longest)
    longer = longest + 1
    assert (f"tensor<{longer}x{longer}xf32>" in lowered(longer)) == bool(options)


def value_and_gradients(squares):
    """R and its gradients (student, teacher) from one form of the sum."""

    def loss(student, teacher):
        total = squares(student, teacher, jnp.ones_like(student[:, 0]))
        return jnp.sqrt(total / student.shape[0] ** 2 + 1e-8)

    return jax.jit(jax.value_and_grad(loss, (0, 1)))


by_kernel = value_and_gradients(squares_of_one_teacher)
by_moment = value_and_gradients(squares_by_moment)


@pytest.mark.parametrize("noise", [1.0, 1e-1, 1e-2, 1e-3, 0.0])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_cancellation_in_float32_is_bounded(noise, offset):
    rng = np.random.default_rng(0)
    teacher = (rng.normal(size=(256, 16)) + offset).astype(np.float32)
    student = (teacher + noise * rng.normal(size=(256, 16))).astype(np.float32)
    loss, grads = by_moment(student, teacher)

    kernels = [reference.cosine_kernel(x) for x in (student, teacher)]
    exact = np.mean((kernels[0] - kernels[1]) ** 2) + 1e-8
    size = sum(np.mean(kernel**2) for kernel in kernels)
    # The terms that cancel are sums of squared moments, at most 2 `size` together. Each is wrong by
    # about an ulp: twice a moment's rounding and once the square's, averaged by the sum. Worst seen
    # over widths 8 to 256, offsets 0 to 5 and every noise: 1.2 of these 4.
    error = 4 * EPS32 * size
    assert abs(float(loss) ** 2 - exact) <= error + EPS32 * exact

    if noise < 1e-3:
        return
    with jax.enable_x64(True):
        _, exact_grads = by_kernel(student.astype(np.float64), teacher.astype(np.float64))
    # R in the gradient's denominator carries the error above, halved by the square root.
    allowed = error / exact + 16 * EPS32
    for grad, expected in zip(grads, exact_grads, strict=True):
        grad, expected = np.asarray(grad, np.float64), np.asarray(expected)
        assert np.linalg.norm(grad - expected) <= allowed * np.linalg.norm(expected)
        # What suffers is the length: the direction is as good as ever.
        cosine = np.vdot(grad, expected) / np.linalg.norm(grad) / np.linalg.norm(expected)
        assert cosine >= 1 - 1e-6
