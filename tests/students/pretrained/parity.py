"""A student beside the torch model that its public weights come from."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from aft_jax.students.pretrained.format import Format
from aft_jax.students.pretrained.public import load_public
from aft_jax.students.student import from_linen
from aft_jax.types import PyTree, StudentOutput


class Stored(NamedTuple):
    """A tensor as a checkpoint's file holds it."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def read(self) -> np.ndarray:
        return self.values


def for_torch(images: np.ndarray) -> torch.Tensor:
    """Images with channels first."""
    return torch.tensor(images.transpose(0, 3, 1, 2))


def tensors_of(original: torch.nn.Module) -> dict[str, Stored]:
    """What a torch model would write to a checkpoint."""
    state = original.state_dict()
    return {name: Stored(tensor.numpy(force=True).copy()) for name, tensor in state.items()}


def perturbed(original: torch.nn.Module, scale: float = 0.1) -> torch.nn.Module:
    """The model in inference mode, no tensor as it was initialised: features that hardly differ
    prove little.
    """
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=noise) * scale)
        for name, buffer in original.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand(buffer.shape, generator=noise))
    return original.eval()


def variables_of(student: Any, inputs: Any) -> PyTree:
    """Random variables of a linen module."""
    return jax.jit(from_linen(student).init)(jax.random.key(0), inputs)


def loaded(
    student: Any, form: Format, original: torch.nn.Module, inputs: Any, with_head: bool = True
) -> PyTree:
    """The student's variables, with the weights of the torch model."""
    variables = variables_of(student, inputs)
    return load_public(tensors_of(original), form, variables, "the original", with_head)


def outputs_of(student: Any, variables: PyTree, inputs: Any) -> StudentOutput:
    """Logits and features at inference."""
    apply = from_linen(student).apply
    return jax.jit(lambda variables, inputs: apply(variables, inputs, False, {})[0])(
        variables, inputs
    )


def relative_error(ours: Any, theirs: Any) -> float:
    """The largest difference, as a share of the largest value."""
    if isinstance(theirs, torch.Tensor):
        theirs = theirs.numpy(force=True)
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


class Steps(NamedTuple):
    """Losses before each step of gradient descent and after the last.

    The variables are those after the last loss was computed, which moved running statistics once
    more, on both sides.
    """

    ours: list[float]
    theirs: list[float]
    variables: PyTree


def sgd_losses(
    student: Any,
    variables: PyTree,
    inputs: Any,
    original: torch.nn.Module,
    logits: Callable[[], torch.Tensor],
    labels: np.ndarray,
    rate: float = 0.1,
    steps: int = 1,
    trained: Callable[[str], bool] = lambda name: True,
) -> Steps:
    """Trains both with plain gradient descent on one batch; the torch model is changed.

    Args:
        student: a linen module.
        variables: of it.
        inputs: of it.
        original: the torch model.
        logits: runs it on the same inputs.
        labels: [b].
        rate: of learning.
        steps: how many.
        trained: whether a torch parameter of that name is trained; all of ours are.
    """
    apply = from_linen(student).apply
    inputs = jax.tree.map(jnp.asarray, inputs)

    @jax.jit
    def step(variables: Mapping[str, PyTree]) -> tuple[jax.Array, Mapping[str, PyTree]]:
        def loss(params: PyTree) -> tuple[jax.Array, Mapping[str, PyTree]]:
            output, changed = apply({**variables, "params": params}, inputs, True, {})
            chosen = jax.nn.log_softmax(output.logits)[jnp.arange(len(labels)), labels]
            return -chosen.mean(), changed

        (value, changed), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda p, g: p - rate * g, variables["params"], gradient)
        return value, {**changed, "params": params}

    parameters = [p for name, p in original.named_parameters() if trained(name)]
    optimizer = torch.optim.SGD(parameters, lr=rate)
    original.train()
    wanted = torch.tensor(labels, dtype=torch.int64)
    ours, theirs, after = [], [], variables
    for number in range(steps + 1):
        value, following = step(after)
        ours.append(float(value))
        error = torch.nn.functional.cross_entropy(logits(), wanted)
        theirs.append(float(error.detach()))
        if number < steps:
            after = following
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
        else:
            after = {**following, "params": after["params"]}
    original.eval()
    return Steps(ours, theirs, after)
