"""A student of your own, with weights from elsewhere: MobileNetV1 in 40 lines of Flax.

    python docs/examples/mobilenet_v1.py student_mobilenet_v1_025.npz runs/mobilenet_v1

turns a weight file (batch norm folded into the convolutions: `op{i}.w` and `op{i}.b` in the order
of the layers) into a saved student, from which a config starts:

    config.student.name = "docs.examples.mobilenet_v1:mobilenet_v1"
    config.student.init_from = "runs/mobilenet_v1"

Architecture: Howard et al., MobileNets, arXiv 1704.04861, table 1.
"""

import pathlib
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.config import read_inputs
from aft_jax.config.defaults import base_config
from aft_jax.students import save_student
from aft_jax.types import StudentOutput

BLOCKS = (  # (stride of the depthwise convolution, channels of the pointwise one at width 1)
    *((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)),
    *((1, 512), (1, 512), (1, 512), (1, 512), (1, 512), (2, 1024), (1, 1024)),
)
# Without batch norm a signal must keep its size through 27 layers of rectifiers.
INIT = nn.initializers.he_normal()
NAME = "docs.examples.mobilenet_v1:mobilenet_v1"


class Depthwise(nn.Module):
    """A 3x3 convolution of each channel with its own filter, as nine shifted products.

    XLA's grouped convolution computes the same, but its gradient is far slower on a CPU.

    Attributes:
        stride: 1 or 2.
    """

    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, c], padded as TensorFlow's SAME."""
        channels, stride = x.shape[-1], self.stride
        kernel = self.param("kernel", INIT, (3, 3, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        height, width = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
        pads = [_same(x.shape[1], height, stride), _same(x.shape[2], width, stride)]
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        total = jnp.broadcast_to(bias, (x.shape[0], height, width, channels))
        for down in range(3):
            rows = x[:, down : down + stride * (height - 1) + 1 : stride]
            for right in range(3):
                part = rows[:, :, right : right + stride * (width - 1) + 1 : stride]
                total += part * jnp.broadcast_to(kernel[down, right], part.shape)
        return total


class MobileNetV1(nn.Module):
    """Features of an image by depthwise-separable convolutions, and a linear head.

    Attributes:
        num_classes: k.
        width: of every layer, as a share of the original's.
    """

    num_classes: int
    width: float

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> StudentOutput:
        """[b, h, w, 3] images in [-1, 1] -> logits [b, k] and pooled features [b, 1024 width]."""
        first = nn.Conv(int(32 * self.width), (3, 3), strides=2, kernel_init=INIT, name="conv0")
        x = nn.relu6(first(images))
        for number, (stride, channels) in enumerate(BLOCKS):
            width = int(channels * self.width)
            x = nn.relu6(Depthwise(stride, name=f"depthwise{number}")(x))
            x = nn.relu6(nn.Dense(width, kernel_init=INIT, name=f"pointwise{number}")(x))
        features = jnp.mean(x, axis=(1, 2))
        return StudentOutput(nn.Dense(self.num_classes, name="head")(features), features)


def mobilenet_v1(num_classes: int, width: float) -> MobileNetV1:
    """What `config.student.name` names: a function of the classes and the config's options."""
    return MobileNetV1(num_classes, width)


def convert(weights: pathlib.Path, directory: pathlib.Path) -> None:
    """Writes a saved student of the weights of the ImageNet classifier.

    Args:
        weights: .npz with `op0` (first convolution), then depthwise and pointwise ones in turn,
            then, after the pooling, the classifier.
        directory: made, and given a student/ folder.
    """
    with np.load(weights, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}

    def layer(number: int) -> dict[str, np.ndarray]:
        kernel = arrays[f"op{number}.w"]  # a 1x1 convolution is a linear map of the channels
        kernel = kernel[0, 0] if kernel.shape[:2] == (1, 1) else kernel
        return {"kernel": kernel, "bias": arrays[f"op{number}.b"]}

    params = {"conv0": layer(0)}
    for number in range(len(BLOCKS)):
        params[f"depthwise{number}"] = layer(1 + 2 * number)
        params[f"pointwise{number}"] = layer(2 + 2 * number)
    params["head"] = layer(2 * len(BLOCKS) + 2)
    classes = [f"class {number}" for number in range(len(params["head"]["bias"]))]
    width = params["conv0"]["bias"].size / 32
    raw = base_config().inputs.to_dict() | {"kind": "image", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    save_student(directory, NAME, classes, {"width": width}, read_inputs(raw), {"params": params})


def _same(size: int, out: int, stride: int) -> tuple[int, int]:
    """Padding before and after, so that `out` windows of 3 at this stride cover `size`."""
    total = max((out - 1) * stride + 3 - size, 0)
    return total // 2, total - total // 2


if __name__ == "__main__":
    convert(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
