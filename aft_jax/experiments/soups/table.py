"""What a soup measured: the record of `soup.json`, and the table that a reader sees."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from aft_jax.errors import UsageError
from aft_jax.experiments.formatting import percent, points, quantity
from aft_jax.experiments.soups.ingredients import Ingredient
from aft_jax.files import write_whole

FILE_NAME = "soup.json"


@dataclasses.dataclass(frozen=True)
class SoupRecord:
    """What `soup.json` holds.

    Attributes:
        singles: the fields of each ingredient and its accuracy on "test", the best on tune first.
        soups: "uniform" and "greedy" -> "members" (directories), "tune" and "test".
        rows: "tune" and "test" -> numbers of examples.
    """

    singles: tuple[Mapping[str, Any], ...]
    soups: Mapping[str, Mapping[str, Any]]
    rows: Mapping[str, int]

    def is_of(self, ingredients: Sequence[Ingredient]) -> bool:
        """Whether these are the students that were averaged."""
        known = [(one["directory"], one["sha256"]) for one in self.singles]
        return known == [(one.directory, one.sha256) for one in ingredients]

    def mean_single(self, split: str) -> float:
        """The students' mean accuracy on "tune" or "test"."""
        return sum(one[split] for one in self.singles) / len(self.singles)


def save_record(directory: pathlib.Path, record: SoupRecord) -> None:
    """Writes `soup.json` whole, with the best and the mean single student spelled out."""
    best = record.singles[0]
    singles = {
        "best_single": {key: best[key] for key in ("directory", "tune", "test")},
        "mean_single": {split: record.mean_single(split) for split in ("tune", "test")},
    }
    content = dataclasses.asdict(record) | singles
    write_whole(directory / FILE_NAME, json.dumps(content, indent=2) + "\n")


def load_record(directory: pathlib.Path) -> SoupRecord | None:
    """Reads what `save_record` wrote; None where nothing is there.

    Args:
        directory: of the soups.

    Returns:
        The record.

    Raises:
        UsageError: the file holds something else.
    """
    path = directory / FILE_NAME
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        record = SoupRecord(tuple(content["singles"]), content["soups"], content["rows"])
        soup_table(record)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UsageError(
            f"{FILE_NAME} is a record that `aft-jax soup` wrote; {path} cannot be read as one: "
            f"{error!r}. Delete it, and the same command makes it anew."
        ) from error
    return record


def soup_table(record: SoupRecord) -> str:
    """The soups beside single students, and in words whether they help.

    Args:
        record: what was measured.

    Returns:
        Lines of text.
    """
    best = record.singles[0]
    count = len(record.singles)
    rows = [
        (f"{name} soup", len(made["members"]), made["tune"], made["test"])
        for name, made in record.soups.items()
    ]
    rows.append(("best single on tune", 1, best["tune"], best["test"]))
    rows.append(("mean of the singles", count, *map(record.mean_single, ("tune", "test"))))
    width = max(len(name) for name, *_ in rows)
    lines = [f"{'accuracy, %':{width}}  students    tune    test"]
    lines += [
        f"{name:{width}}  {students:8}  {percent(tune):>6}  {percent(test):>6}"
        for name, students, tune, test in rows
    ]
    return "\n".join([*lines, "", *_verdict(record)])


def _verdict(record: SoupRecord) -> list[str]:
    """Whether the soup that tune prefers helps on test, and whether the students mix at all."""
    best = record.singles[0]
    name, made = max(record.soups.items(), key=lambda item: item[1]["tune"])
    gain = made["test"] - best["test"]
    lines = []
    if made["tune"] < best["tune"] or len(made["members"]) == 1:
        lines.append(
            "No soup helps: on tune none is above the best single student. Keep "
            f"{best['directory']}."
        )
    else:
        said = "helps" if gain > 0 else "does not help"
        examples = quantity(abs(round(gain * record.rows["test"])), "example")
        lines.append(
            f"The {name} soup, the better one on tune, {said}: {points(gain)} points on test "
            f"against the best single student on tune, {examples} of {record.rows['test']}; one "
            "comparison, without an interval."
        )
    if record.soups["uniform"]["tune"] < min(one["tune"] for one in record.singles):
        lines.append(
            "The uniform soup is below every one of its students on tune: they moved too far apart "
            "for their weights to mix."
        )
    return lines
