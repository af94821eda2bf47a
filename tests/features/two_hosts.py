"""One of two hosts that extract together: a child process of the tests.

python -m tests.features.two_hosts DIRECTORY PROCESS
"""

import pathlib
import sys
from typing import Any

import numpy as np

from aft_jax.config import resolve
from aft_jax.features import extract, shards
from aft_jax.teachers import Teacher, TeacherIdentity
from configs import digits


def main() -> None:
    directory, process = sys.argv[1:]
    computed = []

    def features(prepared: np.ndarray) -> dict[str, np.ndarray]:
        computed.append(len(prepared))
        return {"pooled": prepared.reshape(len(prepared), -1)[:, :8]}

    raw: Any = digits.get_config("stage=student,smoke")
    raw.features.update(
        {"directory": directory, "processes": 2, "process": int(process), "batch_size": 16}
    )
    config = resolve(raw)
    teacher = Teacher(
        TeacherIdentity("two hosts", "", "w", "none", "first pixels"),
        lambda examples: np.stack([example["array"] for example in examples]),
        features,
        1,
    )
    shards.MAX_SHARD_ROWS = 20
    extract(config, dict.fromkeys(config.teachers, teacher))
    pathlib.Path(directory, f"computed{process}").write_text(str(sum(computed)))


if __name__ == "__main__":
    main()
