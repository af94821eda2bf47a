"""A torch model on every device of this machine, each with its share of the batch."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def visible_devices() -> list[str]:
    """Every CUDA device that this process sees, else the CPU."""
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]


def replicate(model: Any) -> list[Any]:
    """The model, frozen, once on each device."""
    devices = visible_devices()
    model = model.eval().requires_grad_(False)
    copies = [copy.deepcopy(model) for _ in devices[1:]]
    pairs = zip([model, *copies], devices, strict=True)
    return [replica.to(device) for replica, device in pairs]


def run_split(
    replicas: list[Any],
    features: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]],
    inputs: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Runs a batch, its rows shared out over the replicas.

    Args:
        replicas: what `replicate` made.
        features: model and tensors on its device -> part -> [rows, t] tensor.
        inputs: arrays of b rows each.

    Returns:
        part -> [b, t] float32.
    """
    import torch

    rows = len(next(iter(inputs.values())))
    bounds = np.linspace(0, rows, min(rows, len(replicas)) + 1).astype(int)
    outputs = []
    with torch.inference_mode():
        # CUDA runs while the next share is sent off: nothing waits before all devices are busy.
        for replica, start, stop in zip(replicas, bounds[:-1], bounds[1:], strict=False):
            device = next(replica.parameters()).device
            share = {
                name: torch.from_numpy(np.ascontiguousarray(array[start:stop])).to(device)
                for name, array in inputs.items()
            }
            outputs.append(features(replica, share))
        return {
            part: np.concatenate([output[part].float().cpu().numpy() for output in outputs])
            for part in outputs[0]
        }
