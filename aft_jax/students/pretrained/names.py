"""Tables of names: which tensor of a torch checkpoint is which part of our variables.

A row pairs a torch module with one of ours and says what kind of layer both are:

    Row("blocks.{i}.attn.proj", "tower/blocks/attention/out", LINEAR)

stands for `blocks.0.attn.proj.weight` [out, in], which is row 0 of our
`params/tower/blocks/attention/out/kernel` [depth, in, out], transposed, and so on for its bias and
every block. A brace that stands on both sides counts modules of ours ("layer{s}_{i}"); one on the
left only counts the first axis of a stacked array.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Part(NamedTuple):
    """One tensor of a layer.

    Attributes:
        theirs: what follows the module's name in torch.
        collection: of our variables, "params" or "batch_stats".
        leaf: last name of our path; empty where the row names the array itself.
        to_torch: our array -> torch's layout.
        from_torch: (torch's array, shape of ours) -> our array.
        resizable: whether it holds positions of a grid, which another image size interpolates.
    """

    theirs: str
    collection: str
    leaf: str
    to_torch: Callable[[np.ndarray], np.ndarray]
    from_torch: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
    resizable: bool = False


def _flat(ours: np.ndarray) -> np.ndarray:
    return ours.reshape(-1)


def _shaped(theirs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return theirs.reshape(shape)


def _weight(to_torch: Any, from_torch: Any) -> Part:
    return Part(".weight", "params", "kernel", to_torch, from_torch)


_BIAS = Part(".bias", "params", "bias", _flat, _shaped)
_SCALE = Part(".weight", "params", "scale", _flat, _shaped)

# A kernel of ours is [in, out] or [in, 3, heads, width]; torch's weight is [out, in].
LINEAR = (
    _weight(lambda x: x.reshape(x.shape[0], -1).T, lambda x, shape: x.T.reshape(shape)),
    _BIAS,
)
CONVOLUTION = (
    _weight(lambda x: x.transpose(3, 2, 0, 1), lambda x, shape: x.transpose(2, 3, 1, 0)),
    _BIAS,
)
POINTWISE = (
    _weight(lambda x: x.T[:, :, None, None], lambda x, shape: x[:, :, 0, 0].T),
    _BIAS,
)
DEPTHWISE = (
    _weight(lambda x: x.transpose(2, 0, 1)[:, None], lambda x, shape: x[:, 0].transpose(1, 2, 0)),
    _BIAS,
)
NORM = (_SCALE, _BIAS)
BATCH_NORM = (
    *NORM,
    Part(".running_mean", "batch_stats", "mean", _flat, _shaped),
    Part(".running_var", "batch_stats", "var", _flat, _shaped),
)
EMBEDDING = (Part(".weight", "params", "embedding", lambda x: x, _shaped),)
IN_PROJECTION = (  # torch.nn.MultiheadAttention: no dot before the name
    LINEAR[0]._replace(theirs=".in_proj_weight"),
    _BIAS._replace(theirs=".in_proj_bias"),
)
ARRAY = (Part("", "params", "", lambda x: x, _shaped),)


def array(*leading: int) -> tuple[Part, ...]:
    """An array that torch keeps with axes of length one in front.

    Args:
        *leading: a one for each.

    Returns:
        The kind.
    """
    return (Part("", "params", "", lambda x: x.reshape(*leading, *x.shape), _shaped),)


def positions(*leading: int, suffix: str = "") -> tuple[Part, ...]:
    """The positions of a square grid of patches, [n, w].

    Args:
        *leading: a one for each axis that torch has in front.
        suffix: what follows its name in torch.

    Returns:
        The kind.
    """
    (plain,) = array(*leading)
    return (plain._replace(theirs=suffix, resizable=True),)


class Row(NamedTuple):
    """A torch module and ours.

    Attributes:
        theirs: its name, with braces for numbers.
        ours: path of our module, without the collection.
        kind: its tensors.
        part: where torch's is a slice of ours, along the axis of query, key and value.
        optional: whether ours stays random where a checkpoint lacks it.
    """

    theirs: str
    ours: str
    kind: tuple[Part, ...]
    part: slice | None = None
    optional: bool = False


QUERY, KEY, VALUE, KEY_VALUE = slice(0, 1), slice(1, 2), slice(2, 3), slice(1, 3)


class Place(NamedTuple):
    """Where one torch tensor lives in our variables.

    Attributes:
        path: of our array, with its collection.
        layer: the first axis of a stacked array, or nothing.
        part: of `Row`.
        tensor: how the layouts differ.
        optional: of `Row`.
    """

    path: str
    layer: tuple[int, ...]
    part: slice | None
    tensor: Part
    optional: bool

    def view(self, array: np.ndarray) -> np.ndarray:
        """The part of our array that the tensor is; writing to it writes to the array."""
        array = array[self.layer]
        return array if self.part is None else array[..., self.part, :, :]

    def torch_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The tensor's shape, where ours has `shape`."""
        nothing = np.broadcast_to(np.zeros((), np.bool_), shape)
        return self.tensor.to_torch(self.view(nothing)).shape


def places(rows: Sequence[Row], shapes: Mapping[str, Sequence[int]]) -> dict[str, Place]:
    """Every torch tensor that a table names for these variables.

    Rows without a counterpart in the variables name nothing: a student without class token has
    none.

    Args:
        rows: the table.
        shapes: path of each of our arrays ("params/tower/norm/scale") -> its shape.

    Returns:
        Torch name -> its place.
    """
    found: dict[str, Place] = {}
    for row in rows:
        for part in row.kind:
            found |= _places_of(row, part, shapes)
    return found


def _places_of(row: Row, part: Part, shapes: Mapping[str, Sequence[int]]) -> dict[str, Place]:
    ours = "/".join(filter(None, (part.collection, row.ours, part.leaf)))
    pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(ours))
    stacked = set(re.findall(r"{(\w+)}", row.theirs)) - set(re.findall(r"{(\w+)}", row.ours))
    found = {}
    for path, shape in shapes.items():
        match = re.fullmatch(pattern, path)
        if match is None:
            continue
        for number in range(shape[0]) if stacked else (None,):
            numbers = match.groupdict() | dict.fromkeys(stacked, number)
            layer = () if number is None else (number,)
            name = row.theirs.format(**numbers) + part.theirs
            found[name] = Place(path, layer, row.part, part, row.optional)
    return found
