"""The section on what the teachers gave: gates, shares, and kernels before and after training."""

from collections.abc import Sequence

from aft_jax.experiments.formatting import whole
from aft_jax.experiments.reporting.captions import teachers as captions
from aft_jax.experiments.reporting.diagnostics import Diagnostics, kernel_distance
from aft_jax.experiments.reporting.page import (
    Cell,
    Column,
    Picture,
    Section,
    Table,
    figure_cell,
    words,
)
from aft_jax.experiments.reporting.plots import teachers as plots

TITLE = "What the teachers gave"


def teacher_section(diagnostics: Diagnostics | None, tables: Sequence[Table] = ()) -> Section:
    """Gates, shares and kernels of one run of each method.

    Args:
        diagnostics: the arrays; None where there are none.
        tables: further ones, of other measurements.

    Returns:
        The section; empty where nothing is known of the teachers.
    """
    if diagnostics is None:
        return Section(TITLE, tables=tables)
    found = [*_parts_table(diagnostics), *_distance_table(diagnostics), *tables]
    found += _gates_file(diagnostics)
    pictures = []
    if diagnostics.kernels:
        pictures.append(
            Picture(
                "kernels",
                "Which examples look alike",
                captions.kernels(diagnostics),
                plots.kernel_images(diagnostics),
            )
        )
    if diagnostics.gates:
        pictures.append(
            Picture(
                "gates",
                "Which teacher features were kept",
                captions.gates(diagnostics.gates),
                plots.gate_histograms(diagnostics.gates),
            )
        )
    if moves := _moves(diagnostics):
        pictures.append(
            Picture(
                "teacher_parts",
                "What each teacher contributes",
                captions.teacher_parts(diagnostics.shares, moves),
                plots.teacher_parts(diagnostics.shares, moves),
            )
        )
    title = TITLE if "teacher" in diagnostics.kernels or tables else "Before and after training"
    return Section(title, tables=found, pictures=pictures)


def _moves(diagnostics: Diagnostics) -> dict[str, float]:
    """How far the teachers' kernel moves when one of them is left out."""
    teacher = diagnostics.kernels.get("teacher")
    if teacher is None:
        return {}
    return {name: kernel_distance(kernel, teacher) for name, kernel in diagnostics.without.items()}


def _parts_table(diagnostics: Diagnostics) -> list[Table]:
    moves = _moves(diagnostics)
    if not moves:
        return []
    columns = [
        Column("teacher", "teacher", numeric=False),
        Column("features", "features"),
        Column("mean_gate", "mean gate"),
        Column("share", "share of the kernel"),
        Column("distance_without", "R to the kernel without it"),
    ]
    rows = []
    for name, move in moves.items():
        gates, share = diagnostics.gates.get(name), diagnostics.shares.get(name)
        mean = None if gates is None else float(gates.mean())
        rows.append(
            [
                words(name),
                figure_cell(None if gates is None else len(gates), whole),
                figure_cell(mean, "{:.3f}".format),
                figure_cell(share, "{:.1%}".format),
                figure_cell(move, "{:.3f}".format),
            ]
        )
    note = (
        "With K_t the kernel of all teachers' gated features and K_m the part of it that teacher "
        "m's features make, the share is <K_m, K_t> / |K_t|²; shares add up to 100 %."
        if diagnostics.shares
        else "The teachers are multiplied, so their kernel is no sum and has no shares."
    )
    return [Table("teachers", columns, rows, "The teachers' parts", note=note)]


def _distance_table(diagnostics: Diagnostics) -> list[Table]:
    """R of every student to the teachers, and to the teachers without one of them."""
    distances, without = diagnostics.distances, diagnostics.without
    if not distances:
        return []
    columns = [
        Column("student", "student", numeric=False),
        Column("distance", "R to all teachers"),
        *(Column(f"distance_without_{name}", f"R without {name}") for name in without),
    ]
    rows: list[list[Cell]] = []
    for student, distance in distances.items():
        others = [kernel_distance(diagnostics.kernels[student], k) for k in without.values()]
        shown = "before training" if student == "start" else student
        cells = [figure_cell(value, "{:.3f}".format) for value in (distance, *others)]
        rows.append([words(shown), *cells])
    note = "R is the root mean square difference of two kernels, the distance that AFT lowers."
    return [Table("kernel_distances", columns, rows, "Distance to the teachers", note=note)]


def _gates_file(diagnostics: Diagnostics) -> list[Table]:
    if not diagnostics.gates:
        return []
    columns = [Column("teacher", "teacher", numeric=False), Column("feature", "feature")]
    rows = [
        [words(name), figure_cell(index, whole), figure_cell(float(gate), "{:.3f}".format)]
        for name, values in diagnostics.gates.items()
        for index, gate in enumerate(values)
    ]
    return [Table("gates", [*columns, Column("gate", "gate")], rows, shown=False)]
