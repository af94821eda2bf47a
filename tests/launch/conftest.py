"""What the tests of several scripts stand on."""

import pytest

from tests.launch.stage import Stage

TRAINING = """#!/usr/bin/env bash
# Runs until it is told to end, then saves.
trap 'echo saved; exit 75' TERM
echo "started with $*" | tee -a started
while :; do sleep 0.05; done
"""


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    stage.clear()


@pytest.fixture
def host(stage):
    """A stage that is a host: a command that trains, and a bucket that can be mounted."""
    stage.stand_in("gcsfuse")
    stage.stand_in("mountpoint", "exit 1")
    (stage.directory / "bin/training").write_text(TRAINING)
    (stage.directory / "bin/training").chmod(0o755)
    return stage
