"""Gradients of a large batch from micro-batches, with the exact kernel over all of its rows.

A kernel over the batch is no sum over micro-batches, so their gradients cannot just be added up. In
two passes they can:

    1. forward, micro-batch by micro-batch: keep the logits and features alone
       dL/dlogits, dL/dfeatures, dL/dregularizer of the objective over the whole batch
    2. forward again and backward, micro-batch by micro-batch, with those cotangents: add up

It takes one forward pass more than the whole batch, and the activations of one micro-batch. The
same idea serves contrastive losses: Gao et al., "Scaling Deep Contrastive Learning Batch Size under
Memory Limited Setup", RepL4NLP 2021, arXiv 2101.06983.
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from aft_jax.training.loss_scale import scaled
from aft_jax.training.sharding import row_sharded, stacked_rows
from aft_jax.training.step import Gradients, GradientsOf, forward, objective
from aft_jax.types import Batch, PyTree, Regularizer, Student, StudentOutput


def micro_batches(
    student: Student, regularizer: Regularizer, count: int, mesh: Mesh
) -> GradientsOf:
    """The gradients of the whole batch, a micro-batch at a time.

    Dropout draws other masks than for the whole batch; batch normalisation uses the statistics of
    the micro-batch and updates its running ones with each.

    Args:
        student: the student.
        regularizer: the regularizer.
        count: micro-batches; they and the devices divide the batch.
        mesh: the devices, each of which has its share of every micro-batch.

    Returns:
        (state, batch, beta, key) -> gradients.
    """

    def gradients(state, batch, beta, key):
        inputs = _cut(batch.inputs, count, mesh)
        keys = jax.random.split(key, count)

        def outputs(variables: PyTree, part: tuple[PyTree, jax.Array]):
            output, after = _forward(student, variables, *part)
            return after, output

        _, parts = jax.lax.scan(outputs, state.variables, (inputs, keys))

        def loss_of(params: PyTree, output: StudentOutput):
            loss, metrics = objective(regularizer, params, output, batch, beta)
            return scaled(state.loss_scale, loss), metrics

        whole = _joined(parts, count, mesh)
        pulled = jax.grad(loss_of, argnums=(0, 1), has_aux=True)
        (own, cotangent), metrics = pulled(state.regularizer, whole)

        def add(carried: tuple[PyTree, PyTree], part: tuple[PyTree, jax.Array, StudentOutput]):
            variables, total = carried
            *read, ahead = part

            def of(params: PyTree):
                return _forward(student, {**variables, "params": params}, *read)

            _, pull, after = jax.vjp(of, variables["params"], has_aux=True)
            return (after, jax.tree.map(jnp.add, total, pull(ahead)[0])), None

        zero = jax.tree.map(jnp.zeros_like, state.variables["params"])
        cut = (inputs, keys, _cut(cotangent, count, mesh))
        (variables, total), _ = jax.lax.scan(add, (state.variables, zero), cut)
        return Gradients({"student": total, "regularizer": own}, metrics, variables)

    return gradients


def _forward(student: Student, variables: PyTree, inputs: PyTree, key: jax.Array):
    nothing = jnp.zeros(())
    return forward(student, variables, Batch(inputs, nothing, nothing, nothing, {}), key)


def _cut(tree: PyTree, count: int, mesh: Mesh) -> PyTree:
    """[b, ...] -> [count, b / count, ...], each device's rows cut where they are."""

    def cut(leaf: jax.Array) -> jax.Array:
        apart = leaf.reshape(mesh.size, count, -1, *leaf.shape[1:])
        parts = jnp.swapaxes(apart, 0, 1).reshape(count, -1, *leaf.shape[1:])
        return jax.lax.with_sharding_constraint(parts, stacked_rows(mesh))

    return jax.tree.map(cut, tree)


def _joined(tree: PyTree, count: int, mesh: Mesh) -> PyTree:
    """The inverse of `_cut`."""

    def joined(leaf: jax.Array) -> jax.Array:
        apart = leaf.reshape(count, mesh.size, -1, *leaf.shape[2:])
        whole = jnp.swapaxes(apart, 0, 1).reshape(-1, *leaf.shape[2:])
        return jax.lax.with_sharding_constraint(whole, row_sharded(mesh))

    return jax.tree.map(joined, tree)
