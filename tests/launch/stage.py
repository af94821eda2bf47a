"""A checkout of the scripts, and stand-ins for the commands that they call."""

import os
import pathlib
import shlex
import shutil
import subprocess
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
WORDS = ["aft-jax", "train", "--config=configs/x.py:a b", '--config.note=it\'s $HOME "&" \\', "*"]
"""A command that any careless quoting on its way through the shells would change."""

SHOWN = (
    "aft-jax train '--config=configs/x.py:a b' "
    "--config.note=it\\'s\\ \\$HOME\\ \\\"\\&\\\"\\ \\\\ '*'"
)

PLAYER = """#!/usr/bin/env bash
# Records its call; answers with the first line left of the answers to its kind of call.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
printf '%s\\n' "$(basename "$0") $(printf '%q ' "$@")" >>calls
answer() {
  local line
  line="$(head -n 1 "$1")"
  (($(wc -l <"$1") == 1)) || sed -i 1d "$1"
  echo "$line"
}
"""


class Started(NamedTuple):
    """A script under way, and the file of what it prints."""

    process: subprocess.Popen
    output: pathlib.Path

    def end(self) -> tuple[int, str]:
        return self.process.wait(timeout=20), self.output.read_text()


class Stage:
    """A checkout of scripts, and a PATH with stand-ins that record their calls."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.checkout = directory / "aft_jax"
        shutil.copytree(ROOT / "launch", self.checkout / "launch")
        self.checkout.joinpath("launch/environment.sh").write_text('echo "installed $1"\n')
        (directory / "bin").mkdir()
        path = f"{directory / 'bin'}:{os.environ['PATH']}"
        self.started: list[Started] = []
        self.environment = {**os.environ, "PATH": path, "HOME": str(directory)}

    def stand_in(self, name: str, text: str = "") -> None:
        file = self.directory / "bin" / name
        file.write_text(PLAYER + text)
        file.chmod(0o755)

    def answers(self, kind: str, *lines: object) -> None:
        (self.directory / kind).write_text("".join(f"{line}\n" for line in lines))

    def script(self, name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", self.checkout / "launch" / name, *arguments],
            cwd=self.checkout,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def begin(self, name: str, *arguments: str) -> "Started":
        script = self.checkout / "launch" / name
        output = self.directory / f"output{len(self.started)}"
        with output.open("w") as file:  # a pipe would stay open for as long as any descendant
            process = subprocess.Popen(
                # Where the tests run in the background, Ctrl-C is ignored, and bash cannot undo it.
                ["env", "--default-signal=INT", "bash", script, *arguments],
                cwd=self.checkout,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.started.append(Started(process, output))
        return self.started[-1]

    def clear(self) -> None:
        for started in self.started:
            started.process.kill()
            started.process.wait(timeout=20)

    def calls(self) -> list[list[str]]:
        return [shlex.split(line) for line in (self.directory / "calls").read_text().splitlines()]


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def commands(result: subprocess.CompletedProcess) -> list[str]:
    return [line[2:] for line in result.stdout.splitlines() if line.startswith("$ ")]
