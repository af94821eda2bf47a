"""The page that shows a comparison: one HTML file, with the table and the figures as files."""

import csv
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from aft_jax.errors import UsageError
from aft_jax.experiments import captions, drawing
from aft_jax.experiments.curves import read_metric
from aft_jax.experiments.formatting import number, percent, points, quantity, whole
from aft_jax.experiments.pictures import Picture, pictures_of
from aft_jax.experiments.records import Comparison, load
from aft_jax.experiments.statistics import (
    MethodResult,
    PairedDifference,
    headline_method,
    method_results,
    verdict,
)
from aft_jax.files import write_whole

_MEANINGS = {
    "stl": "plain fine-tuning of the student, without a teacher",
    "aft": "Adaptive Feature Transfer, which adds beta times the distance R between the kernel of "
    "the student's features and that of the teachers' features weighted by learned gates",
}


def report(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Writes `report/index.html`, `report/results.csv` and `report/figures/*.png`.

    The page needs no network, no script and no second file. Figures whose inputs are absent
    (`diagnostics.npz`, a run's `metrics.jsonl`) are left out.

    Args:
        workdir: directory of a finished comparison.

    Returns:
        The path of the page.

    Raises:
        UsageError: `comparison.json` or `config.json` is missing, a file is malformed, or the
            methods were run with different seeds.
    """
    workdir = pathlib.Path(workdir)
    comparison = load(workdir)
    config = _load_config(workdir)
    results = method_results(comparison)
    pictures = pictures_of(workdir, comparison, results)
    directory = workdir / "report"
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        write_whole(directory / "figures" / f"{picture.name}.png", drawing.png(picture.figure))
    write_whole(directory / "results.csv", _table(comparison.metric, results))
    page = directory / "index.html"
    write_whole(page, _render(workdir, comparison, config, results, pictures))
    return page


def _load_config(workdir: pathlib.Path) -> dict[str, Any]:
    path = workdir / "config.json"
    if not path.is_file():
        raise UsageError(
            f"{path} is missing: a report shows the config of its comparison. "
            f"`aft-jax compare --config=CONFIG --workdir={workdir}` writes it."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is not JSON ({error}). Restore it from the run.") from error
    if not isinstance(config, dict):
        raise UsageError(f"{path} should hold an object, holds {type(config).__name__}.")
    return config


def _test_readings(workdir: pathlib.Path, comparison: Comparison) -> int | None:
    """The most steps at which one final run scored the test split; None without its metrics."""
    try:
        return max(
            len(read_metric(workdir / trial.directory, "test", comparison.metric))
            for trial in comparison.trials
        )
    except FileNotFoundError:
        return None


def _table(metric: str, results: Sequence[MethodResult]) -> str:
    """The table as CSV with all digits, as fractions; an empty field where nothing can be said."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = ("method", "beta", "metric", "mean", "std", "seeds", "seconds")
    writer.writerow([*keys, "difference", "difference_low", "difference_high"])
    for row in results:
        test, difference = row.test, row.difference
        std = "" if math.isnan(test.std) else test.std
        bounds = [difference.mean, difference.low, difference.high] if difference else [""] * 3
        facts = [row.method, row.beta, metric, test.mean, std, test.count, row.seconds]
        writer.writerow([*facts, *bounds])
    return text.getvalue()


def _render(
    workdir: pathlib.Path,
    comparison: Comparison,
    config: Mapping[str, Any],
    results: Sequence[MethodResult],
    pictures: Sequence[Picture],
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A percent sign stays on the line of its number.
    environment.filters["prose"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    headline = headline_method(comparison)
    methods = [result.method for result in results]
    outcomes = {result.method: _outcome(result.difference) for result in results}
    return environment.get_template("report.html.j2").render(
        title=f"{comparison.dataset['name']}: {' against '.join(_sides(methods))}",
        verdict=verdict(comparison),
        outcome=outcomes[headline] if headline else "unclear",
        other_verdicts=[verdict(comparison, name) for name in methods[1:] if name != headline],
        meanings=[(name, _MEANINGS[name]) for name in methods if name in _MEANINGS],
        metric=comparison.metric,
        baseline=methods[0],
        rows=[_row(result) for result in results],
        caveats=captions.caveats(comparison, results),
        pictures=[(picture, drawing.data_uri(picture.figure)) for picture in pictures],
        facts=_facts(comparison),
        choice=captions.choice(comparison, _test_readings(workdir, comparison)),
        config=_flat(config),
        environment=_flat(comparison.environment),
    )


def _sides(methods: Sequence[str]) -> list[str]:
    return [", ".join(methods[1:]), methods[0]] if len(methods) > 1 else list(methods)


def _outcome(difference: PairedDifference | None) -> str:
    """The class of a verdict, for its colour."""
    if difference is None or difference.contains_zero:
        return "unclear"
    return "wins" if difference.mean > 0 else "loses"


def _row(result: MethodResult) -> dict[str, str]:
    test, difference = result.test, result.difference
    interval = f"{points(difference.low)} to {points(difference.high)}" if difference else ""
    return {
        "method": result.method,
        "beta": number(result.beta) if result.beta else "",
        "mean": percent(test.mean),
        "std": "" if math.isnan(test.std) else percent(test.std),
        "difference": points(difference.mean) if difference else "",
        "interval": interval,
        "outcome": _outcome(difference),
        "seeds": whole(test.count),
        "seconds": f"{result.seconds:,.1f}",
    }


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    dataset, student = comparison.dataset, comparison.student
    splits = ", ".join(f"{name} {whole(rows)}" for name, rows in dataset["splits"].items())
    classes = f"{whole(dataset['num_classes'])} classes"
    facts = [
        ("Data set", f"{dataset['name']}, version {dataset['version']}, {classes}"),
        ("Examples", splits),
        (
            "Student",
            f"{student['name']}, {quantity(student['parameters'], 'parameter')}, starts from "
            f"{student['init_from'] or 'random weights'}",
        ),
    ]
    for pair, count in dataset["overlap"].items():
        facts.append((f"Overlap of {pair}", f"{quantity(count, 'example')} in both"))
    for split, names in dataset["skipped"].items():
        facts.append((f"Skipped in {split}", f"{len(names)} unreadable: {', '.join(names)}"))
    for name, teacher in comparison.teachers.items():
        ratio = teacher["parameters"] / max(student["parameters"], 1)
        size = f"{quantity(teacher['parameters'], 'parameter')} ({ratio:.3g} × the student's)"
        text = f"{teacher['id']}, {size}, {quantity(teacher['width'], 'feature')}, frozen"
        facts.append((f"Teacher {name}", text))
    seconds = sum(trial.seconds for trial in comparison.trials)
    runs = f"{quantity(len(comparison.trials), 'run')}, {seconds:,.0f} s in all"
    return [*facts, ("Final runs", runs)]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested object as rows of dotted key and value, in its own order."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            rows.append((f"{prefix}{key}", text))
    return rows
