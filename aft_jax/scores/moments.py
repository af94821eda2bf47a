"""First and second moments of labelled features: all that most scores need, computed once.

Where rows are fewer than features, the rows are first expressed in an orthonormal basis of the
space that they span: inner products, distances and spectra stay, and no [t, t] array is made.
"""

import dataclasses

import numpy as np

from aft_jax.scores.labelled import BLOCK_ROWS, Labelled


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over the rows, in float64.

    Attributes:
        coordinates: [n, r] the features; or, if n < t, their coordinates in `axes`.
        labels: [n] positions in `classes`.
        classes: [c] class indices that have a row, rising.
        num_classes: k, of the task.
        width: t; r <= t.
        counts: [c] rows of each class.
        means: [c, r] of each class.
        within: [r, r] sum of (x - m_y)(x - m_y)^T, m_y the mean of the row's class.
        within_fourth: sum of |x - m_y|^4.
        total_fourth: sum of |x - m|^4, m the mean of all rows.
        axes: [t, r] orthonormal columns; None where the coordinates are the features.
    """

    coordinates: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    num_classes: int
    width: int
    counts: np.ndarray
    means: np.ndarray
    within: np.ndarray
    within_fourth: float
    total_fourth: float
    axes: np.ndarray | None

    @property
    def rows(self) -> int:
        """The number of rows, n."""
        return len(self.labels)

    @property
    def priors(self) -> np.ndarray:
        """[c] share of each class."""
        return self.counts / self.rows

    @property
    def offsets(self) -> np.ndarray:
        """[c, r] class means less the mean of all rows."""
        return self.means - self.priors @ self.means

    @property
    def total(self) -> np.ndarray:
        """[r, r] sum of (x - m)(x - m)^T."""
        return self.within + (self.offsets.T * self.counts) @ self.offsets

    @property
    def variance(self) -> float:
        """The variance of a feature, averaged over the t of them; 0 for what is but rounding."""
        between = np.sum(self.counts[:, None] * np.square(self.offsets))
        scatter = float(np.trace(self.within) + between)
        # A mean of n equal numbers is off by up to n eps of them.
        largest = np.square(self.rows * np.finfo(np.float64).eps)
        rounding = largest * float(np.sum(self.counts[:, None] * np.square(self.means)))
        return scatter / (self.rows * self.width) if scatter > rounding else 0.0


def moments(data: Labelled) -> Moments:
    """The moments of labelled features.

    Args:
        data: the rows.

    Returns:
        Their moments.
    """
    n, width = data.features.shape
    coordinates, axes = data.features, None
    if n < width:
        coordinates, axes = own_basis(data.features.astype(np.float64))
    means = class_means(coordinates, data.labels, data.counts)
    mean = data.counts / n @ means
    within = np.zeros((coordinates.shape[1],) * 2)
    within_fourth = total_fourth = 0.0
    for start in range(0, n, BLOCK_ROWS):
        block = coordinates[start : start + BLOCK_ROWS].astype(np.float64)
        total_fourth += np.sum(np.square(np.sum(np.square(block - mean), axis=1)))
        block = block - means[data.labels[start : start + BLOCK_ROWS]]
        within_fourth += np.sum(np.square(np.sum(np.square(block), axis=1)))
        within += block.T @ block
    return Moments(
        coordinates=coordinates,
        labels=data.labels,
        classes=data.classes,
        num_classes=data.num_classes,
        width=width,
        counts=data.counts,
        means=means,
        within=within,
        within_fourth=float(within_fourth),
        total_fourth=float(total_fourth),
        axes=axes,
    )


def class_means(features: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of each class, in float64.

    Args:
        features: [n, t].
        labels: [n] below c.
        counts: [c] rows of each class.

    Returns:
        [c, t].
    """
    sums = np.zeros((len(counts), features.shape[1]))
    for start in range(0, len(labels), BLOCK_ROWS):
        block = features[start : start + BLOCK_ROWS].astype(np.float64)
        one_hot = np.equal.outer(np.arange(len(counts)), labels[start : start + BLOCK_ROWS])
        sums += one_hot.astype(np.float64) @ block
    return sums / counts[:, None]


def spectrum(gram: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues of a Gram matrix that are more than rounding, and their vectors.

    Args:
        gram: [r, r] symmetric, positive semi-definite.
        rows: how many products were added up in an entry.

    Returns:
        ([q] eigenvalues, [r, q] orthonormal columns); q is the rank.
    """
    if not len(gram):
        return np.zeros(0), np.zeros((0, 0))
    values, vectors = np.linalg.eigh(gram)
    # Of exact zeros eigh leaves this much.
    limit = np.finfo(np.float64).eps * max(rows, len(gram)) * max(values[-1], 0.0)
    kept = values > limit
    return values[kept], vectors[:, kept]


def shrinkage(fourth: float, scatter: np.ndarray, rows: int, width: int) -> float:
    """How far a covariance is drawn towards a multiple of the identity, by Ledoit and Wolf.

        S = scatter / n,  mu = tr(S) / t
        alpha = min(1, (sum_i |x_i|^4 / n^2 - |S|^2 / n) / |S - mu I|^2)

    Args:
        fourth: sum over the rows of |x|^4, x centred.
        scatter: X^T X, or X X^T, of the centred rows: only its trace and norm count.
        rows: n.
        width: t.

    Returns:
        alpha in [0, 1]; 0 where S is a multiple of the identity already.

    Reference:
        Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices",
        Journal of Multivariate Analysis 88, 2004.
    """
    square = float(np.sum(np.square(scatter))) / rows**2
    distance = square - (float(np.trace(scatter)) / rows) ** 2 / width
    spread = fourth / rows**2 - square / rows
    if distance <= np.finfo(np.float64).eps * square:
        return 0.0
    return min(1.0, max(0.0, spread / distance))


def own_basis(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal basis of the space that fewer rows than features span.

    Args:
        features: [n, t] float64, n < t.

    Returns:
        ([n, r] coordinates, [t, r] axes) with coordinates @ axes.T the features.
    """
    values, vectors = spectrum(features @ features.T, features.shape[1])
    roots = np.sqrt(values)
    return vectors * roots, features.T @ (vectors / roots)
