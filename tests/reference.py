"""AFT in NumPy float64, written from its definition; imports nothing of ours.

Gradients come from central differences where a test needs them; here are only the values.
"""

import numpy as np

EPSILON = 1e-8


def sigmoid(s):
    return 1.0 / (1.0 + np.exp(-np.asarray(s, np.float64)))


def unit_rows(x):
    centred = x - x.mean(axis=0)
    return centred / (np.linalg.norm(centred, axis=1, keepdims=True) + EPSILON)


def cosine_kernel(x):
    rows = unit_rows(np.asarray(x, np.float64))
    return rows @ rows.T


def rbf_kernel(x):
    rows = unit_rows(np.asarray(x, np.float64))
    return np.exp(-np.sum((rows[:, None] - rows[None]) ** 2, axis=-1))


def tensor_product(*factors):
    """[b, t1], [b, t2], ... -> [b, t1 * t2 * ...]."""
    product = np.asarray(factors[0], np.float64)
    for factor in factors[1:]:
        product = np.einsum("bi,bj->bij", product, np.asarray(factor, np.float64))
        product = product.reshape(product.shape[0], -1)
    return product


def aft_loss(scales, student, teachers, kernel="linear", combine="concat"):
    """`teachers` and `scales`: lists, scales as logits [t], matrices [t, s] or None."""
    scaled = []
    for scale, teacher in zip(scales, teachers, strict=True):
        teacher = np.asarray(teacher, np.float64)
        if scale is None:
            scaled.append(teacher)
        elif np.ndim(scale) == 1:
            scaled.append(teacher * sigmoid(scale))
        else:
            scaled.append(teacher @ np.asarray(scale, np.float64))
    features = np.concatenate(scaled, axis=1) if combine == "concat" else tensor_product(*scaled)
    kernel_of = {"linear": cosine_kernel, "rbf": rbf_kernel}[kernel]
    difference = kernel_of(student) - kernel_of(features)
    return np.sqrt(np.mean(difference**2) + EPSILON)


def numerical_gradient(function, x, step=1e-6):
    """Central differences of a scalar function at a float64 array."""
    x = np.array(x, np.float64)
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        for sign in (1.0, -1.0):
            moved = x.copy()
            moved[index] += sign * step
            gradient[index] += sign * function(moved) / (2 * step)
    return gradient
