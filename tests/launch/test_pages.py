"""The pages about targets: their commands of ours are run with --dry-run, or read, in small."""

import functools
import re
import shlex
import subprocess

import pytest

from aft_jax.cli import VERBS
from aft_jax.config.file import load_config
from tests.launch.stage import ROOT

PAGES = ("tpu_vm", "gke", "slurm", "gpu")
NAMES = {"PROJECT": "p", "ZONE": "z", "REGION": "r", "BUCKET": "b", "IMAGE": "i"}
OURS = re.compile(r"^(bash launch/|sbatch |aft-jax )")


def commands(page: str) -> list[str]:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0] for line in lines if OURS.match(line)]


@pytest.mark.parametrize("page", PAGES)
def test_the_scripts_take_the_commands_of_a_page(stage, page):
    (stage.checkout / ".git").mkdir()
    ran = 0
    for command in commands(page):
        script = re.search(r"launch/\S+", command)
        if script is None:
            continue
        if command.startswith("sbatch"):
            command = f"DRY_RUN=1 bash {command[script.start() :]}"
        else:
            command = command.replace(script[0], f"{script[0]} --dry-run", 1)
        result = subprocess.run(
            ["bash", "-euc", command],
            cwd=stage.checkout,
            env=stage.environment | NAMES,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, (command, result.stderr)
        assert "aft-jax " in result.stdout.replace('"', " ")
        ran += 1
    assert ran >= 1


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_aft_jax_name_verbs_and_keys_that_exist(page):
    found = [
        words[words.index("aft-jax") :]
        for words in map(shlex.split, commands(page))
        if "aft-jax" in words
    ]
    assert found
    for words in found:
        assert words[1] in VERBS
        (config,) = [word for word in words if word.startswith("--config=")]
        keys = load_config(str(ROOT / config.removeprefix("--config=")))
        for word in words:
            for name in re.findall(r"^--config\.([\w.]+)=", word):
                functools.reduce(getattr, name.split("."), keys)  # raises where there is none
