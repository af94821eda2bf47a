"""What holds for every script: clean, with all options in its help, and plain about wrong use."""

import subprocess

import pytest

from tests.launch.stage import ROOT

SCRIPTS = [*sorted(ROOT.glob("launch/*.sh")), ROOT / "launch/slurm.sbatch", ROOT / ".ci/run"]
SLICE = ("--name=vit", "--zone=us-east5-b", "--type=v6e-16")
POD = (
    *("--name=vit", "--image=pkg.dev/p/r/aft-jax", "--node-pool=slice", "--bucket=b"),
    *("--accelerator=tpu-v6e-slice", "--topology=4x4", "--hosts=4", "--service-account=runner"),
)


def test_shellcheck_finds_nothing():
    subprocess.run(["shellcheck", "--external-sources", *SCRIPTS], check=True)


@pytest.mark.parametrize("name", ["tpu_vm.sh", "tpu_host.sh", "gke.sh", "gpu.sh"])
def test_help_names_every_option_that_is_read(stage, name):
    text = (ROOT / "launch" / name).read_text()
    cases = text[text.index('case "$1" in') : text.index("    --)")]
    read = {word.partition("=")[0] for word in cases.replace(")", " ").split() if word[:2] == "--"}
    result = stage.script(name, "--help")
    assert result.returncode == 0
    assert read - set(
        result.stdout.replace("[", " ").replace("=", " ").replace("]", " ").split()
    ) <= {"--help"}


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "tpu_vm.sh",
            ["--nmae=x"],
            "options are those that --help shows, each written --name=value",
        ),
        ("tpu_vm.sh", ["--name", "x"], "got --name"),
        ("tpu_vm.sh", ["--name=x", "--zone=z"], "--type=v5litepod-16 is missing"),
        ("tpu_vm.sh", [*SLICE], "the command follows after --"),
        (
            "tpu_vm.sh",
            [*SLICE, "--retries=few", "--", "x"],
            "--retries is a whole number; got 'few'",
        ),
        (
            "tpu_vm.sh",
            [*SLICE, "--bucket=gs://b/c", "--", "x"],
            "a bucket, without a path; got 'b/c'",
        ),
        ("tpu_vm.sh", [*SLICE, "--type=v9-8", "--dry-run", "--", "x"], "no software is known for"),
        (
            "tpu_host.sh",
            ["--bukket=b"],
            "options are --bucket, --extras, --stop, --dry-run and --help",
        ),
        ("tpu_host.sh", ["--bucket=b"], "the command follows after --"),
        ("gpu.sh", ["train"], "options are --extras, --dry-run and --help"),
        ("gpu.sh", [], "the command follows after --"),
        ("gke.sh", [*POD, "--spot"], "options are those that --help shows"),
        ("gke.sh", [*POD, "--hosts=3", "--", "x"], "topology 4x4 has 16 chips; got --hosts=3 with"),
        ("gke.sh", [*POD, "--topology=16", "--", "x"], "--topology is AxB or AxBxC; got '16'"),
        ("gke.sh", [*POD, "--dry-run", "--", "a\nb"], "a line break or a tab"),
        ("slurm.sbatch", [], "the command follows the script"),
        ("slurm.sbatch", ["aft-jax", "train"], "has no .venv with the package"),
    ],
)
def test_wrong_use_is_told(stage, name, arguments, message):
    result = stage.script(name, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
