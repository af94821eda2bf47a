"""Public weights to our variables and back, tensor by tensor, along a format's table of names."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from flax import traverse_util

from aft_jax.errors import UsageError
from aft_jax.students.layers.head import HEAD
from aft_jax.students.pretrained.format import Format
from aft_jax.students.pretrained.names import Place, places
from aft_jax.students.pretrained.positions import resized_positions
from aft_jax.types import PyTree

_LOG = logging.getLogger(__name__)

LISTED = 8
"""Names that an error lists of each kind; the rest are counted."""

COUNTER = ".num_batches_tracked"
"""A number of torch's batch norm that nothing reads; written as zero."""


@runtime_checkable
class StoredTensor(Protocol):
    """A tensor in a file, not read yet."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    def read(self) -> np.ndarray:
        """Its values."""
        ...


def load_public(
    tensors: Mapping[str, StoredTensor],
    form: Format,
    variables: PyTree,
    source: str,
    with_head: bool = False,
) -> PyTree:
    """Variables with a public checkpoint's weights; each tensor is read when it is placed.

    Args:
        tensors: of the checkpoint, by name.
        form: its format.
        variables: of the student, with random weights; or their shapes alone.
        source: the checkpoint, for messages.
        with_head: whether the classifier is the checkpoint's; else it stays as it is.

    Returns:
        The variables; those that the checkpoint has are NumPy arrays in the dtypes of those given.

    Raises:
        UsageError: the checkpoint lacks a tensor, has one too many or one of another shape; all of
            them are named.
    """
    flat: dict[str, Any] = traverse_util.flatten_dict(variables, sep="/")
    shapes = {path: array.shape for path, array in flat.items()}
    body, head = places(form.rows, shapes), places(form.head, shapes)
    known = body | head
    found = {form.canonical(name, known): tensor for name, tensor in tensors.items()}
    wanted = known if with_head else body
    _check(found, wanted, known, shapes, form, source)
    filled: dict[str, np.ndarray] = {}
    for name in wanted.keys() & found.keys():
        place = wanted[name]
        array = flat[place.path]
        # NaN until its last part has come: a gap in a table shows at the first step.
        if place.path not in filled:
            filled[place.path] = np.full(array.shape, np.nan, array.dtype)
        target = place.view(filled[place.path])
        value = _fitted(found[name], place, shapes, form).astype(target.dtype)
        target[...] = place.tensor.from_torch(value, target.shape)
    _report(found, wanted, head, source)
    return traverse_util.unflatten_dict(flat | filled, sep="/")


def public_tensors(variables: PyTree, form: Format) -> dict[str, np.ndarray]:
    """A student's weights under the names of the checkpoint it came from.

    Args:
        variables: of the student.
        form: the format.

    Returns:
        Name -> tensor in torch's layout.
    """
    flat = {
        path: np.asarray(array)
        for path, array in traverse_util.flatten_dict(variables, sep="/").items()
    }
    shapes = {path: array.shape for path, array in flat.items()}

    def named(rows: Any, prefix: str) -> dict[str, np.ndarray]:
        return {
            prefix + name: np.ascontiguousarray(place.tensor.to_torch(place.view(flat[place.path])))
            for name, place in places(rows, shapes).items()
        }

    written = named(form.rows, form.prefix) | named(form.head, "")
    means = [name for name in written if name.endswith(".running_mean")]
    counters = {
        name.removesuffix(".running_mean") + COUNTER: np.zeros((), np.int64) for name in means
    }
    return written | counters


def _fitted(
    tensor: StoredTensor, place: Place, shapes: Mapping[str, tuple[int, ...]], form: Format
) -> np.ndarray:
    """The tensor, its positions resized where they are those of another image size."""
    value, shape = tensor.read(), place.torch_shape(shapes[place.path])
    if value.shape == shape:
        return value
    table = value.reshape(value.shape[-2:]).astype(np.float32)
    return resized_positions(table, shape[-2], form.antialias).reshape(shape)


def _fits(tensor: StoredTensor, place: Place, shape: tuple[int, ...]) -> bool:
    if tuple(tensor.shape) == shape:
        return True
    if not place.tensor.resizable:
        return False
    same = tuple(tensor.shape[:-2]) == shape[:-2] and tensor.shape[-1] == shape[-1]
    return same and _resizable(tensor.shape[-2], shape[-2])


def _resizable(old: int, new: int) -> bool:
    try:
        resized_positions(np.zeros((old, 1)), new, antialias=False)
    except ValueError:
        return False
    return True


def _check(
    found: Mapping[str, StoredTensor],
    wanted: Mapping[str, Place],
    known: Mapping[str, Place],
    shapes: Mapping[str, tuple[int, ...]],
    form: Format,
    source: str,
) -> None:
    ignored = re.compile("|".join((*form.ignored, re.escape(COUNTER) + "$")))
    missing = [name for name, place in wanted.items() if name not in found and not place.optional]
    unexpected = [name for name in found if name not in known and not ignored.search(name)]
    wrong = []
    for name in wanted.keys() & found.keys():
        shape = wanted[name].torch_shape(shapes[wanted[name].path])
        if not _fits(found[name], wanted[name], shape):
            wrong.append(f"{name} {tuple(found[name].shape)} instead of {shape}")
    if missing or unexpected or wrong:
        raise UsageError(
            f"{source} has the tensors of a {form.student} student with these options, under the "
            f"names of {form.name}. Missing: {_listed(missing)}; unexpected: {_listed(unexpected)};"
            f" mis-shaped: {_listed(wrong)}. Look at config.student.options, or at what the "
            "checkpoint is."
        )


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(sorted(names)[:LISTED]) + rest if names else "none"


def _report(
    found: Mapping[str, StoredTensor],
    wanted: Mapping[str, Place],
    head: Mapping[str, Place],
    source: str,
) -> None:
    fresh = [name for name, place in wanted.items() if place.optional and name not in found]
    if fresh:
        _LOG.info("%s has no %s: they start from random weights", source, _listed(fresh))
    replaced = [f"{name} {tuple(found[name].shape)}" for name in head if name in found]
    if replaced and not set(head) <= set(wanted):
        _LOG.info(
            "%s: its classifier (%s) is replaced by a new %r",
            source,
            ", ".join(replaced),
            HEAD,
        )
