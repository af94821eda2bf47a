import dataclasses

import jax
import pytest

from aft_jax.aot.lowered import Refusal, compiled_step, read_refusal
from aft_jax.aot.parts import parts_of_flags
from aft_jax.config import resolve
from aft_jax.errors import ConfigError
from configs import cifar10

pytestmark = pytest.mark.usefixtures("standard_promotion")

GIB = 2**30


def config(**changes):
    raw = cifar10.get_config("student=small_cnn,teachers=dinov2_s,smoke")
    return dataclasses.replace(resolve(raw), **changes)


def compiled(**changes):
    of = config(**changes)
    return compiled_step(of, parts_of_flags(of, 3, {"dinov2_s": 16}), jax.devices())


def test_the_step_of_the_trainer_is_compiled_for_devices():
    program = compiled()
    assert isinstance(program, jax.stages.Compiled)
    state, batch, *_ = program.input_shardings[0]
    assert batch.inputs.num_devices == 8
    assert not batch.inputs.is_fully_replicated
    assert all(one.is_fully_replicated for one in jax.tree.leaves(state))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"state_sharding": "sharded"}, {"accumulation_steps": 2}, {"precision": "bfloat16"}]
)
def test_the_keys_of_scale_are_heeded(changes):
    plain, other = compiled(), compiled(**changes)
    assert isinstance(plain, jax.stages.Compiled)
    assert isinstance(other, jax.stages.Compiled)
    assert plain.as_text() != other.as_text()


def test_devices_divide_the_batch():
    with pytest.raises(ConfigError, match=r"got 12 rows for the 8 of this topology.*batch_size=16"):
        compiled(batch_size=12)


def test_devices_and_micro_batches_divide_the_batch():
    with pytest.raises(ConfigError, match=r"of this topology and 3 micro-batches.*batch_size=48"):
        compiled(batch_size=24 + 3, accumulation_steps=3)


def test_quirks_are_those_of_one_device():
    of = config(official_quirks=True)
    parts = parts_of_flags(config(), 3, {"dinov2_s": 16})
    with pytest.raises(ConfigError, match="trains on one device; got a topology of 8"):
        compiled_step(of, parts, jax.devices())


def test_the_compilers_two_sizes_are_read():
    message = (
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space "
        "hbm. Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G."
    )
    assert read_refusal(message) == Refusal(20.5 * GIB, 15.75 * GIB)
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (36.83G) exceeds available HBM (15.75G)."
    )
    assert read_refusal(message) == Refusal(36.83 * GIB, 15.75 * GIB)
    assert read_refusal("INTERNAL: something else") is None


def test_sizes_have_any_unit():
    assert read_refusal("memory space hbm. Used 1.5T of 512M hbm.") == Refusal(
        1.5 * 2**40, 512 * 2**20
    )
