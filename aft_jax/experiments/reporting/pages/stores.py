"""What the records say of data, student, teachers and stores, in words."""

from collections.abc import Mapping, Sequence

from aft_jax.config import Config
from aft_jax.data.splits import carved_names
from aft_jax.experiments.comparison.records import Comparison, TeacherFacts, Trial
from aft_jax.experiments.formatting import duration, quantity, whole
from aft_jax.experiments.sweeping.records import Sweep


def stores_of(config: Config) -> list[str]:
    """The names of the splits that a run's stores are of; those carved out of train too."""
    data = config.data
    if data.tune:
        return list(dict.fromkeys([data.train, data.tune, data.test]))
    return [*carved_names(data.train, data.tune_fraction), data.test]


def store_facts(teachers: Mapping[str, TeacherFacts], student: int) -> list[tuple[str, str]]:
    """Teachers, their weights and their stores as rows of a list.

    Args:
        teachers: by name.
        student: parameters of the student.

    Returns:
        What is said -> the words for it.
    """
    facts = []
    for name, teacher in teachers.items():
        size = "an unknown number of parameters"
        if teacher["parameters"]:
            ratio = teacher["parameters"] / max(student, 1)
            size = f"{quantity(teacher['parameters'], 'parameter')} ({ratio:.3g} × the student's)"
        text = f"{teacher['id']}, {size}, {quantity(teacher['width'], 'feature')}, frozen"
        facts.append((f"Teacher {name}", text))
        weights = [f"weights {teacher['weights_sha256']}" if teacher["weights_sha256"] else ""]
        weights += [f"revision {teacher['revision']}" if teacher["revision"] else ""]
        if said := ", ".join(filter(None, weights)):
            facts.append((f"Weights of {name}", said))
        for split, store in teacher["stores"].items():
            words = f"{whole(store['rows'])} rows, manifest {store['manifest_sha256']}"
            facts.append((f"Store of {name}, {split}", words))
    return facts


def record_facts(record: Comparison | Sweep, final: Sequence[Trial]) -> list[tuple[str, str]]:
    """What was run on what.

    Args:
        record: of a comparison or a sweep.
        final: its final runs.

    Returns:
        What is said -> the words for it.
    """
    dataset, student = record.dataset, record.student
    splits = ", ".join(f"{name} {whole(rows)}" for name, rows in dataset["splits"].items())
    classes = quantity(dataset["num_classes"], "class", "classes")
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
    facts += store_facts(record.teachers, student["parameters"])
    seconds = sum(trial.seconds for trial in final)
    runs = f"{quantity(len(final), 'run')}, {duration(seconds)} in all"
    return [*facts, ("Final runs", runs), ("Config hash", record.config_sha256)]
