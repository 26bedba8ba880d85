"""CLIP text encoders: prompts to hidden states, and the modules that kohya's LoRA covers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainer.families.family import Base

ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
MLP = ("fc1", "fc2")


def hidden_states(encoder: nn.Module, tokenizer: Any, prompts: Sequence[str]) -> tuple[tuple[Tensor, ...], Any]:
    """Every hidden state [B, tokens, width] (embeddings first) and the encoder's whole output. Keeps gradients.

    Prompts longer than the encoder's positions are cut, as kohya does at its default length.
    """
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    tokens = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    device = next(encoder.parameters()).device
    output = encoder(tokens.input_ids.to(device), output_hidden_states=True)
    return output.hidden_states, output


def count_long_prompts(base: Base, prompts: Sequence[str]) -> int:
    """How many prompts have more tokens than the first text encoder reads."""
    tokenizer, encoder = base.tokenizers[0], base.text_encoders[0]
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    return sum(len(tokenizer(prompt).input_ids) > length for prompt in prompts)


def linears(encoder: nn.Module, targets: str) -> list[str]:
    """Paths of the attention's (and for "kohya" the MLP's) projections in layer order."""
    wanted = ATTENTION + MLP if targets == "kohya" else ATTENTION
    return [path for path, _ in layers(encoder) if path.rsplit(".", 1)[-1] in wanted and ".layers." in f".{path}"]


def layers(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Linear and convolution layers with their paths; an adapter's wrapper counts as the layer that it wraps."""
    from torch import nn as torch_nn

    for path, module in root.named_modules():
        if "base_layer" in path or "lora_" in path:
            continue
        layer = getattr(module, "base_layer", module)
        if isinstance(layer, torch_nn.Linear | torch_nn.Conv2d):
            yield path, layer
