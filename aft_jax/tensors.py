"""Trees of arrays as safetensors: one tensor a leaf, named by its path ("params/Conv_0/kernel")."""

import ml_dtypes
import numpy as np
from flax import traverse_util
from safetensors import deserialize
from safetensors import numpy as safetensors

from aft_jax.types import PyTree

DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "BF16": ml_dtypes.bfloat16,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}
"""safetensors' names. Its NumPy reader lacks bfloat16, its Flax reader narrows 64 bits to 32."""


def dump_tree(tree: PyTree) -> bytes:
    """A nested dict of arrays as the content of a safetensors file; shapes and dtypes are kept."""
    flat = traverse_util.flatten_dict(tree, sep="/")
    return safetensors.save({path: np.asarray(leaf, order="C") for path, leaf in flat.items()})


def load_tree(content: bytes) -> PyTree:
    """The nested dict of NumPy arrays that `dump_tree` was given, bit for bit."""
    flat = {
        path: np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
        for path, tensor in deserialize(content)
    }
    return traverse_util.unflatten_dict(flat, sep="/")
