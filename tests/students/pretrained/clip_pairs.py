"""What the tests of CLIP's formats share: images beside texts, and what has to agree."""

import jax
import numpy as np
import torch

from aft_jax.students.pretrained.public import load_public
from aft_jax.students.student import from_linen
from tests.students.pretrained.parity import outputs_of, relative_error

CLASSES, END = 3, 29
LENGTHS = np.array([7, 3, 5, 1])
LABELS = np.array([0, 2, 1, 2])


def pairs(size, length=7, padding=0, seed=0):
    """Images, and texts of `LENGTHS` that end in the end token, padded to a length."""
    rng = np.random.default_rng(seed)
    real = np.arange(length)[None] < LENGTHS[:, None]
    ids = np.pad(rng.integers(2, 28, (len(LENGTHS), 7)), ((0, 0), (0, length - 7)))
    ids[np.arange(len(LENGTHS)), LENGTHS - 1] = END
    # Images of nothing but noise are all alike to a network.
    images = rng.normal(size=(len(LENGTHS), 1, 1, 3)) + rng.normal(
        size=(len(LENGTHS), size, size, 3)
    )
    return {
        "image": images.astype(np.float32),
        "input_ids": np.where(real, ids, padding).astype(np.int32),
        "attention_mask": real.astype(np.int32),
    }


def in_torch(inputs):
    """(pixels, ids, mask)"""
    pixels = torch.tensor(inputs["image"].transpose(0, 3, 1, 2))
    ids, mask = (torch.tensor(inputs[name]).long() for name in ("input_ids", "attention_mask"))
    return pixels, ids, mask


def filled(student, form, tensors, size):
    """The student's variables, all of them a checkpoint's."""
    shapes = jax.eval_shape(from_linen(student).init, jax.random.key(0), pairs(size))
    nothing = jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, leaf.dtype), shapes)
    return load_public(tensors, form, nothing, "the original", with_head=True)


def assert_same_outputs(student, variables, inputs, features, logits):
    ours = outputs_of(student, variables, inputs)
    assert ours.logits.dtype == ours.features["text"].dtype == np.float32
    for name, theirs in zip(("image", "text"), features, strict=True):
        assert theirs.std(0).mean() > 0.01
        assert relative_error(ours.features[name], theirs) < 1e-4
    assert relative_error(ours.logits, logits) < 1e-4


def assert_same_step(steps):
    assert abs(steps.theirs[1] - steps.theirs[0]) > 1e-2 * steps.theirs[0]
    np.testing.assert_allclose(steps.ours, steps.theirs, rtol=1e-4)


def assert_same_tensors(back, tensors):
    assert set(tensors) - set(back) == {"logit_scale"}
    assert set(back) <= set(tensors)
    for name, tensor in back.items():
        np.testing.assert_array_equal(tensor, tensors[name].read(), err_msg=name)


def read_by(model, back):
    """What torch says to our tensors."""
    state = {name: torch.tensor(tensor) for name, tensor in back.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    return missing, sorted(unexpected)
