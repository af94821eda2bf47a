"""What each method costs next to AFT, and RKD next to its published form; forward and backward.

    python benchmarks/methods.py [--quick]

Prints the ratio of RKD written plainly, with all differences of rows as one [b, b, t] array, to
ours; the time of ours by block size (`BLOCK_ENTRIES` in aft_jax/losses/angles.py); and a table of
every method at one batch: milliseconds, memory and the ratio to AFT.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aft_jax.losses import angles
from aft_jax.losses.map_parameters import init_ft_map
from aft_jax.losses.maps import ft_loss
from aft_jax.losses.predictions import btune_loss, logit_distillation_loss
from aft_jax.losses.regularizer import REGULARIZERS, make_regularizer
from aft_jax.losses.rkd import rkd_loss
from aft_jax.types import FeatureSpec
from benchmarks.timing import describe_machine, measure

BATCH, D, T, CLASSES = 128, 384, 1536, 10
GOAL = 10.0  # times faster than the published form


def plain_norm(differences):
    """Norms along the last axis, with gradient zero at zero as torch gives it."""
    square = jnp.sum(jnp.square(differences), axis=-1, keepdims=True)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def plain_relations(rows):
    differences = rows[None] - rows[:, None]
    norms = plain_norm(differences)
    distances = norms[..., 0]
    mean = jnp.sum(distances) / jnp.sum(distances > 0)
    units = differences / jnp.maximum(norms, 1e-12)
    return distances / mean, units @ jnp.swapaxes(units, 1, 2)


def plain_rkd(student, teacher):
    """The published form in jax.numpy: the same operations on the same arrays."""
    pairs = zip(plain_relations(student), plain_relations(teacher), strict=True)
    distance, angle = (jnp.mean(plain_smooth_l1(own - theirs)) for own, theirs in pairs)
    return (distance + 2 * angle) / 2


def plain_smooth_l1(x):
    return jnp.where(jnp.abs(x) < 1, jnp.square(x) / 2, jnp.abs(x) - 0.5)


def normal(*shape: int) -> jax.Array:
    values = np.random.default_rng(0).normal(size=shape) + 0.3
    return jnp.asarray(values, jnp.float32)


def methods() -> dict[str, Callable[..., Any]]:
    """Label -> forward and backward of (student, teacher), by params and student."""
    spec = FeatureSpec(D, {"teacher": T})
    found = {}
    for name in REGULARIZERS:
        if name != "stl":
            regularizer = make_regularizer(name)
            params = regularizer.init(jax.random.key(0), spec)
            found[name] = gradients(lambda *args, of=regularizer: of.apply(*args)[0], params)
    found["ft"] = gradients(ft_loss, init_ft_map(jax.random.key(0), D, T))
    found["btune"] = gradients(btune, {})
    found["kd_logits"] = gradients(logits, {})
    return found


def gradients(loss: Callable[..., jax.Array], params: Any) -> Callable[..., Any]:
    def of(student, teacher):
        return jax.value_and_grad(loss, argnums=(0, 1))(params, student, {"teacher": teacher})

    return of


def btune(params, student, teachers):
    weights = normal(CLASSES, D), {"teacher": normal(CLASSES, T)}
    return btune_loss(*weights, {"teacher": 0.0}, student, teachers)


def logits(params, student, teachers):
    return logit_distillation_loss(student[:, :CLASSES], teachers["teacher"][:, :CLASSES])


def compare_rkd(arrays: tuple[jax.Array, ...], repeats: int) -> None:
    found = measure(
        {"ours": jax.value_and_grad(rkd_loss), "published": jax.value_and_grad(plain_rkd)},
        arrays,
        repeats,
    )
    ours, plain = found["ours"], found["published"]
    ratio = plain.milliseconds / ours.milliseconds
    verdict = "met" if ratio >= GOAL else "MISSED"
    print(f"RKD, published form {plain.milliseconds:10.2f} ms {plain.megabytes:9.2f} MiB")
    print(f"RKD, ours           {ours.milliseconds:10.2f} ms {ours.megabytes:9.2f} MiB")
    print(f"published / ours: {ratio:.1f}, goal at least {GOAL:g}: {verdict}")
    values = [float(jax.jit(loss)(*arrays)) for loss in (rkd_loss, plain_rkd)]
    print(f"losses {values[0]:.7f} {values[1]:.7f}")


def compare_blocks(arrays: tuple[jax.Array, ...], repeats: int) -> None:
    def with_block(entries: int) -> Callable[..., Any]:
        def run(student, teacher):
            angles.BLOCK_ENTRIES = entries  # read while it is traced
            return jax.value_and_grad(rkd_loss)(student, teacher)

        return run

    default = angles.BLOCK_ENTRIES
    found = measure({f"2^{n}": with_block(2**n) for n in range(15, 22)}, arrays, repeats)
    angles.BLOCK_ENTRIES = default
    times = ", ".join(f"{name} {row.milliseconds:.1f} ms" for name, row in found.items())
    print(f"RKD by angles a block: {times}; BLOCK_ENTRIES = {default}")


def compare_methods(arrays: tuple[jax.Array, ...], repeats: int) -> None:
    found = measure(methods(), arrays, repeats)
    print(f"{'method':14} {'ms':>8} {'MiB':>8} {'/ aft':>8}")
    for name, row in found.items():
        ratio = row.milliseconds / found["aft"].milliseconds
        print(f"{name:14} {row.milliseconds:8.2f} {row.megabytes:8.2f} {ratio:8.2f}")


def main(quick: bool) -> None:
    print(describe_machine())
    print(f"b={BATCH} d={D} t={T}, float32")
    arrays = normal(BATCH, D), normal(BATCH, T)
    compare_rkd(arrays, repeats=3 if quick else 9)
    compare_blocks(arrays, repeats=3 if quick else 31)
    compare_methods(arrays, repeats=5 if quick else 31)
    print(describe_machine())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, rougher")
    main(parser.parse_args().quick)
