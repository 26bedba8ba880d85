"""Where a base looks when it reads a word: its cross-attention maps on given photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError
from trainer.inference.evaluate import encode

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from trainer.families.family import Base

_LEVELS = slice(0, 2)  # of eight noise levels, the lowest: maps of higher ones are blurred (docs/log.md)


def attention_maps(base: Base, images: np.ndarray, word: str, *, finest: int = 1) -> np.ndarray:
    """How much each place of each image attends to a word, averaged over layers, heads and two noise levels.

    A little noise is added to the photo and the denoiser asked with the word alone; nothing is drawn.
    Source: Tang et al. 2023, "What the DAAM" (arXiv 2210.04885), here on given images.

    Args:
        images: uint8 [N, H, W, 3].
        word: usually the class word; it may be several tokens long.
        finest: places along the shorter side that at least one layer has to tell apart.

    Returns:
        float32 [N, h, w] on the grid of the latents, above 0.

    Raises:
        ModelError: a family whose text and image share their attention (SD3), an empty word, or coarser layers only.
    """
    import torch
    from torch.nn import functional as F

    layers = [module for module in base.denoiser.modules() if getattr(module, "is_cross_attention", False)]
    if not layers or not word.strip():
        why = "the word is empty" if layers else f"{base.family.name} has no cross-attention to read"
        raise ModelError(f"attention maps: {why}; use other masks")
    tokens = len(base.tokenizers[0](word, add_special_tokens=False).input_ids)
    timesteps = base.family.fixed_timesteps(base, 8)[_LEVELS]
    levels, side = len(timesteps), (images.shape[2], images.shape[1])
    latents = encode(base, images).to(base.device)
    noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(0)).to(base.device)
    found = []
    with torch.no_grad():
        with base.at_hand(text_encoders=True):
            known = base.family.encode_prompts(base, [word] * levels)
        known |= base.family.size_conditioning(base, side, (0, 0), side, levels)
        for image in latents:
            many = image.expand(levels, *image.shape)
            noisy = base.family.add_noise(base, many, noise.expand_as(many), timesteps)
            with _heard(layers) as heard:
                base.family.predict(base, noisy, timesteps, known)
            maps = [_map(layer, heard[layer], tokens, image.shape[1:]) for layer in layers]
            if (places := max(min(each.shape[2:]) for each in maps)) < finest:
                raise ModelError(f"attention maps: they tell {places} places apart, {finest} are needed")
            maps = [F.interpolate(each, image.shape[1:], mode="bilinear") for each in maps]
            found.append(torch.stack(maps).mean(dim=(0, 1, 2)).float().cpu())
    return torch.stack(found).numpy()


@contextmanager
def _heard(layers: Sequence[nn.Module]) -> Iterator[dict[nn.Module, dict[str, Tensor]]]:
    """Within, collects what attention layers ask and are asked: layer → queries [B, n, d] and keys [B, m, d]."""
    heard: dict[nn.Module, dict[str, Tensor]] = {layer: {} for layer in layers}

    def keep(heard_by: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            heard_by[name] = output.detach().float()

        return hook

    names = {"to_q": "queries", "to_k": "keys"}
    hooks = [
        getattr(layer, part).register_forward_hook(keep(heard[layer], name))
        for layer in layers
        for part, name in names.items()
    ]
    try:
        yield heard
    finally:
        for each in hooks:
            each.remove()


def _map(layer: Any, heard: Mapping[str, Tensor], count: int, size: Sequence[int]) -> Tensor:
    """[B, 1, h, w] attention to the first `count` tokens after the begin, mean over heads."""
    queries, keys = heard["queries"], heard["keys"]
    batch, places, width = queries.shape
    heads = layer.heads
    queries = queries.view(batch, places, heads, -1).transpose(1, 2)
    keys = keys.view(batch, keys.shape[1], heads, -1).transpose(1, 2)
    weights = (queries @ keys.transpose(2, 3) / (width / heads) ** 0.5).softmax(dim=-1)
    height = round((places * size[0] / size[1]) ** 0.5)
    return weights[..., 1 : 1 + count].sum(dim=-1).mean(dim=1).view(batch, 1, height, -1)
