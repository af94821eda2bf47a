"""Tokens: padding, lengths and ids, from tokenizers that are made here and saved to disk."""

import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertTokenizer, PreTrainedTokenizerFast

from aft_jax.config import InputsConfig
from aft_jax.data import tokens as tokens_module
from aft_jax.data.tokens import bucket, tokenize
from aft_jax.errors import ConfigError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d"]
PAD, UNK, CLS, SEP, A, B, C, D = 0, 1, 2, 3, 5, 6, 7, 8


def inputs(tokenizer, max_length=8, buckets=(4, 8)):
    return InputsConfig(
        kind="text",
        image_size=8,
        image_fit="stretch",
        mean=(0.0,),
        std=(1.0,),
        tokenizer=tokenizer,
        max_length=max_length,
        buckets=buckets,
    )


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("bert"))
    BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(path)
    return path


def save_words(path, **special):
    core = Tokenizer(models.WordLevel({"a": 0, "b": 1, "</s>": 2, "?": 3}, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, **special).save_pretrained(path)
    return str(path)


def rows(array):
    return np.asarray(array).tolist()


def test_a_batch_is_padded_on_the_right(bert):
    tokens = tokenize(["a b", "", "c d a"], inputs(bert))
    assert tokens.lengths.tolist() == [4, 2, 5]
    assert (len(tokens), tokens.vocab_size, tokens.pad_id) == (3, len(WORDS), PAD)
    batch = tokens.batch(np.array([2, 0]), 6)
    assert rows(batch["input_ids"]) == [[CLS, C, D, A, SEP, PAD], [CLS, A, B, SEP, PAD, PAD]]
    assert rows(batch["attention_mask"]) == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0]]
    assert rows(batch["token_type_ids"]) == [[0] * 6] * 2
    assert {value.dtype for value in batch.values()} == {np.dtype(np.int32)}


def test_a_long_text_keeps_its_end(bert):
    tokens = tokenize(["a b c d"], inputs(bert, max_length=4, buckets=(4,)))
    assert rows(tokens.batch(np.array([0]), 4)["input_ids"]) == [[CLS, C, D, SEP]]


def test_segments_only_where_the_tokenizer_tells_them_apart(tmp_path):
    tokens = tokenize(["a b"], inputs(save_words(tmp_path, eos_token="</s>", unk_token="?")))
    assert set(tokens.batch(np.array([0]), 4)) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(
    ("special", "pad"),
    [
        ({"pad_token": "b", "eos_token": "</s>"}, 1),
        ({"eos_token": "</s>"}, 2),
        ({}, 0),
    ],
)
def test_what_fills_up_a_row(tmp_path, special, pad):
    tokens = tokenize(["a zoo", ""], inputs(save_words(tmp_path, unk_token="?", **special)))
    batch = tokens.batch(np.array([0, 1]), 4)
    assert rows(batch["input_ids"]) == [[0, 3, pad, pad], [pad] * 4]
    assert rows(batch["attention_mask"]) == [[1, 1, 0, 0], [0] * 4]


def test_bytes_need_no_file():
    tokens = tokenize(["Aé", "", "\ud800!"], inputs("bytes"))
    assert (tokens.vocab_size, tokens.pad_id) == (257, 0)
    assert tokens.lengths.tolist() == [3, 0, 2]
    batch = tokens.batch(np.arange(3), 4)
    # A is 0x41 and é is 0xC3 0xA9 in UTF-8; half a surrogate pair becomes a question mark.
    expected = [[0x42, 0xC4, 0xAA, 0], [0, 0, 0, 0], [0x40, 0x22, 0, 0]]
    assert rows(batch["input_ids"]) == expected
    assert rows(batch["attention_mask"]) == [[1, 1, 1, 0], [0] * 4, [1, 1, 0, 0]]


def test_bytes_keep_the_end_too():
    tokens = tokenize(["abcdef"], inputs("bytes", max_length=2, buckets=(2,)))
    assert rows(tokens.batch(np.array([0]), 2)["input_ids"]) == [[ord("e") + 1, ord("f") + 1]]


def test_any_batch_is_the_rows_of_the_whole():
    texts = ["x" * (i * 7 % 9) for i in range(20)]
    tokens = tokenize(iter(texts), inputs("bytes", max_length=9, buckets=(9,)))
    whole = tokens.batch(np.arange(20), 9)
    some = np.array([19, 3, 3, 0])
    part = tokens.batch(some, 9)
    for name, value in part.items():
        np.testing.assert_array_equal(value, whole[name][some])
    assert tokens.batch(np.zeros(0, int), 4)["input_ids"].shape == (0, 4)


def test_chunks_leave_no_seam(bert, monkeypatch):
    texts = ["a b", "c", "", "d d d", "b"]
    whole = tokenize(texts, inputs(bert))
    monkeypatch.setattr(tokens_module, "CHUNK", 2)
    parts = tokenize(texts, inputs(bert))
    np.testing.assert_array_equal(parts.ids, whole.ids)
    np.testing.assert_array_equal(parts.offsets, whole.offsets)
    np.testing.assert_array_equal(parts.type_ids, whole.type_ids)


def test_many_texts_show_their_progress(monkeypatch, capsys):
    tokenize(["a"] * 3, inputs("bytes"))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(tokens_module, "BAR_FROM", 2)
    tokenize(["a"] * 3, inputs("bytes"))
    assert "tokenize: 100%" in capsys.readouterr().err
    tokenize(("a" for _ in range(3)), inputs("bytes"), count=3)
    assert "3/3" in capsys.readouterr().err


def test_no_texts():
    tokens = tokenize([], inputs("bytes"))
    assert (len(tokens), tokens.lengths.tolist()) == (0, [])


@pytest.mark.parametrize(("longest", "expected"), [(0, 4), (4, 4), (5, 8), (8, 8)])
def test_the_smallest_bucket_that_holds_all(longest, expected):
    assert bucket(np.array([1, longest, 0]), (4, 8)) == expected


def test_a_text_longer_than_every_bucket():
    with pytest.raises(
        ConfigError, match=r"config\.inputs\.buckets .* \(4, 8\) and a text of 9 to"
    ):
        bucket(np.array([9, 1]), (4, 8))
    tokens = tokenize(["abcde"], inputs("bytes"))
    with pytest.raises(ValueError, match=r"as long as its longest text, 5; got 4"):
        tokens.batch(np.array([0]), 4)


def test_jit_compiles_one_program_for_each_bucket_at_most():
    buckets = (4, 8, 16)
    tokens = tokenize(["x" * (i % 17) for i in range(200)], inputs("bytes", 16, buckets))
    total: Any = jax.jit(lambda batch: jnp.sum(batch["input_ids"] * batch["attention_mask"]))
    rng = np.random.default_rng(0)
    for _ in range(40):
        chosen = rng.choice(200, 2)
        batch = tokens.batch(chosen, bucket(tokens.lengths[chosen], buckets))
        assert int(total(batch)) == (ord("x") + 1) * sum(chosen % 17)
    assert total._cache_size() == len(buckets)  # the jitted function's own counter


def test_threads_share_a_tokenizer(bert):
    """Truncation is a state of the tokenizer, which two threads want to set differently."""
    texts = ["a b c d " * 50] * 200
    found, errors = {}, []

    def work(length):
        try:
            for _ in range(4):
                found[length] = tokenize(texts, inputs(bert, length)).lengths
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(length,)) for length in (3, 5, 7, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert {length: set(lengths.tolist()) for length, lengths in found.items()} == {
        length: {length} for length in (3, 5, 7, 9)
    }


def test_no_room_for_a_text(bert):
    with pytest.raises(ConfigError, match=r"inputs\.max_length .* the 2 tokens .*; got 2"):
        tokenize(["a"], inputs(bert, max_length=2, buckets=(2,)))


@pytest.mark.parametrize("name", ["", "/no/such/tokenizer", "./none"])
def test_a_tokenizer_that_is_not_there(name):
    with pytest.raises(
        ConfigError, match=rf"config\.inputs\.tokenizer .*'{name}' is no dir.*'bytes'"
    ):
        tokenize(["a"], inputs(name))


@pytest.mark.parametrize("content", [None, "{", '{"model": 3}'])
def test_a_damaged_tokenizer(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
        (tmp_path / "tokenizer_config.json").write_text(
            '{"tokenizer_class": "PreTrainedTokenizerFast"}'
        )
    with pytest.raises(
        ConfigError, match=r"config\.inputs\.tokenizer .* cannot be loaded: .+ Give"
    ):
        tokenize(["a"], inputs(str(tmp_path)))
