"""Where a base looks when it reads a word: its cross-attention maps on given photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError
from trainer.evaluate import encode

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from trainer.families.family import Base

_LEVELS = slice(0, 2)  # of eight noise levels, the lowest: maps of higher ones are blurred (docs/log.md)


def attention_maps(base: Base, images: np.ndarray, word: str) -> np.ndarray:
    """How much each place of each image attends to a word, averaged over layers, heads and two noise levels.

    A little noise is added to the photo and the denoiser asked with the word alone; nothing is drawn.
    Source: Tang et al. 2023, "What the DAAM" (arXiv 2210.04885), here on given images.

    Args:
        images: uint8 [N, H, W, 3].
        word: usually the class word; it may be several tokens long.

    Returns:
        float32 [N, h, w] on the grid of the latents, above 0.

    Raises:
        ModelError: a family whose text and image share their attention (SD3), or an empty word.
    """
    import numpy as np
    import torch
    from torch.nn import functional as F

    layers = [module for module in base.denoiser.modules() if getattr(module, "is_cross_attention", False)]
    if not layers or not word.strip():
        why = "the word is empty" if layers else f"{base.family.name} has no cross-attention to read"
        raise ModelError(f"attention maps: {why}; use other masks")
    count = len(base.tokenizers[0](word, add_special_tokens=False).input_ids)
    found = []
    for image in images:
        latents = encode(base, image[None]).to(base.device)
        timesteps = base.family.fixed_timesteps(base, 8)[_LEVELS]
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(base.device)
        many = latents.expand(len(timesteps), *latents.shape[1:])
        side = (image.shape[1], image.shape[0])
        with torch.no_grad(), base.at_hand(text_encoders=True):
            known = base.family.encode_prompts(base, [word] * len(many))
            known |= base.family.size_conditioning(base, side, (0, 0), side, len(many))
            noisy = base.family.add_noise(base, many, noise.expand_as(many), timesteps)
            with _listening(layers) as heard:
                base.family.predict(base, noisy, timesteps, known)
            maps = [
                F.interpolate(_map(layer, *heard[layer], count, many.shape[2:]), many.shape[2:], mode="bilinear")
                for layer in layers
            ]
        found.append(torch.stack(maps).mean(dim=(0, 1, 2)).float().cpu().numpy())
    return np.stack(found)


class _listening:
    """Within, keeps the queries and keys of attention layers: layer → (queries [B, n, d], keys [B, m, d])."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = layers

    def __enter__(self) -> dict[nn.Module, tuple[Tensor, Tensor]]:
        heard: dict[nn.Module, Any] = {layer: [None, None] for layer in self._layers}
        self._hooks = []
        for layer in self._layers:
            for place, name in enumerate(("to_q", "to_k")):

                def keep(module: Any, inputs: Any, output: Tensor, layer: Any = layer, place: int = place) -> None:
                    heard[layer][place] = output.detach().float()

                self._hooks.append(getattr(layer, name).register_forward_hook(keep))
        return heard

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _map(layer: Any, queries: Tensor, keys: Tensor, count: int, size: Sequence[int]) -> Tensor:
    """[B, 1, h, w] attention to the first `count` tokens after the begin, mean over heads."""
    batch, places, width = queries.shape
    heads = layer.heads
    queries = queries.view(batch, places, heads, -1).transpose(1, 2)
    keys = keys.view(batch, keys.shape[1], heads, -1).transpose(1, 2)
    weights = (queries @ keys.transpose(2, 3) / (width / heads) ** 0.5).softmax(dim=-1)
    height = round((places * size[0] / size[1]) ** 0.5)
    return weights[..., 1 : 1 + count].sum(dim=-1).mean(dim=1).view(batch, 1, height, -1)
