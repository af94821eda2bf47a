"""Templates: how the columns of a text data set become the one text that a model reads.

Each states the task in words and ends where the answer would begin, for the sake of language models
that read from left to right. Where one column is much longer than the others it comes first: models
keep the end of a text that is too long for them, and with it the question.
"""

import string
from collections.abc import Mapping
from typing import Any

from aft_jax.errors import ConfigError, DataError

TEMPLATES: Mapping[str, str] = {
    "imdb": (
        "Somebody wrote about a film: {text}\n"
        "Did they like the film or dislike it? They"
    ),
    "boolq": (
        "Background: {passage}\n"
        "Decide from the background, yes or no: {question}?\n"
        "Decision:"
    ),
    "mnli": (
        "It is known that: {premise}\n"
        "Somebody claims that: {hypothesis}\n"
        "Given what is known, the claim is certain, possible or impossible. It is"
    ),
    "sst2": (
        "A critic's words: {sentence}\n"
        "Praise or blame? This is"
    ),
    "mrpc": (
        "One newspaper: {sentence1}\n"
        "Another newspaper: {sentence2}\n"
        "Do both report the same thing, yes or no? Verdict:"
    ),
    "qqp": (
        "Asked by one user: {question1}\n"
        "Asked by another user: {question2}\n"
        "Would one reply serve both, yes or no? Verdict:"
    ),
    "qnli": (
        "From an encyclopedia: {sentence}\n"
        "A reader wants to know: {question}\n"
        "Is the reader's question settled by these words, yes or no? Verdict:"
    ),
    "rte": (
        "Suppose this is so: {sentence1}\n"
        "Must this then be so as well: {sentence2}\n"
        "Yes or no? Verdict:"
    ),
    "cola": (
        "Somebody learning English wrote: {sentence}\n"
        "Would a teacher accept or correct the grammar? The teacher would"
    ),
    "wnli": (
        "A short story: {sentence1}\n"
        "A reader understood: {sentence2}\n"
        "Did the reader understand it rightly, yes or no? Verdict:"
    ),
    "snli_ve": (
        "Somebody says about the picture: {hypothesis}\n"
        "Seeing the picture, this is certain, possible or impossible. It is"
    ),
}  # fmt: skip
"""Template name -> the text; {name} stands for a column, named as TFDS and Hugging Face name it."""


def fields(template: str) -> tuple[str, ...]:
    """The columns that a template reads.

    Args:
        template: a key of `TEMPLATES`.

    Returns:
        Their names, in the order of the text.

    Raises:
        ConfigError: the template is unknown.
    """
    return tuple(name for _, name, _, _ in string.Formatter().parse(_text(template)) if name)


def render(template: str, fields: Mapping[str, Any]) -> str:
    """The text that a template makes of one example.

    Args:
        template: a key of `TEMPLATES`.
        fields: column name -> its text; others than the template's are left alone.

    Returns:
        The text; what the columns hold is taken as it is, braces included.

    Raises:
        ConfigError: the template is unknown, or reads a column that `fields` lacks.
        DataError: a column holds something else than text or a whole number.
    """
    text, parts = _text(template), []
    for words, name, _, _ in string.Formatter().parse(text):
        parts.append(words)
        if name:
            parts.append(_value(template, name, fields))
    return "".join(parts)


def _value(template: str, name: str, given: Mapping[str, Any]) -> str:
    if name not in given:
        raise ConfigError(
            f"config.data.template {template!r} reads the column {name!r}; the data has "
            f"{', '.join(given) or 'no columns'}. Map it in config.data.columns, as in "
            f"columns.{name}=<your column>, or choose another template."
        )
    value = given[name]
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(
            f"config.data.template {template!r} fills in text and whole numbers; the column "
            f"{name!r} holds {value!r} of type {type(value).__name__}. Repair or remove the row."
        )
    return str(value)


def _text(template: str) -> str:
    if template not in TEMPLATES:
        raise ConfigError(
            f"config.data.template is one of {', '.join(TEMPLATES)}, or empty for none; "
            f"got {template!r}."
        )
    return TEMPLATES[template]
