"""Makes torchvision importable beside a torch of another build.

Its compiled operators do not load then, and its import fails at the first one it refers to. Its
transforms need none of them: the two names are enough.
"""

import importlib
import sys
import warnings
from typing import Any


def import_torchvision() -> Any:
    """torchvision, whether or not its operators load."""
    if sys.modules.get("torchvision", ...) is None:  # hidden from transformers
        del sys.modules["torchvision"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("torchvision")
        except RuntimeError:
            _define_operators()
            return importlib.import_module("torchvision")


def _define_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)  # it takes its definitions along when it is collected


_KEPT: list[Any] = []
