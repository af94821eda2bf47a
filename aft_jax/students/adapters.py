"""Anyone's Flax module as a student: linen or NNX."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from aft_jax.types import PyTree, Student, StudentOutput


def from_linen(module: nn.Module) -> Student:
    """Adapts a Flax linen module whose `__call__(inputs, train)` returns a `StudentOutput`.

    Args:
        module: any linen module of that signature; a plain (logits, features) pair is accepted too.

    Returns:
        The student; collections other than "params" are mutable while training. Random streams
        beside "params" (dropout) come from `rngs`.
    """

    def init(key: jax.Array, inputs: Any) -> PyTree:
        return dict(module.init(key, inputs, train=False))

    def apply(variables, inputs, train, rngs) -> tuple[StudentOutput, PyTree]:
        mutable = [name for name in variables if name != "params"] if train else []
        output, changed = module.apply(variables, inputs, train=train, rngs=rngs, mutable=mutable)
        return StudentOutput(*output), {**variables, **changed}

    return Student(init, apply)


def from_nnx(make: Callable[[nnx.Rngs], nnx.Module]) -> Student:
    """Adapts a Flax NNX module whose `__call__(inputs)` returns logits and features.

    The module is made for `init`, and otherwise only its structure is kept: variables go in and
    come out as plain dicts, "params" for every `nnx.Param` and "state" for the rest (batch
    statistics). `module.train()` and `module.eval()` choose the mode.

    Args:
        make: random streams -> the module. Its classifier is an attribute `head`.

    Returns:
        The student; a module's random streams are seeded anew from `rngs` at every call.
    """

    @functools.cache
    def structure(train: bool) -> tuple[Any, Any, Any, Any]:
        module: Any = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
        module.train() if train else module.eval()
        parts: Any = nnx.split(module, nnx.Param, nnx.RngState, ...)
        return parts

    def init(key: jax.Array, inputs: Any) -> PyTree:
        _, params, _, state = nnx.split(make(nnx.Rngs(key)), nnx.Param, nnx.RngState, ...)
        return _collections(params, state)

    def apply(
        variables: PyTree, inputs: Any, train: bool, rngs: Mapping[str, jax.Array]
    ) -> tuple[StudentOutput, PyTree]:
        graph, params, streams, state = structure(train)
        module: Any = nnx.merge(
            graph,
            _filled(params, variables["params"]),
            _seeded(streams, rngs.get("dropout", jax.random.key(0))),  # unread at inference
            _filled(state, variables.get("state", {})),
        )
        output = module(inputs)
        _, params, _, state = nnx.split(module, nnx.Param, nnx.RngState, ...)
        changed = _collections(params, state) if train else {}
        return StudentOutput(*output), {**variables, **changed}

    return Student(init, apply)


def _collections(params: Any, state: Any) -> PyTree:
    """The two states as plain dicts with names for keys, those of lists included; no empty one."""
    named = {"params": params, "state": state}
    plain = {
        name: traverse_util.unflatten_dict(
            {tuple(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(tree)}
        )
        for name, tree in named.items()
    }
    return {name: tree for name, tree in plain.items() if tree or name == "params"}


def _filled(state: Any, plain: PyTree) -> Any:
    """An NNX state of the given structure with the values of a plain dict."""
    values = traverse_util.flatten_dict(plain)
    pairs = [
        (path, leaf.replace(values[tuple(map(str, path))]))
        for path, leaf in nnx.to_flat_state(state)
    ]
    return nnx.from_flat_state(pairs)


def _seeded(streams: Any, key: jax.Array) -> Any:
    """Random streams that start from one key."""
    pairs = []
    for number, (path, leaf) in enumerate(nnx.to_flat_state(streams)):
        shape = leaf.get_value().shape
        if isinstance(leaf, nnx.RngKey):
            value = jax.random.split(jax.random.fold_in(key, number), shape)
        else:
            value = jnp.zeros(shape, jnp.uint32)
        pairs.append((path, leaf.replace(value)))
    return nnx.from_flat_state(pairs)
