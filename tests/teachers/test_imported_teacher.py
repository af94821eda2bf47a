"""Features that came as a file are known by it, and never computed."""

import hashlib

import pytest

from aft_jax.errors import ConfigError
from aft_jax.teachers import TeacherIdentity, identify_teacher, make_teacher


def test_the_file_is_the_identity(tmp_path, configure):
    path = tmp_path / "vit_cifar10.pt"
    path.write_bytes(b"features")
    assert identify_teacher(configure("imported", path)) == TeacherIdentity(
        id="imported/vit_cifar10.pt",
        revision="",
        weights_sha256=hashlib.sha256(b"features").hexdigest(),
        preprocessing="imported from an official feature file",
        pooling="as imported",
    )


def test_a_file_that_is_elsewhere_has_no_identity_here(tmp_path, configure):
    assert identify_teacher(configure("imported", tmp_path / "none.pt")) is None


def test_features_are_not_computed(tmp_path, configure):
    with pytest.raises(ConfigError, match="cannot be recomputed; run `aft-jax import-official`"):
        make_teacher(configure("imported", tmp_path / "none.pt"))
