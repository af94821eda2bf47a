"""What a ranking found: the record, its table in plain words, and its files."""

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from aft_jax.experiments.formatting import percent, quantity, whole
from aft_jax.files import made_workdir, write_whole
from aft_jax.scores import Osborn, Scores
from aft_jax.text_table import text_table

STUDENT = "the student's own features"

LEGEND = """\
What the columns say, larger being better in all of them:
  probe %    accuracy of a linear classifier on rows that it was not fitted to (5-fold cross-
             validation), with its standard error. The table is sorted by it.
  LogME      how probable the labels are under a Bayesian linear model of the features
  H-score    how much of the features' variance, each direction scaled alike, lies between classes
  TMI        how much variety the features keep inside a class; collapsed features adapt badly.
             It runs against the others by nature, and is no reason to pick a weak teacher.
  PED        log probability of the right class once overlapping classes have pushed each other
             apart, as fine-tuning would
  alignment  how alike the kernel of the features and that of the labels are, 0 to 1; AFT transfers
             kernels
  OSBORN     of sets: what each teacher's probe says of the labels, plus how far the probes agree"""


@dataclasses.dataclass(frozen=True)
class Ranked:
    """One row of the table.

    Attributes:
        members: names of the teachers; none for the student's own features.
        width: features that the members have together.
        scores: of the members' features side by side.
        osborn: of a set of at least two.
    """

    members: tuple[str, ...]
    width: int
    scores: Scores
    osborn: Osborn | None = None

    @property
    def label(self) -> str:
        """What the row is called."""
        return " + ".join(self.members) or STUDENT


@dataclasses.dataclass(frozen=True)
class Ranking:
    """What `rank` returns.

    Attributes:
        dataset: name of the data set.
        rows: training examples that were scored.
        of_rows: training examples.
        unlabelled: of them without a label.
        missing: chosen examples that a store has no features of.
        classes: of the task.
        student: its architecture.
        random_start: whether the student starts from random weights.
        ranked: best first: by accuracy of the probe, then by its log loss.
        seconds: wall-clock time.
    """

    dataset: str
    rows: int
    of_rows: int
    unlabelled: int
    missing: int
    classes: int
    student: str
    random_start: bool
    ranked: tuple[Ranked, ...]
    seconds: float

    @property
    def below_student(self) -> tuple[Ranked, ...]:
        """Single teachers whose probe is worse than that of the student's own features."""
        (own,) = [row for row in self.ranked if not row.members]
        least = own.scores.probe.accuracy
        teachers = [row for row in self.ranked if len(row.members) == 1]
        return tuple(row for row in teachers if row.scores.probe.accuracy < least)


def best_first(rows: Sequence[Ranked]) -> tuple[Ranked, ...]:
    """The rows in the order of the table."""
    return tuple(
        sorted(rows, key=lambda row: (-row.scores.probe.accuracy, row.scores.probe.log_loss))
    )


def format_ranking(ranking: Ranking) -> str:
    """The table, what its columns mean, and what to beware of.

    Args:
        ranking: the ranking.

    Returns:
        Lines of at most 100 characters, but for long names.
    """
    header = ("", "features", "width", "probe %", "LogME", "H-score", "TMI", "PED", "alignment")
    cells = [(*header, "OSBORN")]
    cells += [(str(place), *_cells(row)) for place, row in enumerate(ranking.ranked, start=1)]
    table = text_table(cells, right={0, *range(2, len(header) + 1)})
    return "\n".join([_title(ranking), "", table, "", LEGEND, *_warnings(ranking)])


def save_ranking(ranking: Ranking, workdir: pathlib.Path) -> None:
    """Writes rank.json and rank.csv.

    Args:
        ranking: the ranking.
        workdir: their directory; it is made where it is not there.
    """
    rows = [_record(place, row) for place, row in enumerate(ranking.ranked, start=1)]
    facts: dict[str, Any] = {
        field.name: getattr(ranking, field.name)
        for field in dataclasses.fields(ranking)
        if field.name != "ranked"
    }
    facts["below_student"] = [row.members[0] for row in ranking.below_student]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"members": "+".join(row["members"])} for row in rows)
    with made_workdir(workdir):
        write_whole(workdir / "rank.json", json.dumps(facts | {"ranked": rows}, indent=2) + "\n")
        write_whole(workdir / "rank.csv", text.getvalue())


def _title(ranking: Ranking) -> str:
    part = "all" if ranking.rows == ranking.of_rows else f"of {whole(ranking.of_rows)}"
    out = [
        f"{whole(count)} {why}"
        for count, why in (
            (ranking.unlabelled, "have no label"),
            (ranking.missing, "have no features in some store"),
        )
        if count
    ]
    left_out = f"; {', '.join(out)}" if out else ""
    return (
        f"{ranking.dataset}: {quantity(ranking.rows, 'training example')} ({part}{left_out}), "
        f"{ranking.classes} classes, student {ranking.student}, {ranking.seconds:.0f} s"
    )


def _cells(row: Ranked) -> tuple[str, ...]:
    scores, probe = row.scores, row.scores.probe
    numbers = (scores.logme, scores.h_score, scores.tmi, scores.ped, scores.alignment)
    return (
        row.label,
        whole(row.width),
        f"{percent(probe.accuracy)} \N{PLUS-MINUS SIGN} {percent(probe.error)}",
        *(_number(value) for value in numbers),
        _number(row.osborn.score) if row.osborn else "",
    )


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def _warnings(ranking: Ranking) -> list[str]:
    lines = []
    (own,) = [row for row in ranking.ranked if not row.members]
    for row in ranking.below_student:
        found, least = row.scores.probe.accuracy, own.scores.probe.accuracy
        lines.append(
            f"warning: {row.label} scores under {STUDENT} ({percent(found)} % against "
            f"{percent(least)} %): a teacher below the student can pull it down."
        )
    if ranking.random_start:
        lines.append(
            f"note: {ranking.student} starts from random weights, so {STUDENT} are those of an "
            "untrained network. AFT is for students that are pre-trained."
        )
    return ["", *lines] if lines else []


def _record(place: int, row: Ranked) -> dict[str, Any]:
    probe, osborn = row.scores.probe, row.osborn
    values = {
        "accuracy": probe.accuracy,
        "accuracy_error": probe.error,
        "log_loss": probe.log_loss,
        "logme": row.scores.logme,
        "h_score": row.scores.h_score,
        "tmi": row.scores.tmi,
        "ped": row.scores.ped,
        "alignment": row.scores.alignment,
        "osborn": osborn and osborn.score,
        "relevance": osborn and osborn.relevance,
        "cohesion": osborn and osborn.cohesion,
    }
    known = {
        key: value if value is not None and math.isfinite(value) else None
        for key, value in values.items()
    }
    return {
        "place": place,
        "features": row.label,
        "members": list(row.members),
        "width": row.width,
        **known,
    }
