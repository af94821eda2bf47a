"""The command line's own checks: every mistake is one message on standard error and exit code 2."""

import errno
import pathlib
import subprocess
import sys

import pytest

from aft_jax import cli
from aft_jax.cli import VERBS, main

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = f"--config={ROOT / 'configs/digits.py'}:smoke"


@pytest.fixture
def refusal(monkeypatch, capsys, tmp_path):
    """Runs a command as the console script does and returns the message it refuses it with."""

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["aft-jax", *words])
        monkeypatch.chdir(tmp_path)
        assert main() == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("aft-jax: ")
        assert "Traceback" not in captured.err
        assert list(tmp_path.iterdir()) == []
        return captured.err

    return run


@pytest.mark.parametrize("words", [[], ["help"], ["-h"], ["--help"]])
def test_no_verb_prints_every_verb(words, capsys):
    assert main(words) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "]
    assert listed == list(VERBS)


def test_the_module_runs():
    child = subprocess.run(
        [sys.executable, "-m", "aft_jax", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.returncode, child.stdout) == (2, "")
    assert child.stderr == (
        "aft-jax: the verb is one of extract, verify, list, "
        "import-official, export-official, rank, compile, train, evaluate, compare, sweep, soup, "
        "report, export; got 'nonsense'.\n"
    )


@pytest.mark.parametrize("verb", ["extract", "train", "compare"])
def test_without_a_config(refusal, verb):
    assert "this verb needs --config=" in refusal(verb, "--workdir=run")


@pytest.mark.parametrize("verb", ["train", "evaluate", "compare", "report"])
def test_without_a_workdir(refusal, verb):
    assert "this verb needs --workdir=DIRECTORY" in refusal(verb, CONFIG)


def test_a_bucket_as_run_directory(refusal):
    message = refusal("train", CONFIG, "--workdir=gs://bucket/run")
    assert "a directory of the file system; got gs://bucket/run. Mount the bucket" in message


def test_a_leftover_argument(refusal):
    message = refusal("train", CONFIG, "--workdir=run", "extra")
    assert "--process, --distributed; got ['extra']" in message


def test_directories_follow_the_flags_of_report_alone(refusal):
    message = refusal("report", "--workdir=out", "first", "second")
    assert "a report is about a directory" in message
    assert "first is not there" in message
    assert "got ['--wide']" in refusal("report", "--workdir=out", "first", "--wide")


def test_a_report_reads_the_configs_of_its_runs(refusal):
    assert "got --config. Leave it out." in refusal("report", CONFIG, "--workdir=out")


def test_an_unknown_flag(refusal):
    assert "got ['--wrkdir=run']" in refusal("train", CONFIG, "--wrkdir=run")


def test_an_unknown_split(refusal):
    message = refusal("evaluate", "--workdir=run", "--split=dev")
    assert "--split is one of train, tune, test; got 'dev'" in message


def test_evaluating_what_is_no_run(refusal):
    assert "a run directory holds a config.json; run has none" in refusal(
        "evaluate", "--workdir=run"
    )


def test_a_config_value_that_breaks_a_rule(refusal):
    message = refusal("train", CONFIG, "--config.steps=0", "--workdir=run")
    assert "config.steps is at least 1; got 0" in message


def test_a_config_value_of_another_type(refusal):
    message = refusal("train", CONFIG, "--config.steps=many", "--workdir=run")
    assert "--config.steps=many" in message


def test_an_unknown_source(refusal):
    message = refusal("extract", CONFIG, "--config.data.source=mnist")
    # The teacher is looked for first; either is the user's to fix.
    assert "config.data.source is one of arrays, csv, digits" in message or "has none" in message


def test_arguments_of_the_function_override_the_config(capsys):
    assert main(["train", CONFIG, "--config.steps=0", "--workdir=run"]) == 2
    assert "config.steps is at least 1; got 0" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["stepz", "optim.stepz", "teachers.wide.source"])
def test_a_misspelled_config_key(refusal, key):
    assert key in refusal("train", CONFIG, f"--config.{key}=3", "--workdir=run")


@pytest.mark.parametrize("override", [[], ["--config.steps=3"]])
def test_a_config_file_that_does_not_exist(refusal, override):
    message = refusal("train", "--config=configs/nope.py", *override, "--workdir=run")
    assert "configs/nope.py is none" in message
    assert "object at" not in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("stage=x", "stage is one of teacher, pretrain, student; got 'x'"),
        ("smok", "config argument 'smok' is unknown; this config takes stage, smoke"),
    ],
)
def test_a_wrong_argument_of_the_config(refusal, arguments, expected):
    config = f"--config={ROOT / 'configs/digits.py'}:{arguments}"
    assert expected in refusal("train", config, "--workdir=run")


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.VERBS, "train", interrupted)
    assert main(["train", CONFIG, "--workdir=run"]) == 130
    assert capsys.readouterr().err == "aft-jax: interrupted; the same command resumes.\n"


def fails(monkeypatch, error):
    def failing(options):
        raise error

    monkeypatch.setitem(cli.VERBS, "train", failing)


def test_storage_that_is_gone_is_no_bug_of_ours(monkeypatch, capsys):
    fails(monkeypatch, OSError(errno.EIO, "Input/output error", "/data/run/metrics.jsonl"))
    assert main(["train", CONFIG, "--workdir=run"]) == 74
    assert "/data/run/metrics.jsonl'. Repair it" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "No such file"), RuntimeError("a bug")])
def test_any_other_error_ends_one_of_several_processes_at_once(monkeypatch, capsys, error):
    """Python's own end would wait for the others, which wait for this one."""
    fails(monkeypatch, error)
    left = []
    monkeypatch.setattr(cli, "leave", left.append)
    for joined, expected in [(False, []), (True, [1])]:
        monkeypatch.setattr(cli, "joined", lambda joined=joined: joined)
        with pytest.raises(type(error)):
            main(["train", CONFIG, "--workdir=run"])
        assert left == expected
        assert ("Traceback" in capsys.readouterr().err) == bool(expected)


def test_a_config_file_that_does_not_run(refusal, tmp_path):
    broken = tmp_path.parent / "broken.py"
    broken.write_text("import no_such_module")
    assert "no_such_module" in refusal("train", f"--config={broken}", "--workdir=run")
    broken.write_text("x = 1")
    assert "defines get_config" in refusal("train", f"--config={broken}", "--workdir=run")
