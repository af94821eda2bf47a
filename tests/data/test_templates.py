"""Templates: every column's content is in the text, whatever the content is."""

import pytest

from aft_jax.data.templates import TEMPLATES, fields, render
from aft_jax.errors import ConfigError, DataError

# As TFDS and the Hugging Face hub name the columns of GLUE, SuperGLUE, IMDB and SNLI-VE.
COLUMNS = {
    "imdb": {"text"},
    "boolq": {"question", "passage"},
    "mnli": {"premise", "hypothesis"},
    "sst2": {"sentence"},
    "mrpc": {"sentence1", "sentence2"},
    "qqp": {"question1", "question2"},
    "qnli": {"question", "sentence"},
    "rte": {"sentence1", "sentence2"},
    "cola": {"sentence"},
    "wnli": {"sentence1", "sentence2"},
    "snli_ve": {"hypothesis"},
}


def example(template, mark):
    return {name: f"what {mark} says of {name}" for name in fields(template)}


def test_every_data_set_has_its_template_with_its_own_columns():
    assert {name: set(fields(name)) for name in TEMPLATES} == COLUMNS


@pytest.mark.parametrize("template", TEMPLATES)
def test_all_content_is_in_the_text_and_no_place_is_left_open(template):
    content = example(template, "Ann")
    text = render(template, content)
    for value in content.values():
        assert text.count(value) == 1
    assert "{" not in text
    assert "}" not in text


@pytest.mark.parametrize("template", TEMPLATES)
def test_changing_any_column_changes_the_text(template):
    first, second = example(template, "Ann"), example(template, "Bob")
    texts = {render(template, first | {name: second[name]}) for name in fields(template)}
    assert len(texts | {render(template, first)}) == len(fields(template)) + 1


@pytest.mark.parametrize("template", TEMPLATES)
def test_braces_and_percent_signs_in_the_content_stay_as_they_are(template):
    content = {name: f"{{{name}}} {{}} {{0!r:>9}} }}{{ %s {name}" for name in fields(template)}
    text = render(template, content)
    for value in content.values():
        assert text.count(value) == 1


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_text_asks_its_question_last(template):
    text = render(template, example(template, "Ann"))
    assert text == text.strip()
    assert not text.endswith(tuple(example(template, "Ann").values()))


def test_one_text_word_for_word():
    text = render("boolq", {"question": "is {x} wet", "passage": "It rains.", "idx": "7"})
    assert text == (
        "Background: It rains.\nDecide from the background, yes or no: is {x} wet?\nDecision:"
    )


def test_a_whole_number_is_written_out():
    assert "wrote: 1984\n" in render("cola", {"sentence": 1984})


def test_an_unknown_template_lists_the_known():
    for call in (lambda: fields("mnil"), lambda: render("mnil", {})):
        with pytest.raises(ConfigError, match=r"data\.template is one of imdb, .*; got 'mnil'"):
            call()


def test_a_missing_column_is_named():
    with pytest.raises(
        ConfigError, match=r"'mnli' reads the column 'hypothesis'; the data has premise, label"
    ):
        render("mnli", {"premise": "a", "label": "b"})


@pytest.mark.parametrize("value", [None, b"bytes", 0.5, True])
def test_content_that_is_no_text_is_refused(value):
    with pytest.raises(DataError, match=r"'cola' fills in text .*; the column 'sentence' holds .*"):
        render("cola", {"sentence": value})
