"""Images in folders: split/class/file."""

import dataclasses
from typing import Any

from aft_jax.config import DataConfig
from aft_jax.data.records import Records
from aft_jax.data.sources.raw_examples import Raw, collect
from aft_jax.data.sources.storage import entries, location, read
from aft_jax.errors import DataError

UNLABELLED = "unlabelled"
"""Name of the folder whose images have no label."""


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Image files, read when asked for.

    Attributes:
        files: n paths.
        suffixes: endings of the file names that Pillow reads, in lower case.
    """

    files: tuple[Any, ...]
    suffixes: frozenset[str]

    def __len__(self) -> int:
        """The number of files."""
        return len(self.files)

    def raw(self, row: int) -> Raw:
        """The content of a file."""
        file = self.files[row]
        if file.suffix.lower() not in self.suffixes:
            raise DataError(
                f"a class folder holds image files that Pillow reads; {file} ends in "
                f"{file.suffix!r}. Remove it, convert it, or set "
                'config.data.on_error="skip".'
            )
        return {"image": read(file)}

    def name(self, row: int) -> str:
        """The path."""
        return str(self.files[row])


def load_image_folder(config: DataConfig, split: str) -> Records:
    """Images of one split; each folder in it is a class, and an id is "class/file".

    Hidden files are left out.

    Args:
        config: `path` is the directory with a folder per split, local or gs://bucket/path.
        split: name of the folder.

    Returns:
        Examples {"image"}.

    Raises:
        DataError: the directory cannot be read, or what it holds is not class folders of images.
    """
    root = location(config.path) / split
    files, labels = [], []
    for folder in entries(root):
        if not folder.is_dir():
            raise DataError(
                f"a split is folders of classes, {config.path}/split/class/file; {folder} is a "
                "file. Move it into the folder of its class, or remove it."
            )
        for file in entries(folder):
            files.append(file)
            labels.append(None if folder.name == UNLABELLED else folder.name)
    images = ImageFiles(tuple(files), _suffixes())
    _require_no_folders(images, config.path)
    ids = [f"{file.parent.name}/{file.name}" for file in files]
    return collect(images, labels, config.on_error, ids=ids)


def _suffixes() -> frozenset[str]:
    from PIL import Image

    endings = Image.registered_extensions().items()
    return frozenset(ending for ending, kind in endings if kind in Image.OPEN)


def _require_no_folders(images: ImageFiles, path: str) -> None:
    # Only what does not look like an image is asked: a question takes a request in a bucket.
    for file in images.files:
        if file.suffix.lower() not in images.suffixes and file.is_dir():
            raise DataError(
                f"a class folder holds images only, {path}/split/class/file; {file} is a folder. "
                "Move its images up, or make it a class of its own."
            )
