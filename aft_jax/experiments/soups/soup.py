"""The `soup` verb: averages of a sweep's students, at the inference cost of one.

    uniform   the mean of all of them
    greedy    the best on tune first, then each in turn that does not lower tune when it joins

Wortsman et al., "Model soups", ICML 2022, arXiv 2203.05482. Only tune decides; test is looked at
once, when both soups are made.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from aft_jax.config import Config, to_json
from aft_jax.data import RowOrder, load_split, load_splits, prefetched
from aft_jax.errors import UsageError
from aft_jax.experiments.soups.averaging import Mixture, Statistics, mixture, running
from aft_jax.experiments.soups.ingredients import Ingredient, find_ingredients
from aft_jax.experiments.soups.table import SoupRecord, load_record, save_record, soup_table
from aft_jax.files import write_whole
from aft_jax.progress import progress_bar
from aft_jax.students import SavedStudent, has_student, load_student, save_student
from aft_jax.training import workdir as run_directory
from aft_jax.training.batches import THREADS, StudentData, read_by_student, train_batch
from aft_jax.training.evaluate import evaluate_on
from aft_jax.training.learner import student_of
from aft_jax.training.sharding import data_mesh, replicated, row_sharded
from aft_jax.training.step import compile_eval_step
from aft_jax.types import Batch, PyTree

DIRECTORY = "soup"
STATISTICS_BATCHES = 100
"""Batches that running statistics are the mean over, if an epoch has as many."""


class Soup(NamedTuple):
    """An average of students.

    Attributes:
        members: their directories, the best first.
        variables: the average.
        tune: its accuracy on the tune split.
    """

    members: tuple[str, ...]
    variables: PyTree
    tune: float


def soup(workdir: pathlib.Path) -> str:
    """Averages the students of a finished sweep or comparison.

    Args:
        workdir: its directory; the soups go to `soup/uniform` and `soup/greedy` there, as
            directories that `config.student.init_from`, `evaluate` and `export` accept, and
            `soup/soup.json` says what is in them.

    Returns:
        A table of the soups beside single students, and a sentence on whether they help.

    Raises:
        UsageError: there are not two finished students that share a start, or they differ in
            structure or classes.
        DataError: the data cannot be read.
    """
    config = run_directory.read_config(workdir)
    ingredients = find_ingredients(workdir, config)
    target = workdir / DIRECTORY
    done = load_record(target)
    if done is not None and done.is_of(ingredients) and _has_soups(target):
        return soup_table(done)
    kitchen = _Kitchen(config, workdir, load_student(workdir / ingredients[0].directory))
    with progress_bar(3 * len(ingredients) + 2, f"soup {workdir}", "student") as bar:
        soups = {
            "uniform": kitchen.uniform(ingredients, bar.update),
            "greedy": kitchen.greedy(ingredients, bar.update),
        }
        record = kitchen.test(ingredients, soups, bar.update)
    for name, made in soups.items():
        kitchen.save(target / name, made.variables)
    save_record(target, record)
    return soup_table(record)


def _has_soups(target: pathlib.Path) -> bool:
    return all(has_student(target / name) for name in ("uniform", "greedy"))


class _Kitchen:
    """One student's compiled evaluation and statistics, and the data that they read."""

    def __init__(self, config: Config, workdir: pathlib.Path, saved: SavedStudent):
        self.config, self.workdir, self.saved = config, workdir, saved
        self.mesh = data_mesh(config.devices, config.batch_size)
        train, tune = load_splits(config.data, "train", "tune")
        if train.classes != saved.classes:
            raise UsageError(
                f"a soup is judged on the classes of its students, {', '.join(saved.classes)}; "
                f"{train.name} now has {', '.join(train.classes)}. Restore the data."
            )
        self.train, self.tune = read_by_student(config, train), read_by_student(config, tune)
        student = student_of(saved.name, saved.options, config.inputs, saved.classes)
        self.eval_step = compile_eval_step(student, self.mesh)
        self.statistics = Statistics(student, self.mesh)

    def variables(self, one: Ingredient) -> PyTree:
        """The weights of a student; only one or two are in memory at once."""
        found = load_student(self.workdir / one.directory).variables
        ours, theirs = jax.tree.map(_kind, found), jax.tree.map(_kind, self.saved.variables)
        if ours != theirs:
            raise UsageError(
                "a soup averages students of one structure; the weights of "
                f"{one.directory} differ in names, shapes or dtypes. Move it out of trials/."
            )
        return found

    def uniform(self, ingredients: Sequence[Ingredient], tick: Callable[[], Any]) -> Soup:
        """The mean of all students."""
        mixed = mixture(self.variables(ingredients[0]))
        for one in ingredients[1:]:
            mixed = mixed.add(self.variables(one))
            tick()
        variables = self._mean(mixed)
        tick()
        members = tuple(one.directory for one in ingredients)
        return Soup(members, variables, self.accuracy(variables, self.tune))

    def greedy(self, ingredients: Sequence[Ingredient], tick: Callable[[], Any]) -> Soup:
        """The students that do not lower tune when they join those before them."""
        best = ingredients[0]
        mixed = mixture(self.variables(best))
        made = Soup((best.directory,), self.variables(best), best.tune)
        tick()
        for one in ingredients[1:]:
            larger = mixed.add(self.variables(one))
            variables = self._mean(larger)
            tune = self.accuracy(variables, self.tune)
            tick()
            if tune >= made.tune:
                mixed, made = larger, Soup((*made.members, one.directory), variables, tune)
        return made

    def test(
        self, ingredients: Sequence[Ingredient], soups: dict[str, Soup], tick: Callable[[], Any]
    ) -> SoupRecord:
        """Everything on the test split, once; nothing is chosen any more."""
        test = read_by_student(self.config, load_split(self.config.data, "test"))
        singles = []
        for one in ingredients:
            singles.append({**one._asdict(), "test": self.accuracy(self.variables(one), test)})
            tick()
        averages = {}
        for name, made in soups.items():
            accuracy = self.accuracy(made.variables, test)
            averages[name] = {"members": made.members, "tune": made.tune, "test": accuracy}
            tick()
        rows = {"tune": len(self.tune.dataset), "test": len(test.dataset)}
        return SoupRecord(tuple(singles), averages, rows)

    def save(self, directory: pathlib.Path, variables: PyTree) -> None:
        """A directory that reads like that of a run."""
        saved = self.saved
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / run_directory.CONFIG, to_json(self.config))
        save_student(
            directory,
            saved.name,
            saved.classes,
            saved.options,
            saved.inputs,
            variables,
            saved.origin,
        )

    def accuracy(self, variables: PyTree, data: StudentData) -> float:
        """Over every labelled example of a split."""
        placed = jax.device_put(variables, replicated(self.mesh))
        rows = self.config.batch_size
        return evaluate_on(self.eval_step, placed, data, rows, self.mesh)["accuracy"]

    def _mean(self, mixed: Mixture) -> PyTree:
        variables = mixed.mean(self.saved.variables)
        return self.statistics.fit(variables, self._batches()) if running(variables) else variables

    def _batches(self) -> Iterator[Batch]:
        """An epoch of training batches as the students saw them, or the first of it."""
        rows = len(self.train.dataset)
        order = RowOrder(rows, min(self.config.batch_size, rows), seed=0)
        load = functools.partial(self._batch, order)
        count = min(order.steps_per_epoch, STATISTICS_BATCHES)
        return prefetched(load, 0, count, THREADS, THREADS)

    def _batch(self, order: RowOrder, step: int) -> Batch:
        sharding = row_sharded(self.mesh)
        return train_batch(self.train, None, order, step, self.config.views, sharding)


def _kind(leaf: Any) -> tuple[Any, ...]:
    return leaf.shape, leaf.dtype
