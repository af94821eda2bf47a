"""Public checkpoints by name: for suggestions when a name is wrong, and for the documentation.

Any other checkpoint of a known format works as well; these are those one would start from.
"""

from collections.abc import Mapping

KNOWN: Mapping[str, str] = {
    "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k": "vit",
    "timm/vit_small_patch16_224.augreg_in1k": "vit",
    "timm/vit_small_patch16_224.augreg_in21k_ft_in1k": "vit",
    "timm/vit_base_patch16_224.augreg_in21k_ft_in1k": "vit",
    "timm/vit_large_patch16_224.augreg_in21k_ft_in1k": "vit",
    "timm/vit_small_patch14_dinov2.lvd142m": "vit",
    "timm/vit_small_patch14_reg4_dinov2.lvd142m": "vit",
    "timm/vit_base_patch16_clip_224.openai": "vit",
    "timm/vit_base_patch16_siglip_224.webli": "vit",
    "google/vit-base-patch16-224": "vit",
    "google/vit-base-patch16-224-in21k": "vit",
    "facebook/deit-small-patch16-224": "vit",
    "facebook/dinov2-small": "vit",
    "facebook/dinov2-base": "vit",
    "facebook/dinov2-large": "vit",
    "facebook/dinov2-giant": "vit",
    "facebook/dinov2-with-registers-small": "vit",
    "google/siglip-base-patch16-224": "vit",
    "timm/resnet18.a1_in1k": "resnet",
    "timm/resnet34.a1_in1k": "resnet",
    "timm/resnet50.a1_in1k": "resnet",
    "timm/resnet101.a1_in1k": "resnet",
    "timm/resnet152.a1_in1k": "resnet",
    "microsoft/resnet-18": "resnet",
    "microsoft/resnet-50": "resnet",
    "timm/resnetv2_50x1_bit.goog_in21k": "resnet_v2",
    "timm/resnetv2_101x1_bit.goog_in21k": "resnet_v2",
    "google/bit-50": "resnet_v2",
    "timm/mixer_b16_224.goog_in21k_ft_in1k": "mixer",
    "timm/mixer_b16_224.goog_in21k": "mixer",
    "timm/mixer_l16_224.goog_in21k_ft_in1k": "mixer",
    "timm/mobilenetv4_conv_small.e2400_r224_in1k": "mobilenet_v4",
    "timm/mobilenetv4_conv_medium.e500_r256_in1k": "mobilenet_v4",
    "timm/mobilenetv4_conv_large.e600_r384_in1k": "mobilenet_v4",
    "google-bert/bert-base-uncased": "bert",
    "google-bert/bert-large-uncased": "bert",
    "prajjwal1/bert-small": "bert",
    "prajjwal1/bert-medium": "bert",
    "distilbert/distilbert-base-uncased": "bert",
    "openai/clip-vit-base-patch32": "clip",
    "openai/clip-vit-base-patch16": "clip",
    "timm/resnet50_clip.openai": "clip",
    "timm/resnet101_clip.openai": "clip",
}
"""Hub id -> our architecture."""

ALIASES: Mapping[str, str] = {
    "openai/clip-rn50": "timm/resnet50_clip.openai",
    "openai/clip-rn101": "timm/resnet101_clip.openai",
    "google/mixer-b16": "timm/mixer_b16_224.goog_in21k_ft_in1k",
    "distilbert-base-uncased": "distilbert/distilbert-base-uncased",
    "bert-base-uncased": "google-bert/bert-base-uncased",
}
"""Names that people use -> where the hub keeps the weights in safetensors."""
