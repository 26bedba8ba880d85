"""The solids that scenes are built of, as signed distances, each within about [-1, 1].

Formulas: Inigo Quilez, https://iquilezles.org/articles/distfunctions2d/ and /distfunctions/.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def _length(*axes: Tensor) -> Tensor:
    total = axes[0].square()
    for axis in axes[1:]:
        total = total + axis.square()
    return (total + 1e-12).sqrt()


def _ball(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return _length(x, y, z) - 1


def _box(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    a, b, c = x.abs() - 0.94, y.abs() - 0.94, z.abs() - 0.94
    outside = _length(a.clamp(min=0), b.clamp(min=0), c.clamp(min=0))
    return outside + torch.maximum(a, torch.maximum(b, c)).clamp(max=0) - 0.06


def _cylinder(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    a, b = _length(x, z) - 0.96, y.abs() - 0.96
    return _length(a.clamp(min=0), b.clamp(min=0)) + torch.maximum(a, b).clamp(max=0) - 0.04


def _cone(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return torch.maximum((2 * _length(x, z) + y - 1) / 5**0.5, -y - 1)


def _pyramid(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return torch.maximum((2 * torch.maximum(x.abs(), z.abs()) + y - 1) / 5**0.5, -y - 1)


def _ring(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return _length(_length(x, y) - 0.69, z) - 0.31


def _extrude(flat: Tensor, z: Tensor, depth: float) -> Tensor:
    a, b = flat + 0.04, z.abs() - depth + 0.04
    return _length(a.clamp(min=0), b.clamp(min=0)) + torch.maximum(a, b).clamp(max=0) - 0.04


def _star(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    cos, sin = 0.809016994375, 0.587785252292
    x = x.abs()
    dot = (cos * x - sin * y).clamp(min=0)
    x, y = x - 2 * dot * cos, y + 2 * dot * sin
    dot = (-cos * x - sin * y).clamp(min=0)
    x, y = (x + 2 * dot * cos).abs(), y + 2 * dot * sin - 1
    edge_x, edge_y = 0.5 * sin, 0.5 * cos - 1
    along = ((x * edge_x + y * edge_y) / (edge_x**2 + edge_y**2)).clamp(0, 1)
    side = torch.sign(y * edge_x - x * edge_y)
    return _extrude(_length(x - edge_x * along, y - edge_y * along) * side, z, 0.34)


def _heart(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    x, y = x.abs() / 1.72, (y + 0.98) / 1.72
    lobe = _length(x - 0.25, y - 0.75) - 0.353553
    half = 0.5 * (x + y).clamp(min=0)
    point = torch.minimum(_length(x, y - 1), _length(x - half, y - half)) * torch.sign(x - y)
    return _extrude(torch.where(y + x > 1, lobe, point) * 1.72, z, 0.36)


def _cross(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    wide, tall = x.abs(), y.abs()
    first = torch.maximum(wide - 1, tall - 0.34)
    second = torch.maximum(wide - 0.34, tall - 1)
    return _extrude(torch.minimum(first, second), z, 0.36)


def _pill(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return _length(x - x.clamp(-0.5, 0.5), y, z) - 0.5


def _dome(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return torch.maximum(_length(x, y, z) - 1, -y)


SDF: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "ball": _ball,
    "cube": _box,
    "cylinder": _cylinder,
    "cone": _cone,
    "pyramid": _pyramid,
    "ring": _ring,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "pill": _pill,
    "dome": _dome,
}
KINDS = tuple(SDF)
BOUNDS = {"ball": 1.0, "cube": 1.74, "cylinder": 1.42, "cone": 1.42, "pyramid": 1.74, "ring": 1.01, "star": 1.06,
          "heart": 1.1, "cross": 1.13, "pill": 1.0, "dome": 1.0}  # fmt: skip
