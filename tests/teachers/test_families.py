"""The table of families, and that it costs nothing to import."""

import subprocess
import sys

import pytest

from aft_jax.errors import ConfigError
from aft_jax.teachers import TEACHERS, identify_teacher, make_teacher


@pytest.mark.parametrize("make", [make_teacher, identify_teacher])
def test_an_unknown_kind_lists_the_known(make, configure):
    families = ", ".join(TEACHERS)
    with pytest.raises(ConfigError, match=rf"kind is one of {families}; got 'onnx'"):
        make(configure("onnx", "model.onnx"))


def test_importing_the_families_imports_no_torch():
    program = (
        "import sys, aft_jax.teachers; "
        "print(sorted({'torch', 'transformers', 'timm', 'torchvision', 'PIL', 'huggingface_hub'}"
        " & set(sys.modules)))"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (child.stdout.strip(), child.stderr) == ("[]", "")
