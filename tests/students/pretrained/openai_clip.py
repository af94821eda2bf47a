"""CLIP in torch, from its definition, its tensors under OpenAI's names."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

# Models as open_clip describes them.
DEPTHS = [1, 2, 1, 1]
VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
RESNET_VISION = {"image_size": 64, "layers": DEPTHS, "width": 8, "patch_size": None}
TEXT = {"context_length": 9, "vocab_size": 30, "width": 24, "heads": 3, "layers": 2}
VIT: dict[str, Any] = {"embed_dim": 12, "vision_cfg": VISION, "text_cfg": TEXT}
RESNET = VIT | {"vision_cfg": RESNET_VISION}
QUICK = {"quick_gelu": True}


class QuickGelu(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Residual(nn.Module):
    def __init__(self, width, heads, activation):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", activation())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x, mask=None):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width, heads, layers, activation):
        super().__init__()
        self.resblocks = nn.ModuleList(Residual(width, heads, activation) for _ in range(layers))

    def forward(self, x, mask=None):
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Vit(nn.Module):
    def __init__(self, image_size, patch_size, width, layers, activation, embed_dim, heads):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(width) / 8)
        positions = (image_size // patch_size) ** 2 + 1
        self.positional_embedding = nn.Parameter(torch.randn(positions, width) / 8)
        self.conv1 = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, heads, layers, activation)
        self.proj = nn.Parameter(torch.randn(width, embed_dim) / width**0.5)

    def forward(self, images):
        x = self.conv1(images).flatten(2).mT
        first = self.class_embedding.expand(len(x), 1, -1)
        x = torch.cat([first, x], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(stride)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = nn.Sequential()
        if stride > 1 or inputs != 4 * width:
            self.downsample.add_module("-1", nn.AvgPool2d(stride))
            self.downsample.add_module("0", nn.Conv2d(inputs, 4 * width, 1, bias=False))
            self.downsample.add_module("1", nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(self.pool(y)))
        return (y + self.downsample(x)).relu()


class AttentionPool(nn.Module):
    def __init__(self, side, width, heads, outputs):
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) / width**0.5)
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.c_proj = nn.Linear(width, width), nn.Linear(width, outputs)

    def forward(self, x):
        x = x.flatten(2).mT
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + self.positional_embedding
        query, key, value = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        x = functional.scaled_dot_product_attention(query[:, :, :1], key, value)
        return self.c_proj(x.flatten(1))


class ModifiedResnet(nn.Module):
    def __init__(self, image_size, layers, width, embed_dim, heads):
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(half, width, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(half), nn.BatchNorm2d(half)
        self.bn3 = nn.BatchNorm2d(width)
        inputs = width
        for stage, depth in enumerate(layers):
            blocks = []
            for number in range(depth):
                stride = 1 if stage == 0 or number else 2
                blocks.append(Bottleneck(inputs, width * 2**stage, stride))
                inputs = 4 * width * 2**stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.attnpool = AttentionPool(image_size // 32, inputs, heads, embed_dim)

    def forward(self, x):
        for number in (1, 2, 3):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)).relu()
        x = functional.avg_pool2d(x, 2)
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
        return self.attnpool(x)


class Clip(nn.Module):
    """Both towers, and the classifier of their outer product."""

    def __init__(self, model, classes, activation: Callable[[], nn.Module] = QuickGelu):
        super().__init__()
        vision, text, outputs = dict(model["vision_cfg"]), model["text_cfg"], model["embed_dim"]
        width, head = vision["width"], vision.pop("head_width", 64)
        if vision["patch_size"] is None:
            vision.pop("patch_size")
            self.visual = ModifiedResnet(**vision, embed_dim=outputs, heads=width * 32 // head)
        else:
            self.visual = Vit(
                **vision, activation=activation, embed_dim=outputs, heads=width // head
            )
        width = text["width"]
        self.token_embedding = nn.Embedding(text["vocab_size"], width)
        self.positional_embedding = nn.Parameter(torch.randn(text["context_length"], width) / 8)
        self.transformer = Transformer(width, text["heads"], text["layers"], activation)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, outputs) / width**0.5)
        self.logit_scale = nn.Parameter(torch.ones(()))
        self.classifier = nn.Linear(outputs**2, classes)

    def encode_text(self, ids):
        length = ids.shape[1]
        x = self.token_embedding(ids) + self.positional_embedding[:length]
        later = torch.full((length, length), -torch.inf).triu(1)
        x = self.ln_final(self.transformer(x, later))
        return x[torch.arange(len(x)), ids.argmax(1)] @ self.text_projection

    def features(self, images, ids):
        return self.visual(images), self.encode_text(ids)

    def forward(self, images, ids):
        image, text = self.features(images, ids)
        return self.classifier((image[:, :, None] * text[:, None, :]).flatten(1))
