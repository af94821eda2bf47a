"""What runs of one data set share: both splits, each with what is read of it."""

from typing import NamedTuple

from aft_jax.config import Config
from aft_jax.data import load_splits, report_overlap
from aft_jax.training.batches import StudentData, one_after_another, read_by_student
from aft_jax.training.learner import Learner
from aft_jax.training.methods import LEARNERS


class RunData(NamedTuple):
    """What runs of one data set share, whatever their method.

    Attributes:
        train: the examples to train on.
        tune: the examples that may choose anything.
        fitted: the examples that a method is fitted to before training, where `train` has those of
            tune too; None where they are those of `train`.
    """

    train: StudentData
    tune: StudentData
    fitted: StudentData | None = None


def load_data(config: Config) -> RunData:
    """Loads both splits, and warns where they share examples.

    Args:
        config: the run's config.

    Returns:
        The splits with what the student reads of them.

    Raises:
        ConfigError: a name in the config is unknown.
        DataError: the data cannot be read, or break a rule.
    """
    train, tune = load_splits(config.data, "train", "tune")
    report_overlap((train, tune))
    return RunData(read_by_student(config, train), read_by_student(config, tune))


def read_by_learner(config: Config, learner: Learner, data: RunData) -> RunData:
    """The data as a learner reads them; those of the config's student are read already.

    Args:
        config: the run's config.
        learner: what is trained.
        data: both splits.

    Returns:
        The splits.
    """
    if config.method not in LEARNERS:
        return data
    tune = learner.read(data.tune.dataset)
    if data.fitted is None or not LEARNERS[config.method].reads_stores:
        return RunData(learner.read(data.train.dataset), tune)
    # Train and tune as one have no stores; each of the two has.
    first = learner.read(data.fitted.dataset)
    return RunData(one_after_another(data.train.dataset, first, tune), tune)
