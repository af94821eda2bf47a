"""The commands that users are told to type, in `smoke` size, through the real command line."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from aft_jax import cli
from aft_jax.experiments.comparison import compare, records
from aft_jax.training.metrics import read_metrics

pytestmark = pytest.mark.usefixtures("standard_promotion")

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory, standard_promotion):
    """An empty directory in which every command of launch/demo.sh has been run in smoke size."""
    directory = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for command in demo_commands():
            assert cli.main(smoke(command)) == 0, command
    return directory


def demo_commands() -> list[str]:
    script = (ROOT / "launch" / "demo.sh").read_text()
    return re.findall(r"^run (aft-jax .*)$", script, flags=re.MULTILINE)


def readme_commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0] for line in lines if line.startswith("aft-jax")]


def smoke(command: str) -> list[str]:
    """The arguments of a command, its config in smoke size and for one shared batch of 40 rows."""
    words = shlex.split(command)[1:]
    found = [word for word in words if word.startswith("--config=")]
    if not found:
        return words
    words.remove(found[0])
    path, _, arguments = found[0].removeprefix("--config=").partition(":")
    arguments = ",".join(filter(None, [arguments, "smoke"]))
    config = [f"--config={ROOT / path}:{arguments}", "--config.batch_size=40"]
    return [words[0], *config, *words[1:]]


def test_the_demo_ends_with_a_report(demo):
    page = (demo / "runs/digits/compare/report/index.html").read_text()
    comparison = records.load(demo / "runs/digits/compare")
    assert {trial.method for trial in comparison.trials} == {"stl", "aft"}
    for trial in comparison.trials:
        assert 0 <= trial.test <= 1
    assert "<table" in page
    assert page.count("<img") + page.count("<svg") >= 4


def test_the_readme_commands_run_after_the_demo(demo, monkeypatch):
    monkeypatch.chdir(demo)
    commands = readme_commands()
    assert commands
    for command in commands:
        assert cli.main(smoke(command)) == 0, command


def test_a_finished_comparison_is_not_run_again(demo, monkeypatch, capsys):
    monkeypatch.chdir(demo)
    before = (demo / "runs/digits/compare/comparison.json").read_bytes()
    command = next(line for line in demo_commands() if " compare " in line)
    assert cli.main(smoke(command)) == 0
    assert (demo / "runs/digits/compare/comparison.json").read_bytes() == before
    assert "aft" in capsys.readouterr().out


def test_an_interrupted_comparison_resumes(demo, monkeypatch, tmp_path):
    """With one trial unfinished, that one is trained again, and the numbers are the same."""
    monkeypatch.chdir(demo)
    directory = demo / "runs/digits/compare"
    before = records.load(directory)
    (directory / "comparison.json").unlink()
    again = directory / before.trials[-1].directory
    (again / "result.json").unlink()
    others = {
        path: path.stat().st_mtime_ns
        for path in directory.glob("trials/*/result.json")
        if path.parent != again
    }
    command = next(line for line in demo_commands() if " compare " in line)
    assert cli.main(smoke(command)) == 0
    after = records.load(directory)
    assert [trial.test for trial in after.trials] == [trial.test for trial in before.trials]
    assert after.chosen_beta == before.chosen_beta
    assert {path: path.stat().st_mtime_ns for path in others} == others


def test_the_test_split_is_loaded_after_the_last_training_step(demo, monkeypatch):
    monkeypatch.chdir(demo)
    directory = demo / "runs/digits/compare"
    (directory / "comparison.json").unlink()
    trials = list(directory.glob("trials/*"))
    (trials[0] / "result.json").unlink()
    finished_when_test_was_loaded = []
    module = compare  # the function of that name is in the package above
    original = module.load_split

    def load_split(config, role):
        if role == "test":
            finished_when_test_was_loaded.append(
                all((trial / "result.json").exists() for trial in trials)
            )
        return original(config, role)

    monkeypatch.setattr(module, "load_split", load_split)
    command = next(line for line in demo_commands() if " compare " in line)
    assert cli.main(smoke(command)) == 0
    assert finished_when_test_was_loaded
    assert all(finished_when_test_was_loaded)


def test_paired_seeds_share_their_start_and_their_rows(demo):
    """stl and aft of one seed see the same batches: at step 2 their task losses are still close."""
    directory = demo / "runs/digits/compare/trials"
    plain = read_metrics(directory / "stl-beta0-seed0")[0]
    aft = read_metrics(next(directory.glob("aft-beta*-seed0")))[0]
    other = read_metrics(directory / "stl-beta0-seed1")[0]
    assert abs(plain["task_loss"] - aft["task_loss"]) < abs(plain["task_loss"] - other["task_loss"])


def test_evaluate_writes_what_it_prints(demo, monkeypatch, capsys):
    monkeypatch.chdir(demo)
    run = next((demo / "runs/digits/compare/trials").glob("aft-*-seed0"))
    assert cli.main(["evaluate", f"--workdir={run}", "--split=tune"]) == 0
    printed = capsys.readouterr().out
    values = json.loads((run / "evaluation-tune.json").read_text())
    assert f"accuracy {100 * values['accuracy']:.2f} %" in printed
    result = json.loads((run / "result.json").read_text())
    assert values == pytest.approx(result["tune"])


def test_the_diagnostics_are_kernels_and_gates(demo):
    with np.load(demo / "runs/digits/compare/diagnostics.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == {
            "kernel/labels",
            "kernel/stl",
            "kernel/aft",
            "kernel/teacher",
            "kernel/start",
            "gates/wide_cnn",
            "share/wide_cnn",
        }
        rows = len(arrays["kernel/labels"])
        for name in ("stl", "aft", "teacher"):
            kernel = arrays[f"kernel/{name}"]
            assert kernel.shape == (rows, rows)
            np.testing.assert_allclose(kernel, kernel.T, atol=1e-5)
            assert np.all(np.abs(np.diag(kernel) - 1) < 1e-4)
        assert np.all((arrays["gates/wide_cnn"] > 0) & (arrays["gates/wide_cnn"] < 1))


def test_python_dash_m_is_the_same_program():
    output = subprocess.run(
        [sys.executable, "-m", "aft_jax"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert output.stdout.startswith("usage: aft-jax VERB")
