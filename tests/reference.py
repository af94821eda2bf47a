"""AFT and its baselines in NumPy float64, from their definitions; imports nothing of ours.

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


def no_kernel_loss(weight, bias, student, teacher):
    difference = student - (teacher @ weight + bias)
    return np.mean((difference - difference.mean(axis=0)) ** 2)


def kkd_loss(weight, bias, student, teacher):
    return aft_loss([None], student @ weight + bias, [teacher])


def kd_loss(weight, bias, student, teacher):
    return np.mean((student @ weight + bias - teacher) ** 2)


def smooth_l1(x):
    return np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5)


def directions(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def relations(x):
    """Distances over their mean, and angles [i, j, k] at row i, from all differences of rows."""
    differences = np.asarray(x, np.float64)[None] - np.asarray(x, np.float64)[:, None]
    distances = np.linalg.norm(differences, axis=-1)
    if distances.any():
        distances = distances / distances[distances > 0].mean()
    units = directions(differences)
    return distances, np.einsum("ijc,ikc->ijk", units, units)


def rkd_loss(student, teacher, angle_weight=2.0):
    (d, a), (d_t, a_t) = relations(student), relations(teacher)
    return (np.mean(smooth_l1(d - d_t)) + angle_weight * np.mean(smooth_l1(a - a_t))) / 2


def ft_loss(layers, student, teacher):
    """`layers`: three pairs (weight, bias)."""
    hidden = student
    for weight, bias in layers[:-1]:
        hidden = np.maximum(hidden @ weight + bias, 0)
    weight, bias = layers[-1]
    predicted = hidden @ weight + bias
    return np.mean(np.sum(np.abs(directions(predicted) - directions(teacher)), axis=1))


def btune_loss(student_weights, teacher_weights, scores, student, teachers):
    """`teacher_weights`, `scores` and `teachers`: lists, one entry a teacher."""
    shares = np.exp(np.asarray(scores) / 0.1)
    shares = shares / shares.sum()
    target = sum(
        w * teacher @ m.T for w, teacher, m in zip(shares, teachers, teacher_weights, strict=True)
    )
    return np.mean((student @ student_weights.T - target) ** 2)


def spkd_loss(student, teacher):
    kernels = [np.asarray(x, np.float64) @ np.asarray(x, np.float64).T for x in (student, teacher)]
    norms = [np.linalg.norm(kernel, axis=1, keepdims=True) for kernel in kernels]
    own, theirs = (k / np.where(n > 0, n, 1) for k, n in zip(kernels, norms, strict=True))
    return np.sum((own - theirs) ** 2) / len(student) ** 2


def cka_loss(student, teacher):
    centred = [np.asarray(x, np.float64) - np.mean(x, axis=0) for x in (student, teacher)]
    own, theirs = (x @ x.T for x in centred)
    return 1 - np.sum(own * theirs) / (np.linalg.norm(own) * np.linalg.norm(theirs))


def logit_distillation_loss(student, teacher, temperature):
    p, q = (np.exp(x / temperature) for x in (teacher, student))
    p, q = (x / x.sum(axis=1, keepdims=True) for x in (p, q))
    return temperature**2 * np.mean(np.sum(p * np.log(p / q), axis=1))


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
