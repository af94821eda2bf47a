import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.aot.parts import parts_of_data, parts_of_flags, without_weights
from aft_jax.config import resolve
from aft_jax.errors import ConfigError
from aft_jax.features import extract
from configs import cifar10, cifar100_vit_s, digits, snli_ve, sst2


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def test_public_weights_are_known_by_their_name_alone():
    config = without_weights(resolve(cifar100_vit_s.get_config()))
    options = config.student.options
    assert (config.student.pretrained, config.student.init_from) == ("", "")
    assert (options["width"], options["depth"], options["heads"]) == (384, 12, 6)
    assert (options["image_size"], options["patch_size"], options["hidden"]) == (224, 16, 1536)


@pytest.mark.parametrize("student", ["mixer_b", "resnet50", "bit_50x1", "mobilenet_v4_s"])
def test_every_timm_student_of_the_configs_is_known(student):
    config = resolve(cifar10.get_config(f"student={student}"))
    assert without_weights(config).student.pretrained == ""


def test_images_of_another_size_change_the_positions_alone():
    raw: Any = cifar100_vit_s.get_config()
    raw.inputs.image_size = 112
    assert without_weights(resolve(raw)).student.options["image_size"] == 112


def test_the_options_of_the_config_go_over_those_of_the_name():
    raw: Any = cifar100_vit_s.get_config()
    raw.student.options = {"depth": 2}
    assert without_weights(resolve(raw)).student.options["depth"] == 2


def test_vit_s_has_the_state_and_batch_of_its_flags():
    raw: Any = cifar100_vit_s.get_config()
    raw.batch_size = 4096
    parts = parts_of_flags(resolve(raw), 100, {"dinov2_g": 1536, "clip_g": 1408})
    assert shapes(parts.batch.inputs) == ((4096, 224, 224, 3), jnp.uint8)
    assert shapes(parts.batch.labels) == ((4096,), jnp.int32)
    assert shapes(parts.batch.teacher_features) == {
        "clip_g": ((4096, 1408), jnp.float32),
        "dinov2_g": ((4096, 1536), jnp.float32),
    }
    state = jax.eval_shape(parts.new_state, jax.random.key(0))
    sizes = [leaf.size for leaf in jax.tree.leaves(state.variables["params"])]
    # timm's vit_small_patch16_224 has 22,050,664 parameters with 1,000 classes.
    assert sum(sizes) == 22_050_664 - (384 + 1) * 900
    assert {name: leaf.shape for name, leaf in state.regularizer["scales"].items()} == {
        "clip_g": (1408,),
        "dinov2_g": (1536,),
    }
    assert parts.steps == 5000


def test_plain_fine_tuning_reads_no_features():
    config = dataclasses.replace(resolve(cifar100_vit_s.get_config()), method="stl")
    parts = parts_of_flags(config, 100, {"dinov2_g": 1536, "clip_g": 1408})
    assert parts.batch.teacher_features == {}


def test_text_is_as_long_as_the_longest_kept():
    parts = parts_of_flags(resolve(sst2.get_config("smoke,teachers=none")), 2, {})
    assert shapes(parts.batch.inputs)["input_ids"] == ((16, 256), jnp.int32)


def test_pairs_have_an_image_and_tokens():
    config = resolve(snli_ve.get_config("smoke,teachers=clip_l"))
    parts = parts_of_flags(config, 3, {"clip_l.image": 768, "clip_l.text": 768})
    assert sorted(parts.batch.inputs) == ["attention_mask", "image", "input_ids"]
    assert shapes(parts.batch.inputs)["image"] == ((16, 32, 32, 3), jnp.uint8)


@pytest.mark.parametrize("widths", [{}, {"dinov2_g": 8}, {"dinov2_g": 8, "clip_g": 8, "other": 8}])
def test_widths_are_those_of_the_teachers(widths):
    with pytest.raises(ConfigError, match="the config names clip_g, dinov2_g, the flag"):
        parts_of_flags(resolve(cifar100_vit_s.get_config()), 100, widths)


@pytest.mark.parametrize("method", ["ft", "btune", "kd_logits", "fconcat", "concat"])
def test_methods_that_read_the_features_first_need_them(method):
    config = dataclasses.replace(resolve(cifar100_vit_s.get_config()), method=method)
    with pytest.raises(ConfigError, match=f"method '{method}' reads the stored features"):
        parts_of_flags(config, 100, {"dinov2_g": 8, "clip_g": 8})


def test_quirks_need_the_rows_of_the_data():
    raw: Any = cifar100_vit_s.get_config()
    raw.official_quirks, raw.devices = True, 1
    with pytest.raises(ConfigError, match=r"counts in epochs of the data set; leave out --classes"):
        parts_of_flags(resolve(raw), 100, {"dinov2_g": 8, "clip_g": 8})


def test_flags_and_data_give_the_same_step(tmp_path):
    raw: Any = cifar10.get_config("student=small_cnn,teachers=dinov2_s,smoke")
    raw.features.directory = str(tmp_path)
    config = resolve(raw)
    extract(config)
    told = parts_of_flags(config, 3, {"dinov2_s": 16})
    read = parts_of_data(config)
    assert shapes(told.batch) == shapes(read.batch)
    key = jax.random.key(0)
    assert shapes(jax.eval_shape(told.new_state, key)) == shapes(
        jax.eval_shape(read.new_state, key)
    )
    assert told.steps == read.steps == config.steps


def test_arrays_are_as_the_data_set_has_them():
    config = resolve(digits.get_config("smoke"))
    config = dataclasses.replace(config, method="stl", teachers={})
    parts = parts_of_flags(without_weights_of_runs(config), 10, {})
    rows, *rest = parts.batch.inputs.shape
    assert rows == config.batch_size
    assert np.prod(rest) == 64


def without_weights_of_runs(config):
    student = dataclasses.replace(config.student, init_from="")
    return dataclasses.replace(config, student=student)
