"""Draws batches of small scenes: signed distance fields traced on any torch device, shaded, with soft shadows.

Each part of a scene is traced on its own, only along rays that meet its bounding sphere, and a depth buffer puts
the parts together; so a scene costs what its parts cover, not the whole picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from studies.demo.concepts import GLASS, MIRROR
from studies.demo.solids import BOUNDS, KINDS, SDF

SIZE = 64
SUPERSAMPLE = 2
TRACE_STEPS = 26
SHADOW_STEPS = 14
PATCH = 3  # the last pattern that is paint
CAMERA = (0.0, 1.6, 6.0)
LOOK_AT_HEIGHT = 0.85
HALF_WIDTH = 1.9  # world units from the middle of the picture to its edge, at the object's distance


def render(
    parts: np.ndarray, frames: np.ndarray, device: torch.device | str, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Draws scenes.

    parts: float [M, 24], rows of `part_columns`, sorted by scene. frames: float [N, 24], rows of `frame_columns`.
    Returns on `device`: uint8 images [N, 64, 64, 3], uint8 masks [N, 64, 64] (0 background, else 1 + thing index).
    """
    device = torch.device(device)
    chunk = chunk or (1024 if device.type == "cuda" else 32)
    starts = np.searchsorted(parts[:, 0], np.arange(0, len(frames) + chunk, chunk))
    images, masks = [], []
    for index, first in enumerate(range(0, len(frames), chunk)):
        rows = torch.from_numpy(parts[starts[index] : starts[index + 1]].astype(np.float32)).to(device)
        rows[:, 0] -= first
        frame = torch.from_numpy(frames[first : first + chunk].astype(np.float32)).to(device)
        image, mask = _render_chunk(rows, frame)
        images.append(image)
        masks.append(mask)
    return torch.cat(images), torch.cat(masks)


@torch.no_grad()
def _render_chunk(parts: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    num, rays = len(frames), (SIZE * SUPERSAMPLE) ** 2
    device = frames.device
    directions = _directions(device)  # [R, 3]
    origin = torch.tensor(CAMERA, device=device) + frames[:, 0:3]  # [N, 3]
    light = torch.nn.functional.normalize(torch.tensor((-0.55, 1.0, 0.65), device=device) + frames[:, 3:6], dim=1)
    scene, kind, thing = parts[:, 0].long(), parts[:, 1].long(), parts[:, 2].long()
    centre, rotation, scale, bound = _place(parts)

    # Rays that meet the parts' bounding spheres, then the nearest hit of each ray.
    away = origin[scene] - centre  # [M, 3]
    along = away @ directions.T  # [M, R]
    room = along.square() - (away.square().sum(1) - bound.square())[:, None]
    pair_part, pair_ray = torch.nonzero(room > 0, as_tuple=True)
    start = -along[pair_part, pair_ray] - room[pair_part, pair_ray].sqrt()
    depth, hit = _trace(
        kind, pair_part, origin[scene[pair_part]], directions[pair_ray], start, centre, rotation, scale, 2 * bound
    )
    pair_part, pair_ray, depth = pair_part[hit], pair_ray[hit], depth[hit]
    cell = scene[pair_part] * rays + pair_ray
    nearest = torch.full((num * rays,), 1e9, device=device)
    nearest.scatter_reduce_(0, cell, depth, "amin")
    front = depth <= nearest[cell]
    pair_part, cell, depth = pair_part[front], cell[front], depth[front]

    ground, floor_hit, points = _background(frames, origin, directions)
    albedo, normal = ground.view(-1, 3), torch.zeros(num * rays, 3, device=device)
    normal[:, 1] = 1.0
    points, lit = points.view(-1, 3), floor_hit.reshape(-1).clone()
    owner = torch.full((num * rays,), -1, device=device, dtype=torch.long)
    at = origin[scene[pair_part]] + depth[:, None] * directions[cell % rays]
    local = _to_local(at, pair_part, centre, rotation, scale)
    behind = albedo[cell]
    albedo[cell], normal[cell] = _surface(parts, kind, pair_part, local, rotation, scale)
    if (parts[:, 21] > PATCH).any():
        own = albedo[cell], normal[cell]
        albedo[cell] = _seen_through(parts[pair_part, 21], *own, behind, directions[cell % rays], frames[cell // rays])
    points[cell], lit[cell], owner[cell] = at, True, pair_part
    is_object = owner >= 0

    shade = _shadows(points + 0.02 * normal, lit, owner, light, scene, kind, centre, rotation, scale, bound, num, rays)
    scene_of = torch.arange(num, device=device).repeat_interleave(rays)
    facing = (normal * light[scene_of]).sum(1)
    view = -directions.repeat(num, 1)
    half = torch.nn.functional.normalize(light[scene_of] + view, dim=1)
    shine = (normal * half).sum(1).clamp(min=0).pow(24) * shade * is_object * 0.28
    rim = (1 - (normal * view).sum(1).clamp(0, 1)).pow(3) * is_object * 0.12
    warmth, level = frames[:, 6:9][scene_of], frames[:, 9][scene_of]
    on_object = 0.42 + 0.62 * facing.clamp(min=0) * shade + 0.1 * normal[:, 1]
    diffuse = torch.where(is_object, on_object, 0.58 + 0.42 * shade)
    colour = albedo * diffuse[:, None] * warmth
    colour = torch.where(is_object[:, None], colour + (shine + rim)[:, None] * level[:, None], colour)
    colour = torch.where(lit[:, None], colour, albedo)

    image = colour.view(num, SIZE, SUPERSAMPLE, SIZE, SUPERSAMPLE, 3).mean((2, 4))
    things = torch.where(is_object, thing[owner.clamp(min=0)] + 1, torch.zeros_like(owner))
    mask = _majority(things.view(num, SIZE, SUPERSAMPLE, SIZE, SUPERSAMPLE))
    return (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8), mask


def _majority(things: Tensor) -> Tensor:
    first = (things == 1).sum((2, 4))
    second = (things == 2).sum((2, 4))
    half = SUPERSAMPLE * SUPERSAMPLE / 2
    return ((first >= half).to(torch.uint8) + 2 * ((second >= half) & (first < half)).to(torch.uint8)).to(torch.uint8)


def _directions(device: torch.device) -> Tensor:
    across = SIZE * SUPERSAMPLE
    grid = ((torch.arange(across, device=device, dtype=torch.float32) + 0.5) / across * 2 - 1) * HALF_WIDTH
    down, right = torch.meshgrid(-grid, grid, indexing="ij")
    drop = LOOK_AT_HEIGHT - CAMERA[1]
    distance = math.hypot(CAMERA[2], drop)
    forward = torch.tensor((0.0, drop / distance, -CAMERA[2] / distance), device=device)
    up = torch.tensor((0.0, CAMERA[2] / distance, drop / distance), device=device)
    side = torch.tensor((1.0, 0.0, 0.0), device=device)
    rays = forward * distance + right[..., None] * side + down[..., None] * up
    return torch.nn.functional.normalize(rays.view(-1, 3), dim=1)


# ---------------------------------------------------------------- parts


def part_columns(
    scene: int, kind: str, thing: int, at: Sequence[float], size: Sequence[float], roll: float, tilt: float,
    yaw: float, scale: float, x: float, z: float, colour: Sequence[float], second: Sequence[float], pattern: int,
) -> tuple[float, ...]:  # fmt: skip
    """One row for `render`. at, size: in the thing's own units (its floor is y = 0); angles in radians;
    scale, x, z: of the thing in the world; pattern: 0 plain; 1 upper half, 2 belt, 3 patch in front take `second`;
    4 mirror; 5 glass."""
    return (
        scene, KINDS.index(kind), thing, *at, *size, roll, tilt, yaw, scale, x, z, *colour, *second, pattern, 0.0, 0.0,
    )  # fmt: skip


def _place(parts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """World centre [M,3], rotation local→world [M,3,3], half sizes [M,3], bounding radius [M]."""
    at, size = parts[:, 3:6], parts[:, 6:9]
    roll, tilt, yaw, scale = parts[:, 9], parts[:, 10], parts[:, 11], parts[:, 12]
    turn = _axis_rotation(yaw, 1)
    rotation = turn @ _axis_rotation(roll, 2) @ _axis_rotation(tilt, 0)
    offset = torch.stack([parts[:, 13], torch.zeros_like(scale), parts[:, 14]], 1)
    centre = (turn @ (at * scale[:, None])[..., None])[..., 0] + offset
    half = size * scale[:, None]
    bounds = torch.tensor([BOUNDS[name] for name in KINDS], device=parts.device)
    return centre, rotation, half, bounds[parts[:, 1].long()] * half.max(1).values


def _axis_rotation(angle: Tensor, axis: int) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.eye(3, device=angle.device).repeat(len(angle), 1, 1)
    first, second = ((1, 2), (2, 0), (0, 1))[axis]
    rotation[:, first, first] = rotation[:, second, second] = cos
    rotation[:, first, second], rotation[:, second, first] = -sin, sin
    return rotation


def _to_local(points: Tensor, part: Tensor, centre: Tensor, rotation: Tensor, scale: Tensor) -> Tensor:
    return torch.einsum("ki,kij->kj", points - centre[part], rotation[part]) / scale[part]


def _trace(
    kind: Tensor, part: Tensor, origin: Tensor, direction: Tensor, start: Tensor,
    centre: Tensor, rotation: Tensor, scale: Tensor, reach: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Depth [K] and hit [K] of each (ray, part) pair."""
    depth, gap = start.clone(), torch.empty_like(start)
    kinds = kind[part]
    for index, name in enumerate(KINDS):
        chosen = torch.nonzero(kinds == index)[:, 0]
        if len(chosen) == 0:
            continue
        here = part[chosen]
        local_origin = _to_local(origin[chosen], here, centre, rotation, scale).T.contiguous()
        local_direction = (torch.einsum("ki,kij->kj", direction[chosen], rotation[here]) / scale[here]).T.contiguous()
        smallest, along, distance = scale[here].min(1).values, start[chosen], SDF[name]
        for _ in range(TRACE_STEPS):
            step = distance(*(local_origin + along * local_direction)) * smallest
            along = along + step
        depth[chosen] = along
        gap[chosen] = distance(*(local_origin + along * local_direction)) * smallest
    return depth, (gap.abs() < 0.012) & (depth < start + reach[part]) & (depth > 0)


def _shadows(
    points: Tensor, lit: Tensor, owner: Tensor, light: Tensor, scene: Tensor, kind: Tensor, centre: Tensor,
    rotation: Tensor, scale: Tensor, bound: Tensor, num: int, rays: int,
) -> Tensor:  # fmt: skip
    """How much of the light reaches each point, [N * R] in [0, 1]."""
    shade = torch.ones(num * rays, device=points.device)
    points_of = points.view(num, rays, 3)[scene]  # [M, R, 3]
    away = centre[:, None] - points_of
    along = torch.einsum("mrk,mk->mr", away, light[scene])
    miss = away.square().sum(2) - along.square()
    usable = lit.view(num, rays)[scene] & (along > 0) & (miss < (bound * 1.12).square()[:, None])
    usable &= owner.view(num, rays)[scene] != torch.arange(len(scene), device=points.device)[:, None]
    part, ray = torch.nonzero(usable, as_tuple=True)
    cell, kinds = scene[part] * rays + ray, kind[part]
    start = (along[part, ray] - bound[part]).clamp(min=0.01)
    for index, name in enumerate(KINDS):
        chosen = torch.nonzero(kinds == index)[:, 0]
        if len(chosen) == 0:
            continue
        here = part[chosen]
        local = _to_local(points[cell[chosen]], here, centre, rotation, scale).T.contiguous()
        toward = (torch.einsum("ki,kij->kj", light[scene[here]], rotation[here]) / scale[here]).T.contiguous()
        smallest, t, distance = scale[here].min(1).values, start[chosen], SDF[name]
        open_ = torch.ones_like(t)
        for _ in range(SHADOW_STEPS):
            gap = distance(*(local + t * toward)) * smallest
            open_ = torch.minimum(open_, 9 * gap / t)
            t = t + gap.clamp(min=0.02)
        shade.scatter_reduce_(0, cell[chosen], open_.clamp(0, 1), "amin")
    return shade


def _surface(
    parts: Tensor, kind: Tensor, part: Tensor, local: Tensor, rotation: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Colour [K,3] and world normal [K,3] where rays met parts at local points [K,3]."""
    normal = torch.zeros_like(local)
    offsets = torch.tensor(((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)), device=local.device, dtype=local.dtype)
    kinds = kind[part]
    for index, name in enumerate(KINDS):
        chosen = torch.nonzero(kinds == index)[:, 0]
        if len(chosen):
            here = local[chosen]
            normal[chosen] = sum(offset * SDF[name](*(here + 0.01 * offset).T)[:, None] for offset in offsets)
    normal = torch.einsum("kij,kj->ki", rotation[part], normal / scale[part])
    x, y, z = local.T
    pattern = parts[part, 21]
    other = ((pattern == 1) & (y > 0)) | ((pattern == 2) & (y.abs() < 0.34))
    other |= (pattern == 3) & (z > 0) & (x.square() + y.square() < 0.42)
    colour = torch.where(other[:, None], parts[part, 18:21], parts[part, 15:18])
    return colour, torch.nn.functional.normalize(normal, dim=1)


def _seen_through(
    pattern: Tensor, colour: Tensor, normal: Tensor, behind: Tensor, direction: Tensor, frame: Tensor
) -> Tensor:
    """Colours [K,3] of mirrors, which show the floor's and the sky's where a ray bounces to, and of glass, which shows
    what lies behind; each tinted by its own."""
    bounced = direction - 2 * (direction * normal).sum(1, keepdim=True) * normal
    rise = (bounced[:, 1:2] / 0.5).clamp(0, 1)
    sky = frame[:, 13:16] * (1 - rise) + frame[:, 16:19] * rise
    around = torch.where(bounced[:, 1:2] < 0, frame[:, 10:13], sky)
    mirror, glass = colour * (0.15 + 0.85 * around), 0.4 * colour + 0.6 * behind
    return torch.where((pattern == MIRROR)[:, None], mirror, torch.where((pattern == GLASS)[:, None], glass, colour))


# ---------------------------------------------------------------- floor and sky


def frame_columns(
    camera: Sequence[float], light: Sequence[float], warmth: Sequence[float], level: float,
    floor: Sequence[float], low: Sequence[float], high: Sequence[float],
    pattern: int, phase: Sequence[float], decor: int, decor_at: float,
) -> tuple[float, ...]:  # fmt: skip
    """One row for `render`: shifts of camera and light, colour and level of the light, colours of the floor and of the
    lower and upper sky, floor pattern (0 plain, 1 striped, 2 checkered) with its shift, what stands in the sky
    (0 nothing, 1 moon, 2 sun, 3 trunks, 4 skirting board, 5 mountains) and where."""
    return (
        *camera, *light, *warmth, level, *floor, *low, *high, pattern, *phase, decor, decor_at,
    )  # fmt: skip


def _background(frames: Tensor, origin: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Colour [N,R,3], whether it is floor [N,R], and the floor's points [N,R,3]."""
    slope, across = directions[:, 1], directions[:, 0] / -directions[:, 2]
    floor_hit = (slope < -1e-3).expand(len(frames), -1)
    depth = origin[:, 1:2] / (-slope).clamp(min=1e-3)
    points = origin[:, None] + depth[..., None] * directions
    floor, low, high = frames[:, None, 10:13], frames[:, None, 13:16], frames[:, None, 16:19]
    x = points[..., 0] + frames[:, 20:21]
    z = points[..., 2] + frames[:, 21:22]
    stripe = (torch.remainder(x, 1.3) < 0.65).float()
    checker = ((torch.floor(x / 0.85) + torch.floor(z / 1.2)).remainder(2) == 0).float()
    kind = frames[:, 19:20]
    marked = torch.where(kind == 1, stripe, torch.where(kind == 2, checker, torch.ones_like(x)))
    contrast = torch.exp(-0.09 * (depth - 5).clamp(min=0))
    tile = 1 - 0.52 * (1 - marked) * contrast
    haze = (1 - torch.exp(-0.035 * (depth - 4).clamp(min=0)))[..., None] * 0.7
    ground = floor * tile[..., None] * (1 - haze) + low * haze

    rise = (slope / 0.2).clamp(0, 1)[None, :, None]
    sky = low * (1 - rise) + high * rise
    decor, where = frames[:, 22:23], frames[:, 23:24]
    up = slope[None]
    disc = (across[None] - where).square() + (up - 0.105).square()
    moon = ((decor == 1) & (disc < 0.0018))[..., None]
    sun = ((decor == 2) & ((across[None] - where).square() + (up - 0.03).square() < 0.0042))[..., None]
    trunk = ((decor == 3) & (torch.remainder(across[None] + where, 0.13) < 0.055))[..., None]
    board = ((decor == 4) & (up < 0.022))[..., None]
    ridge = 0.035 + 0.045 * (torch.remainder(across[None] * 3.2 + where * 3, 1.0) - 0.5).abs() * 2
    peak = ((decor == 5) & (up < ridge))[..., None]
    sky = torch.where(moon, torch.tensor((0.96, 0.94, 0.80), device=sky.device), sky)
    sky = torch.where(sun, torch.tensor((1.0, 0.93, 0.55), device=sky.device), sky)
    sky = torch.where(trunk, high * 0.45 + floor * 0.25, sky)
    sky = torch.where(board, floor * 0.55, sky)
    sky = torch.where(peak, high * 0.35 + floor * 0.45, sky)
    return torch.where(floor_hit[..., None], ground, sky), floor_hit, points
