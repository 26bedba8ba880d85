"""Judges of pictures: one small network whose heads name shape, colour, place, floor, position, size and concept.

They know the demo world and the concepts in JUDGED (not the UNJUDGED ones), so they belong to the laboratory: the
product never sees them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from studies.demo.pool import LABELS, Pool

FILE = Path(__file__).parent / "judges.safetensors"


class Judges(nn.Module):
    """pixels [B, 3, 64, 64] in [−1, 1] → logits of every head, in the order of LABELS, side by side."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 48, 64, 96, 96)
        layers: list[nn.Module] = []
        for index, (a, b) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(a, b, 3, stride=1 if index == 0 else 2, padding=1), nn.GroupNorm(8, b), nn.SiLU()]
            if index:
                layers += [nn.Conv2d(b, b, 3, padding=1), nn.GroupNorm(8, b), nn.SiLU()]
        self.features = nn.Sequential(*layers)  # [B, 96, 4, 4]
        self.heads = nn.Linear(96 * 16, sum(map(len, LABELS.values())))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.heads(self.features(pixels).flatten(1))


def split(logits: Tensor) -> dict[str, Tensor]:
    return dict(zip(LABELS, logits.split([len(names) for names in LABELS.values()], dim=1), strict=True))


def loss(judges: nn.Module, pool: Pool, index: Tensor, generator: torch.Generator) -> Tensor:
    """Cross-entropy over the known labels of rendered pictures, roughened as generated ones are."""
    pixels = pool.images[index].float() / 127.5 - 1
    strength = 0.12 * torch.rand(len(pixels), 1, 1, 1, device=pixels.device, generator=generator)
    soft = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    blend = torch.rand(len(pixels), 1, 1, 1, device=pixels.device, generator=generator)
    noise = torch.randn(pixels.shape, device=pixels.device, generator=generator)
    logits = split(judges(torch.lerp(pixels, soft, blend) + strength * noise))
    labels = pool.labels[index].long()
    return sum(
        functional.cross_entropy(part, labels[:, column], ignore_index=-1, label_smoothing=0.02)
        for column, part in enumerate(logits.values())
    )


@torch.no_grad()
def judge(judges: nn.Module, images: np.ndarray | Tensor) -> dict[str, Tensor]:
    """Probabilities [N, classes] by head for uint8 images [N, 64, 64, 3]."""
    device = next(judges.parameters()).device
    pixels = torch.as_tensor(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    logits = torch.cat([judges(part) for part in pixels.split(64)])
    return {name: part.softmax(1) for name, part in split(logits).items()}


def accuracy(judges: nn.Module, images: np.ndarray | Tensor, labels: Tensor) -> dict[str, float]:
    """Share of pictures judged as labels [N, 7] say, by head; unknown labels (−1) do not count."""
    found = judge(judges, images)
    shares = {}
    for column, (name, part) in enumerate(found.items()):
        known = labels[:, column] >= 0
        if known.any():
            hits = part.argmax(1)[known] == labels[:, column][known].to(part.device)
            shares[name] = hits.float().mean().item()
    return shares


def save_judges(judges: nn.Module, path: Path = FILE) -> None:
    from safetensors.torch import save_file

    save_file({name: value.detach().cpu().half().contiguous() for name, value in judges.state_dict().items()}, path)


def load_judges(path: Path = FILE, device: torch.device | str = "cpu") -> Judges:
    from safetensors.torch import load_file

    judges = Judges()
    judges.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return judges.to(device).eval()
