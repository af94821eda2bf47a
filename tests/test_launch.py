"""The scripts, the pins and the metadata: what a user meets before any Python of ours runs."""

import configparser
import importlib.metadata
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aft_jax.cli import VERBS
from aft_jax.version import __version__

ROOT = Path(__file__).parent.parent
SCRIPTS = [*sorted(ROOT.glob("launch/*.sh")), ROOT / ".ci/run"]


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(section: str, option: str) -> list[Requirement]:
    lines = setup_cfg()[section][option].splitlines()
    return [Requirement(line) for line in lines if line]


def pins() -> dict[str, str]:
    lines = (ROOT / "launch/constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_parses(script):
    subprocess.run(["bash", "-n", script], check=True)


def test_ci_runs_the_test_script():
    assert "exec bash launch/test.sh" in (ROOT / ".ci/run").read_text().splitlines()


def test_demo_names_verbs_and_configs_that_exist():
    demo = (ROOT / "launch/demo.sh").read_text()
    verbs = re.findall(r"^run aft-jax (\S+)", demo, re.MULTILINE)
    configs = re.findall(r"--config=([^\s:]+)", demo)
    assert verbs
    assert configs
    assert [verb for verb in verbs if verb not in VERBS] == []
    assert [path for path in configs if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize(
    ("section", "option"),
    [
        ("options", "install_requires"),
        ("options.extras_require", "train"),
        ("options.extras_require", "data"),
        ("options.extras_require", "teachers"),
        ("options.extras_require", "tpu-aot"),
        ("options.extras_require", "test"),
    ],
)
def test_every_requirement_has_a_pin_it_accepts(section, option):
    pinned = pins()
    wanted = requirements(section, option)
    assert wanted
    for requirement in wanted:
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} has no pin"
        assert version in requirement.specifier, f"{requirement} is pinned at {version}"


def test_pins_bring_no_accelerator_and_no_tensorflow():
    heavy = re.compile(r"tensorflow|nvidia-.*|jax-cuda.*")  # libtpu is a compiler here
    assert [name for name in pins() if heavy.fullmatch(name)] == []


@pytest.mark.parametrize("extra", ["tpu", "cuda13"])
def test_pins_agree_with_what_jax_wants_for_an_accelerator(extra):
    pinned = pins()
    wanted = [Requirement(line) for line in importlib.metadata.requires("jax") or []]
    of_extra = [one for one in wanted if one.marker and one.marker.evaluate({"extra": extra})]
    assert of_extra
    for one in of_extra:
        version = pinned.get(canonicalize_name(one.name))
        assert version is None or version in one.specifier, f"{one} is pinned at {version}"


def test_version_lives_in_one_place():
    assert setup_cfg()["metadata"]["version"] == "attr: aft_jax.version.__version__"
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__ == importlib.metadata.version("aft_jax")


def source_environment(root: Path, python: str | None) -> subprocess.CompletedProcess:
    """Sources environment.sh where PATH holds four commands and maybe a script as python3."""
    commands = root / "commands"
    commands.mkdir()
    for name in ("bash", "cat", "cksum", "dirname"):
        commands.joinpath(name).symlink_to(str(shutil.which(name)))
    if python is not None:
        commands.joinpath("python3").write_text(python)
        commands.joinpath("python3").chmod(0o755)
    for name in ("setup.cfg", "launch/constraints.txt", "launch/environment.sh"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    return subprocess.run(
        [commands / "bash", "-c", "source launch/environment.sh"],
        cwd=root,
        env={"PATH": str(commands)},
        capture_output=True,
        text=True,
    )


def test_environment_without_python_says_which_it_looked_for(tmp_path):
    result = source_environment(tmp_path, python=None)
    assert result.returncode == 1
    assert "Python 3.11 or newer is needed; none of python3.11, python3," in result.stderr


def test_environment_without_ensurepip_names_the_debian_package(tmp_path):
    python = f"""#!{shutil.which("bash")}
case "$2" in
  *ensurepip*) exit 1 ;;
  *print*) echo 3.12 ;;
esac
"""
    result = source_environment(tmp_path, python)
    assert result.returncode == 1
    assert "apt-get install python3.12-venv" in result.stderr
    assert not (tmp_path / ".venv").exists()
