"""Examples that lie in one `.npz` file."""

import dataclasses
import zipfile

import numpy as np

from aft_jax.config import DataConfig
from aft_jax.data.records import Records
from aft_jax.data.sources.columns import label_of
from aft_jax.data.sources.raw_examples import Raw, collect
from aft_jax.data.sources.storage import location, unreadable
from aft_jax.errors import DataError

CONTENTS = ("image", "array", "text")


@dataclasses.dataclass(frozen=True)
class ArrayRows:
    """Rows of arrays in host memory.

    Attributes:
        arrays: example key -> [n, ...].
        where: file and split, for messages.
    """

    arrays: dict[str, np.ndarray]
    where: str

    def __len__(self) -> int:
        """The number of rows."""
        return len(next(iter(self.arrays.values())))

    def raw(self, row: int) -> Raw:
        """The row of each array."""
        found: dict[str, str | np.ndarray] = {}
        for key, array in self.arrays.items():
            found[key] = str(array[row]) if key == "text" else array[row]
        if "text" in found and not str(found["text"]).strip():
            raise DataError(f"a text has at least one character; {self.name(row)} has none.")
        return found

    def name(self, row: int) -> str:
        """File, split and row."""
        return f"{self.where} row {row}"


def load_arrays(config: DataConfig, split: str) -> Records:
    """Rows of the arrays "<split>/image", "<split>/array" or "<split>/text" of a `.npz` file.

    Beside them lie "<split>/label" and, if there are any, "<split>/id" and "class_names".

    Args:
        config: `path` is the file.
        split: first part of the arrays' names.

    Returns:
        Examples with the keys of CONTENTS that the split has; images are [h, w, 3] uint8, grey
        ones repeated over the channels.

    Raises:
        DataError: the file cannot be read, an array is missing or does not fit the others.
    """
    stored = _read(config.path, split)
    where = f"{config.path} split {split!r}"
    arrays = {key: stored[key] for key in CONTENTS if key in stored}
    missing = "/".join(CONTENTS) if not arrays else "label" if "label" not in stored else ""
    if missing:
        raise DataError(
            f"a split has an array of labels and one of images, arrays or texts; {where} has "
            f"{', '.join(f'{split}/{key}' for key in stored) or 'none'}, but no {split}/{missing}."
        )
    sizes = {key: len(array) for key, array in stored.items() if key != "class_names"}
    if len(set(sizes.values())) > 1:
        raise DataError(f"the arrays of a split have as many rows each; {where} has {sizes}.")
    if "image" in arrays:
        arrays["image"] = _colour(arrays["image"], where)
    labels = [
        label_of(label, f"{where} row {i}") for i, label in enumerate(stored["label"].tolist())
    ]
    ids = stored["id"].astype(str).tolist() if "id" in stored else None
    names = stored.get("class_names")
    classes = None if names is None else tuple(map(str, names.tolist()))
    rows = ArrayRows(arrays, where)
    return collect(rows, labels, config.on_error, ids=ids, classes=classes)


def _read(path: str, split: str) -> dict[str, np.ndarray]:
    """The arrays of a split by the second part of their names, and the class names."""
    file = location(path)
    try:
        with file.open("rb") as opened:
            stored = np.load(opened, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                raise ValueError("one array without a name")
            wanted = [name for name in stored.files if name.startswith(f"{split}/")]
            found = {name.removeprefix(f"{split}/"): stored[name] for name in wanted}
            if "class_names" in stored.files:
                found["class_names"] = stored["class_names"]
            return found
    except (OSError, ImportError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise unreadable(file, error) from error


def _colour(images: np.ndarray, where: str) -> np.ndarray:
    """[n, h, w, 3], a view where the images are grey."""
    grey = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or grey.ndim != 4 or grey.shape[-1] not in (1, 3):
        raise DataError(
            f"images are uint8 [n, h, w, 3], or [n, h, w] for grey ones; {where} has "
            f"{images.dtype} {list(images.shape)}. Store anything else as an array."
        )
    return np.broadcast_to(grey, (*grey.shape[:3], 3))
