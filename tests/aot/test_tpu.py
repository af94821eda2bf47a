"""The real step, compiled for real slices by the compiler in libtpu; no TPU is needed."""

import dataclasses
import importlib.util
import logging

import pytest

from aft_jax.aot import compile_for, format_compilation
from aft_jax.aot.compilation import Measured, Refused
from aft_jax.config import resolve
from aft_jax.errors import UsageError
from benchmarks.tpu_aot import CLASSES, WIDTHS, config, goals
from configs import cifar10, cifar100_vit_s

pytestmark = [
    pytest.mark.slow,
    pytest.mark.tpu_aot,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="libtpu, of the extra tpu-aot, is there for Linux on x86_64 alone",
    ),
]


def small(**changes):
    raw = cifar10.get_config("student=small_cnn,teachers=dinov2_s,smoke")
    return dataclasses.replace(resolve(raw), **changes)


def test_vit_s_and_two_giants_on_sixteen_chips():
    found = compile_for(config(), "v5e:4x4", CLASSES, WIDTHS)
    assert [goal for goal in goals(found, config()) if not goal.met] == []
    base = found.programs["stl"]
    assert isinstance(base, Measured)
    # 12 blocks of 197 tokens, 384 wide, 6 heads; patches of 16 x 16 x 3, whose gradient by the
    # image nobody needs; the head. Each product has two more in its gradient.
    block = 197 * 384 * (3 + 1 + 4 + 4) * 384 + 2 * 197 * 197 * 384
    products = 3 * 12 * block + 2 * 196 * 768 * 384 + 3 * 384 * 100
    assert base.costs.flops == 2 * 256 * products


@pytest.mark.parametrize(("topology", "devices"), [("v4:2x2x1", 4), ("tpu7x:2x2x1", 8)])
def test_chips_of_two_cores(topology, devices):
    found = compile_for(small(), topology, 3, {"dinov2_s": 16})
    assert found.slice.devices == devices
    assert all(isinstance(program, Measured) for program in found.programs.values())
    assert "aft fits" in format_compilation(found)


def test_a_transformer_in_float16():
    of = dataclasses.replace(
        resolve(cifar100_vit_s.get_config("teachers=dinov2_s,smoke")), precision="float16"
    )
    found = compile_for(of, "v5e:2x2", 3, {"dinov2_s": 16})
    assert all(isinstance(program, Measured) for program in found.programs.values())


def test_what_is_too_large_is_said_to_be(caplog):
    of = dataclasses.replace(config(), method="stl", teachers={})
    with caplog.at_level(logging.INFO, "aft_jax"):
        found = compile_for(of, "v5e:2x2", CLASSES)
    refused = found.programs["stl"]
    assert isinstance(refused, Refused)
    assert refused.needed > refused.available > 15 * 2**30
    assert "stl does not fit" in format_compilation(found)
    assert "compiling stl for v5e:2x2" in caplog.text


def test_slices_that_there_are_not():
    with pytest.raises(UsageError, match=r"v5e:3x5: .*not divisible"):
        compile_for(small(), "v5e:3x5", 3, {"dinov2_s": 16})
