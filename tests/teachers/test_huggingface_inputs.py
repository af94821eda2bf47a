"""What a model reads of the examples: threads, texts of any length, parts that are missing."""

import threading

import numpy as np
import pytest

from aft_jax.errors import DataError
from aft_jax.teachers import make_teacher


def test_batches_are_prepared_in_several_threads(checkpoint, configure, texts):
    teacher = make_teacher(configure("huggingface", checkpoint("bert")))
    wanted = [teacher.prepare(texts[: count + 1])["input_ids"] for count in range(5)]
    errors = []

    def work():
        for _ in range(20):
            for count in range(5):
                found = teacher.prepare(texts[: count + 1])["input_ids"]
                if not np.array_equal(found, wanted[count]):
                    errors.append(count)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize(
    ("side", "kept"), [("left", "cat sat on a mat"), ("right", "the red cat sat on")]
)
def test_long_texts_lose_one_end(side, kept, checkpoint, configure):
    long, short = [{"text": "the red cat sat on a mat"}], [{"text": kept}]
    options = {"truncation_side": side}
    config = configure("huggingface", checkpoint("bert"), max_length=7, options=options)
    teacher = make_teacher(config)  # five words between [CLS] and [SEP]
    np.testing.assert_array_equal(
        teacher.prepare(long)["input_ids"], teacher.prepare(short)["input_ids"]
    )


@pytest.mark.parametrize(("name", "limit"), [("bert", 24), ("roberta", 23), ("gpt2", 24)])
def test_texts_are_cut_at_the_models_own_limit(name, limit, checkpoint, configure):
    teacher = make_teacher(configure("huggingface", checkpoint(name)))
    inputs = teacher.prepare([{"text": "cat " * 100}])
    assert inputs["input_ids"].shape == (1, limit)
    assert np.isfinite(teacher.features(inputs)["pooled"]).all()


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_an_empty_text_has_features(name, checkpoint, configure):
    teacher = make_teacher(configure("huggingface", checkpoint(name), pooling="mean"))
    alone = teacher.features(teacher.prepare([{"text": ""}]))["pooled"]
    both = teacher.features(teacher.prepare([{"text": "the cat"}, {"text": ""}]))["pooled"]
    assert np.isfinite(alone).all()
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)


@pytest.mark.parametrize(("name", "part"), [("vit", "image"), ("bert", "text")])
def test_examples_without_what_the_model_reads_are_refused(name, part, checkpoint, configure):
    teacher = make_teacher(configure("huggingface", checkpoint(name)))
    with pytest.raises(DataError, match=rf"reads the {part} of an example; one has only array"):
        teacher.prepare([{"array": np.zeros(3)}])
