"""What SD1.5's and SDXL's UNets share: which layers a LoRA covers, and how conditioning reaches them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.families.clip import layers

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainer.families.family import Base, Conditioning

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_WITH_CONVOLUTIONS = ("ResnetBlock2D", "Downsample2D", "Upsample2D")


def lora_targets(denoiser: nn.Module, targets: str, conv: bool) -> list[str]:
    """Paths of the layers that a LoRA covers.

    "kohya": every Linear and 1×1 convolution of the Transformer2DModels; "attention": their q, k, v and out only.
    `conv` adds all layers of residual blocks, down- and upsamplers, as kohya does when a conv rank is given
    (sd-scripts, networks/lora.py, UNET_TARGET_REPLACE_MODULE and UNET_TARGET_REPLACE_MODULE_CONV2D_3X3).
    """
    from torch import nn as torch_nn

    transformers, convolutions = [], []
    for path, module in denoiser.named_modules():
        if type(module).__name__ == "Transformer2DModel":
            transformers.append(path + ".")
        elif type(module).__name__ in _WITH_CONVOLUTIONS:
            convolutions.append(path + ".")
    chosen = []
    for path, layer in layers(denoiser):
        small = isinstance(layer, torch_nn.Linear) or layer.kernel_size == (1, 1)
        if path.startswith(tuple(transformers)) and small:
            if targets == "kohya" or path.endswith(_ATTENTION):
                chosen.append(path)
        elif conv and path.startswith(tuple(convolutions)):
            chosen.append(path)
    return chosen


def predict(base: Base, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    """The UNet's output in the dtype of `noisy`; SDXL's pooled embedding and time ids go along when they are there."""
    added = None
    if "time_ids" in conditioning:
        added = {
            "text_embeds": conditioning["pooled_prompt_embeds"].to(base.dtype),
            "time_ids": conditioning["time_ids"].to(base.dtype),
        }
    return base.denoiser(
        noisy.to(base.dtype),
        timesteps,
        encoder_hidden_states=conditioning["prompt_embeds"].to(base.dtype),
        added_cond_kwargs=added,
        return_dict=False,
    )[0].to(noisy.dtype)
