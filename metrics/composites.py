"""Subjects cut out of photos, resized, moved and pasted softly on backgrounds that the base drew."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metrics.errors import MetricsError


@dataclass(frozen=True)
class Moves:
    """How subjects are moved.

    Attributes:
        scales: range of the subject's size relative to its size in the photo, as shares of the frame.
        rise: how far up or down its foot may move, as a share of the frame: things stand on the ground. 1 is anywhere.
        mirror: whether every second subject, by chance, is mirrored.
        thirds: put its middle near a quarter, a half or three quarters of the width, so that it is plainly on the left,
            in the centre or on the right, as captions say; else anywhere.
    """

    scales: tuple[float, float] = (0.66, 1.0)
    rise: float = 0.03
    mirror: bool = False
    thirds: bool = True


class Composites(NamedTuple):
    """M moved subjects.

    Attributes:
        images: uint8 `[M, H, W, 3]`, of the backgrounds' size.
        photo: `[M]`, which photo the subject was cut from.
        background: `[M]`, which background it was pasted on.
        box: `[M, 4]`, where, with its soft seam: left, top, right, bottom in pixels.
        scale: `[M]`, the subject's size relative to its size in its photo, as shares of the frame.
    """

    images: np.ndarray
    photo: np.ndarray
    background: np.ndarray
    box: np.ndarray
    scale: np.ndarray


def make_composites(
    photos: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    backgrounds: np.ndarray,
    *,
    count: int,
    seed: int,
    moves: Moves = Moves(),
    seam: float = 0.02,
) -> Composites:
    """Paste each photo's subject somewhere else, in another size, on another background.

    Photos and backgrounds are used evenly, every pair at most once before any pair comes again. A subject that its
    photo cuts off at an edge is pasted at that edge. Swapping the background alone measures too little: place and size
    must move (METRICS.md, "Two onsets").

    Args:
        photos: uint8 `[H, W, 3]`, sizes may differ.
        masks: float `[H, W]` in [0, 1], one per photo; photos whose mask is empty are not used.
        backgrounds: uint8 `[B, h, w, 3]`.
        count: M.
        seed: of places, sizes and mirrors.
        moves: ranges of size and place.
        seam: softness of the seam as a share of the subject's size.

    Raises:
        MetricsError: no photo has a subject, or there is no background.
    """
    boxes = {index: box for index, mask in enumerate(masks) if (box := _bounding_box(mask)) is not None}
    if not boxes:
        raise MetricsError("composites: no photo has a subject to cut out (a style LoRA?)")
    if not len(backgrounds):
        raise MetricsError("composites: no background to paste on")
    generator = np.random.default_rng(seed)
    usable = np.array(sorted(boxes))
    photo = np.concatenate([generator.permutation(usable) for _ in range(-(-count // len(usable)))])[:count]
    background = _spread_backgrounds(photo, len(backgrounds), generator)
    images, places, scales = [], [], []
    for index, scene in zip(photo, background, strict=True):
        cutout, alpha, edges = _cut_out(photos[index], masks[index], boxes[int(index)], seam)
        share = alpha.shape[0] / photos[index].shape[0], alpha.shape[1] / photos[index].shape[1]
        centre = _centre(boxes[int(index)], photos[index].shape[:2])
        foot = boxes[int(index)][3] / photos[index].shape[0]
        image, place, scale = _paste(cutout, alpha, edges, share, centre, foot, backgrounds[scene], moves, generator)
        images.append(image)
        places.append(place)
        scales.append(scale)
    return Composites(np.stack(images), photo, background, np.array(places), np.array(scales))


def context_caption(template: str, *, trigger: str, class_word: str) -> str:
    """`a photo of {trigger} {class} in the snow`, filled in; an empty word leaves no double space."""
    try:
        return " ".join(template.format(**{"trigger": trigger, "class": class_word}).split())
    except (KeyError, IndexError, ValueError) as error:
        raise MetricsError(f"context {template!r}: only {{trigger}} and {{class}} may stand in braces") from error


def position_words(composites: Composites, words: tuple[str, str, str] = ("left", "centre", "right")) -> list[str]:
    """Where each subject ended up, for its caption: the word of the third of the frame its middle lies in, `[M]`."""
    middle = (composites.box[:, 0] + composites.box[:, 2]) / 2 / composites.images.shape[2]
    return [words[third] for third in np.clip((middle * 3).astype(int), 0, 2)]


def composites_sheet(
    photos: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    composites: Composites,
    *,
    path: str | Path | None = None,
    rows: int = 8,
    columns: int = 6,
    cell: int = 128,
) -> np.ndarray:
    """A picture to see bad masks on: per photo the photo, its mask's outline, the cut-out, then some composites.

    Args:
        photos, masks: as given to `make_composites`.
        path: where to write a PNG, or None.
        rows: most photos shown; columns: most composites shown for each; cell: pixels per picture.

    Returns:
        uint8 `[rows·cell, (2 + columns)·cell, 3]`.
    """
    from PIL import Image

    lines = []
    columns = min(columns, int(np.bincount(composites.photo).max()))
    for index in np.unique(composites.photo)[:rows]:
        photo, mask = photos[index], masks[index]
        own = [*composites.images[composites.photo == index][:columns]]
        pictures = [_outlined(photo, mask), _on_checks(photo, mask), *own]
        tiles = [_tile(picture, cell) for picture in pictures]
        tiles += [np.full((cell, cell, 3), 255, np.uint8)] * (2 + columns - len(tiles))
        lines.append(np.concatenate(tiles, axis=1))
    sheet = np.concatenate(lines, axis=0)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet).save(path)
    return sheet


def _spread_backgrounds(photo: np.ndarray, num_backgrounds: int, generator: np.random.Generator) -> np.ndarray:
    """A background for each composite, `[M]`: one that its photo has met least often, and of those the least used."""
    met = np.zeros((int(photo.max()) + 1, num_backgrounds), int)
    chosen = np.empty(len(photo), int)
    for row, index in enumerate(photo):
        order = generator.permutation(num_backgrounds)
        chosen[row] = order[np.lexsort((met.sum(axis=0)[order], met[index][order]))[0]]
        met[index, chosen[row]] += 1
    return chosen


def _bounding_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero((mask > 0.5).any(axis=1)), np.flatnonzero((mask > 0.5).any(axis=0))
    if len(rows) < 2 or len(columns) < 2:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _cut_out(
    photo: np.ndarray, mask: np.ndarray, box: tuple[int, int, int, int], seam: float
) -> tuple[np.ndarray, np.ndarray, tuple[bool, bool, bool, bool]]:
    """Colours `[h, w, 3]` and soft alpha `[h, w]` of the box; which sides (l, t, r, b) the photo cuts off."""
    from scipy import ndimage

    left, top, right, bottom = box
    height, width = mask.shape
    near = max(1, round(0.01 * max(height, width)))
    edges = (left < near, top < near, right > width - near, bottom > height - near)
    blur = max(0.6, seam * max(right - left, bottom - top))
    margin = int(np.ceil(2 * blur))
    outer = (max(0, left - margin), max(0, top - margin), min(width, right + margin), min(height, bottom + margin))
    inside = slice(outer[1], outer[3]), slice(outer[0], outer[2])
    # nearest: the mask goes on beyond the photo's edge, so that a cut-off side keeps its full alpha there
    smooth = ndimage.gaussian_filter(mask[inside].astype(np.float32), blur, mode="nearest")
    alpha = np.clip((smooth - 0.35) / 0.5, 0, 1)  # slightly inside the outline: no rim of the old background
    return photo[inside].astype(np.float32), alpha, edges


def _centre(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2 / size[1], (box[1] + box[3]) / 2 / size[0]


def _paste(
    cutout: np.ndarray,
    alpha: np.ndarray,
    edges: tuple[bool, bool, bool, bool],
    share: tuple[float, float],
    centre: tuple[float, float],
    foot: float,
    scene: np.ndarray,
    moves: Moves,
    generator: np.random.Generator,
) -> tuple[np.ndarray, tuple[int, int, int, int], float]:
    height, width = scene.shape[:2]
    # the frame's diagonal as measure: photos and backgrounds may differ in aspect, the subject must not be squeezed
    fit = np.sqrt(share[0] * height * share[1] * width / (alpha.shape[0] * alpha.shape[1]))
    factor = fit * np.exp(generator.uniform(*np.log(moves.scales)))
    factor = min(factor, 0.95 * height / alpha.shape[0], 0.95 * width / alpha.shape[1])
    new_height, new_width = (max(2, round(side * factor)) for side in alpha.shape)
    left_cut, top_cut, right_cut, bottom_cut = edges
    if generator.random() < 0.5 and moves.mirror:
        cutout, alpha = cutout[:, ::-1], alpha[:, ::-1]
        left_cut, right_cut = right_cut, left_cut
        centre = (1 - centre[0], centre[1])
    opacity = _scaled(alpha, (new_height, new_width)).clip(0, 1)
    colours = np.stack([_scaled(cutout[..., band] * alpha, (new_height, new_width)) for band in range(3)], axis=2)

    room = width - new_width, height - new_height
    lowest, highest = (
        int(np.clip((foot + move) * height - new_height, 0, room[1])) for move in (moves.rise, -moves.rise)
    )
    left, top = 0, 0
    for _ in range(8):  # somewhere else than in the photo, if there is room
        left, top = int(generator.integers(0, room[0] + 1)), int(generator.integers(highest, lowest + 1))
        if moves.thirds:
            middle = generator.choice([0.25, 0.5, 0.75]) + generator.uniform(-0.04, 0.04)
            left = int(np.clip(middle * width - new_width / 2, 0, room[0]))
        moved = np.hypot((left + new_width / 2) / width - centre[0], (top + new_height / 2) / height - centre[1])
        if moved > 0.15:
            break
    left = 0 if left_cut and not right_cut else room[0] if right_cut and not left_cut else left
    top = 0 if top_cut and not bottom_cut else room[1] if bottom_cut else top
    place = (left, top, left + new_width, top + new_height)
    image = scene.astype(np.float32)
    region = image[top : place[3], left : place[2]]
    region[...] = region * (1 - opacity[..., None]) + colours
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), place, factor / fit


def _scaled(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _outlined(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    inside = mask > 0.5
    thick = max(1, round(max(mask.shape) / 128))
    line = inside & ~ndimage.binary_erosion(inside, iterations=thick)
    picture = photo.copy()
    picture[line] = (255, 0, 90)
    return picture


def _on_checks(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(mask.shape)
    step = max(4, max(mask.shape) // 16)
    checks = np.where(((rows // step + columns // step) % 2)[..., None], 235, 205).astype(np.float32)
    opacity = mask[..., None]
    return np.rint(photo * opacity + checks * (1 - opacity)).astype(np.uint8)


def _tile(picture: np.ndarray, cell: int) -> np.ndarray:
    """The picture inside a white square of `cell` pixels, aspect kept, with a thin margin."""
    from PIL import Image

    inner = cell - 4
    scale = inner / max(picture.shape[:2])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    tile = np.full((cell, cell, 3), 255, np.uint8)
    small = np.asarray(
        Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    )
    top, left = (cell - size[1]) // 2, (cell - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    return tile
