"""What the trials of a sweep share: the splits and each teacher's features, loaded once."""

import dataclasses

from aft_jax.config import Config
from aft_jax.data import Dataset, joined
from aft_jax.features import TeacherFeatures, one_after_another, side_by_side
from aft_jax.training.batches import read_by_student, teacher_features
from aft_jax.training.experiment import Experiment, build
from aft_jax.training.methods import find_method
from aft_jax.training.run_data import RunData, load_data
from aft_jax.training.sharding import data_mesh, row_sharded


class SharedData:
    """Loads on demand and keeps what it loaded."""

    def __init__(self, config: Config):
        """Loads nothing yet.

        Args:
            config: the sweep's config.
        """
        self.config = config
        self._data: RunData | None = None
        self._joined: RunData | None = None
        self._features: dict[tuple[str, str], TeacherFeatures] = {}

    @property
    def reads_teachers(self) -> bool:
        """Whether the method does."""
        return find_method(self.config).uses_teachers

    @property
    def has_beta(self) -> bool:
        """Whether its loss has a term that beta multiplies."""
        return find_method(self.config).has_beta

    @property
    def data(self) -> RunData:
        """Both splits with what the student reads of them."""
        if self._data is None:
            self._data = load_data(self.config)
        return self._data

    @property
    def joined(self) -> RunData:
        """Train and tune together in place of train."""
        if self._joined is None:
            together = joined(self.data.train.dataset, self.data.tune.dataset)
            read = read_by_student(self.config, together)
            self._joined = RunData(read, self.data.tune, fitted=self.data.train)
        return self._joined

    def experiment(self, config: Config, on_both: bool = False) -> Experiment:
        """The experiment of one set of teachers.

        Args:
            config: the sweep's, with some of its teachers.
            on_both: whether it trains on train and tune together.

        Returns:
            The experiment; nothing that another set loaded is loaded again.

        Raises:
            ConfigError: a name in the config is unknown or its parts do not fit.
            DataError: the data cannot be read, or break a rule.
            StoreError: a feature store is missing or does not belong to this teacher and these
                examples.
            UsageError: the student to start from does not exist or has another architecture.
        """
        data = self.joined if on_both else self.data
        if not self.has_beta:
            return build(config, data)
        train, tune = self.data.train.dataset, self.data.tune.dataset
        features = self._of(config, train)
        if on_both:
            features = one_after_another(features, self._of(config, tune))
        return build(config, data, features)

    def _of(self, config: Config, dataset: Dataset) -> TeacherFeatures:
        rows = row_sharded(data_mesh(config.devices, config.batch_size))
        parts = []
        for name, teacher in config.teachers.items():
            key = (name, dataset.split)
            if key not in self._features:
                alone = dataclasses.replace(config, teachers={name: teacher})
                self._features[key] = teacher_features(alone, dataset, rows)
            parts.append(self._features[key])
        return side_by_side(parts)
