"""launch/gpu.sh: again after 75, and signals passed on."""

import signal

import pytest

from tests.launch.stage import SHOWN, WORDS, commands, until


def test_dry_run(stage):
    result = stage.script("gpu.sh", "--dry-run", "--", *WORDS)
    assert commands(result) == [
        "source launch/environment.sh train,data,cuda",
        "nvidia-smi --list-gpus",
        SHOWN,
    ]


@pytest.mark.parametrize(
    ("statuses", "runs"), [((0,), 1), ((75, 75, 0), 3), ((3, 0), 1), ((1, 0), 1)]
)
def test_runs_again_after_75_alone(stage, statuses, runs):
    stage.stand_in("nvidia-smi")
    stage.stand_in("aft-jax", 'exit "$(answer statuses)"')
    stage.answers("statuses", *statuses)
    result = stage.script("gpu.sh", "--extras=x", "--", *WORDS)
    assert result.returncode == statuses[runs - 1]
    assert "installed x" in result.stdout
    assert [call for call in stage.calls() if call[0] == "aft-jax"] == [WORDS] * runs


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_passes_signals_on_and_waits_for_the_save(host, number):
    host.stand_in("nvidia-smi")
    started = host.begin("gpu.sh", "--", "training")
    until((host.checkout / "started").exists)
    started.process.send_signal(number)
    status, output = started.end()
    assert status == 75, output
    assert output.endswith("saved\n")


def test_without_a_gpu_is_told(stage):
    stage.stand_in("nvidia-smi", "exit 9")
    result = stage.script("gpu.sh", "--", "true")
    assert result.returncode == 2
    assert "sees no GPU here" in result.stderr
