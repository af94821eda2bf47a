"""launch/slurm.sbatch: what it asks SLURM for, and when it goes back into the queue."""

import shutil

import pytest

from tests.launch.stage import ROOT, SHOWN, WORDS, commands


def test_dry_run(stage):
    result = stage.script("slurm.sbatch", *WORDS, DRY_RUN="1")
    assert commands(result) == [
        f"export PATH={stage.checkout}/.venv/bin:$PATH",
        f"srun --kill-on-bad-exit=0 --wait=300 --label {SHOWN}",
        "scontrol requeue JOB",
    ]


def test_saves_before_the_limit_and_starts_a_process_for_each_gpu():
    text = (ROOT / "launch/slurm.sbatch").read_text()
    before, _, after = text.partition("set -euo pipefail")
    options = {}
    for line in before.splitlines():
        if line.startswith("#SBATCH --"):
            name, _, value = line.removeprefix("#SBATCH --").partition("=")
            options[name] = value
    assert "#SBATCH" not in after  # SLURM reads no further than the first command
    assert options["signal"] == "TERM@120"
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert {"requeue", "nodes", "time"} <= set(options)


@pytest.mark.parametrize(("status", "requeued"), [(75, True), (0, False), (3, False)])
def test_requeues_after_75_alone(stage, status, requeued):
    stage.stand_in("srun", f'echo "cpus $SRUN_CPUS_PER_TASK" >>calls\nexit {status}')
    stage.stand_in("scontrol")
    package = stage.checkout / ".venv/bin/aft-jax"
    package.parent.mkdir(parents=True)
    package.touch(0o755)
    spool = stage.checkout / "launch/job1"  # where SLURM puts its copy is not the checkout
    shutil.move(stage.checkout / "launch/slurm.sbatch", spool)
    variables = {"SLURM_JOB_ID": "17", "SLURM_SUBMIT_DIR": str(stage.checkout)}
    variables["SLURM_CPUS_PER_TASK"] = "3"
    result = stage.script("job1", *WORDS, **variables)
    assert result.returncode == status
    calls = stage.calls()
    assert calls[0] == ["srun", "--kill-on-bad-exit=0", "--wait=300", "--label", *WORDS]
    assert calls[1] == ["cpus", "3"]
    assert calls[2:] == [["scontrol", "requeue", "17"]] * requeued


def test_submitted_from_elsewhere(stage):
    (stage.checkout / "launch/commands.sh").unlink()
    result = stage.script("slurm.sbatch", *WORDS, SLURM_SUBMIT_DIR=str(stage.checkout))
    assert result.returncode == 2
    assert f"{stage.checkout} is not the checkout; submit from there." in result.stderr
