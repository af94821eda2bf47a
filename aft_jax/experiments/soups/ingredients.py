"""The students that may go into a soup: finished runs of one structure and one start."""

import logging
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from aft_jax.config import Config
from aft_jax.errors import UsageError
from aft_jax.students.weights import RUNTIME_OPTIONS, read_description
from aft_jax.training import workdir as run_directory

_LOG = logging.getLogger(__name__)

TRIALS = "trials"


class Ingredient(NamedTuple):
    """A finished run whose student may go into a soup.

    Attributes:
        directory: the run's, relative to that of the sweep or comparison.
        sha256: of its student's weights.
        seed: of the run.
        tune: accuracy on the tune split.
    """

    directory: str
    sha256: str
    seed: int
    tune: float


def find_ingredients(workdir: pathlib.Path, config: Config) -> list[Ingredient]:
    """The runs of a sweep or comparison that share their start, the best on tune first.

    The start is the seed's: it draws the head, whatever the body starts from, and all of a student
    that starts from random weights. The seed of the best student is taken.

    Args:
        workdir: directory of the sweep or comparison.
        config: its config.

    Returns:
        At least two.

    Raises:
        UsageError: there are fewer, or their students differ in structure.
    """
    found = {}
    for path in sorted((workdir / TRIALS).glob("*/")):
        described = _described(path, f"{TRIALS}/{path.name}", config)
        if described is not None:
            found[described[0]] = described[1]
    ordered = sorted(found, key=lambda one: (-one.tune, one.directory))
    chosen = [one for one in ordered if one.seed == ordered[0].seed]
    if len(chosen) < 2:
        raise UsageError(
            "a soup averages at least two finished students that started from the same weights, "
            f"head included: those of one seed. {workdir / TRIALS} has {len(found)} finished ones"
            f"{f', of seed {chosen[0].seed} only the best' if chosen else ''}. Finish the sweep or "
            "comparison, or run one with more than one beta."
        )
    if len(chosen) < len(ordered):
        _LOG.info(
            "the soup is of seed %d, which has the best student; the %d of other seeds started "
            "from other weights and are left out",
            chosen[0].seed,
            len(ordered) - len(chosen),
        )
    _require_one_structure(chosen, [found[one] for one in chosen])
    return chosen


def _described(
    path: pathlib.Path, name: str, config: Config
) -> tuple[Ingredient, dict[str, Any]] | None:
    """A run and the description of its student; None where it has none for the soup."""
    result = run_directory.result(path)
    if result is None:
        _LOG.warning("%s is not finished: it is left out of the soup", name)
        return None
    description = read_description(path)
    if description["name"] != config.student.name:
        _LOG.warning(
            "%s trained another model, %s: it is left out of the soup", name, description["name"]
        )
        return None
    seed, tune = run_directory.read_config(path).seed, result["tune"]["accuracy"]
    return Ingredient(name, description["sha256"], seed, tune), description


def _require_one_structure(
    ingredients: Sequence[Ingredient], descriptions: Sequence[dict[str, Any]]
) -> None:
    first = _structure(descriptions[0])
    for one, description in zip(ingredients[1:], descriptions[1:], strict=True):
        structure = _structure(description)
        if structure != first:
            key = next(key for key in first if structure[key] != first[key])
            raise UsageError(
                f"a soup averages students of one structure; {ingredients[0].directory} has {key} "
                f"{first[key]}, {one.directory} has {structure[key]}. Move one of them out of "
                f"{TRIALS}/."
            )


def _structure(description: dict[str, Any]) -> dict[str, Any]:
    """What must agree for two students' weights to mean the same."""
    options = description["options"].items()
    kept = {key: value for key, value in options if key not in RUNTIME_OPTIONS}
    return {key: description[key] for key in ("name", "classes", "inputs")} | {"options": kept}
