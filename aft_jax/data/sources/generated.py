"""Generated examples, for smoke runs and tests: three classes that anyone can tell apart.

An image of a class has its colour under noise, a text its words among others. Every example is a
pure function of its split and position, and no two are equal.
"""

import dataclasses

import numpy as np

from aft_jax.config import DataConfig
from aft_jax.data.records import Records
from aft_jax.data.sources.raw_examples import Raw, collect
from aft_jax.data.templates import fields, render
from aft_jax.errors import ConfigError

KINDS = ("image", "text", "image_text")
ROWS = {"train": 96, "tune": 48, "test": 48}
"""Split name -> rows, a third of them of each class."""
CLASSES = ("red", "green", "blue")
HEIGHT, WIDTH = 36, 48  # pixels

_CLASS_WORDS = (
    ("poppy", "tomato", "ember", "brick"),
    ("meadow", "lettuce", "moss", "emerald"),
    ("ocean", "sapphire", "sky", "cobalt"),
)
_OTHER_WORDS = ("today", "somewhere", "quietly", "again", "nearby", "slowly", "before", "perhaps")


def generated(config: DataConfig, split: str) -> Records:
    """One generated split.

    Args:
        config: `path` is "image", "text" or "image_text"; `template`, if any, is filled in.
        split: "train", "tune" or "test".

    Returns:
        Its rows.

    Raises:
        ConfigError: the path, split or template is unknown.
    """
    if config.path not in KINDS:
        raise ConfigError(
            f"config.data.path of the generated source is one of {', '.join(KINDS)}; "
            f"got {config.path!r}."
        )
    if split not in ROWS:
        raise ConfigError(
            f"a split of the generated source is one of {', '.join(ROWS)}; got {split!r}."
        )
    if config.template:
        fields(config.template)  # an unknown one is refused here
    source = _Generated(config.path, split, config.template)
    labels = [_label(row) for row in range(len(source))]
    return collect(source, labels, config.on_error, classes=CLASSES)


@dataclasses.dataclass(frozen=True)
class _Generated:
    """Rows that are made when asked for."""

    kind: str
    split: str
    template: str

    def __len__(self) -> int:
        return ROWS[self.split]

    def raw(self, row: int) -> Raw:
        rng = np.random.default_rng([list(ROWS).index(self.split), row])
        parts: dict[str, np.ndarray | str] = {}
        if "image" in self.kind:
            parts["image"] = _image(rng, _label(row))
        if "text" in self.kind:
            parts["text"] = self._text(rng, row)
        return parts

    def name(self, row: int) -> str:
        return f"generated {self.split} row {row}"

    def _text(self, rng: np.random.Generator, row: int) -> str:
        tag = f"{self.split}{row}"
        if not self.template:
            return _sentence(rng, _label(row), tag)
        columns = {name: _sentence(rng, _label(row), tag) for name in fields(self.template)}
        return render(self.template, columns)


def _label(row: int) -> int:
    return row % len(CLASSES)


def _image(rng: np.random.Generator, label: int) -> np.ndarray:
    """[HEIGHT, WIDTH, 3] uint8: noise everywhere, and more of the class's own channel."""
    image = rng.integers(0, 128, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    image[..., label] += np.uint8(96)
    return image


def _sentence(rng: np.random.Generator, label: int, tag: str) -> str:
    """Two to four of the class's words among as many others, and a word that no other row has."""
    count = int(rng.integers(2, 5))
    words = [*rng.choice(_CLASS_WORDS[label], count), *rng.choice(_OTHER_WORDS, count), tag]
    return " ".join(str(word) for word in rng.permutation(words))
