"""Subjects cut out of photos, resized, moved and pasted softly on backgrounds that the base drew."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metrics.errors import MetricsError, mistake
from metrics.subjects.prompt_template import fill, strange_braces

SCALES = (0.66, 1.0)
"""Range of a moved subject's size relative to its size in the photo, as shares of the frame (docs/log.md)."""
RISE = 0.03
"""How far up or down its foot may move, as a share of the frame: things stand on the ground."""
FINEST = 0.6  # pixels: the softest that a seam of the smallest subjects is


class Composites(NamedTuple):
    """M moved subjects.

    Attributes:
        images: uint8 `[M, H, W, 3]`, of the backgrounds' size.
        photo: `[M]`, which photo the subject was cut from.
        background: `[M]`, which background it was pasted on.
        box: `[M, 4]`, where the subject is, without its soft seam: left, top, right, bottom in pixels.
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
    scales: tuple[float, float] = SCALES,
    rise: float = RISE,
    seam: float = 0.02,
) -> Composites:
    """Paste each photo's subject somewhere else, in another size, on another background.

    Photos and backgrounds are used evenly, every pair at most once before any pair comes again. Subjects stay upright
    and on their own height above the ground; their middle comes near a quarter, a half or three quarters of the width,
    so that they are plainly on the left, in the centre or on the right, as captions say. A subject that its photo cuts
    off at an edge is pasted at that edge, and from edge to edge where it is cut off at both, so that no cut shows.
    Swapping the background alone measures too little: place and size must move where they can.

    Args:
        photos: uint8 `[H, W, 3]`, sizes may differ.
        masks: float `[H, W]` in [0, 1], one per photo; photos whose mask is empty are not used.
        backgrounds: uint8 `[B, h, w, 3]`.
        count: M.
        seed: of places and sizes.
        scales, rise: ranges of size and of the foot's height.
        seam: softness of the seam as a share of the subject's thickness, so that limbs stay whole.

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
    images, places, sizes = [], [], []
    for index, scene in zip(photo, background, strict=True):
        cutout = _cut_out(photos[index], masks[index], boxes[int(index)], seam)
        image, place, size = _paste(cutout, backgrounds[scene], scales, rise, generator)
        images.append(image)
        places.append(place)
        sizes.append(size)
    return Composites(np.stack(images), photo, background, np.array(places), np.array(sizes))


def context_caption(template: str, *, trigger: str, class_word: str) -> str:
    """`a photo of {trigger} {class} in the snow`, filled in; an empty word leaves no double space.

    >>> context_caption("a photo of {trigger} {class} in the snow", trigger="sks", class_word="dog")
    'a photo of sks dog in the snow'
    """
    if strange_braces(template, ("trigger", "class")):
        raise mistake("context", template, "text with only {trigger} and {class} in braces")
    return fill(template, {"trigger": trigger, "class": class_word})


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
        uint8 `[h, w, 3]`, multiples of `cell`; many photos stand side by side, about as wide as tall.
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
    across = int(np.ceil(np.sqrt(len(lines) / (2 + columns))))  # about as wide as tall
    lines += [np.full_like(lines[0], 255)] * (-len(lines) % across)
    sheet = np.concatenate([np.concatenate(lines[i : i + across], axis=1) for i in range(0, len(lines), across)])
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


class _Cutout(NamedTuple):
    """A subject as it was in its photo.

    Attributes:
        colours: float `[h, w, 3]`, alpha: `[h, w]`, both with a soft margin around the subject.
        margins: of these, in pixels: left, top, right, bottom.
        cut_off: the sides (in the same order) at which the photo ends the subject.
        box: of the subject, as shares of the photo.
        size: height and width of the photo.
    """

    colours: np.ndarray
    alpha: np.ndarray
    margins: tuple[int, int, int, int]
    cut_off: tuple[bool, bool, bool, bool]
    box: tuple[float, float, float, float]
    size: tuple[int, int]


def _cut_out(photo: np.ndarray, mask: np.ndarray, box: tuple[int, int, int, int], seam: float) -> _Cutout:
    from scipy import ndimage
    from scipy.special import ndtr

    left, top, right, bottom = box
    height, width = mask.shape
    near = max(1, round(0.004 * max(height, width)))
    edges = (left < near, top < near, right > width - near, bottom > height - near)
    blur = max(FINEST, seam * _thickness(mask[top:bottom, left:right]))
    # where the photo cuts the subject off there is no seam, though its mask may end a pixel before the edge
    soft = [0 if cut else int(np.ceil(2 * blur)) for cut in edges]
    outer = (max(0, left - soft[0]), max(0, top - soft[1]), min(width, right + soft[2]), min(height, bottom + soft[3]))
    inside = slice(outer[1], outer[3]), slice(outer[0], outer[2])
    # nearest: the mask goes on beyond a side that is cut off, which keeps its full alpha
    smooth = ndimage.gaussian_filter(mask[inside].astype(np.float32), blur, mode="nearest")
    begins = float(ndtr(-0.23 / blur))  # a quarter of a pixel outside the outline: no rim of the old background
    alpha = np.clip((smooth - begins) / (0.85 - begins), 0, 1)
    margins = (left - outer[0], top - outer[1], outer[2] - right, outer[3] - bottom)
    shares = (left / width, top / height, right / width, bottom / height)
    return _Cutout(photo[inside].astype(np.float32), alpha, margins, edges, shares, (height, width))


def _thickness(mask: np.ndarray) -> float:
    """Four times the mean distance of what is inside to the outline: a stripe's width, in pixels."""
    from scipy import ndimage

    inside = np.pad(mask > 0.5, 1)
    return 4 * float(ndimage.distance_transform_edt(inside)[inside].mean())


def _paste(
    cutout: _Cutout, scene: np.ndarray, scales: tuple[float, float], rise: float, generator: np.random.Generator
) -> tuple[np.ndarray, tuple[int, int, int, int], float]:
    """The scene with the subject in it, the subject's box there, and its size relative to that in its photo."""
    height, width = scene.shape[:2]
    # the frame's diagonal as measure: photos and backgrounds may differ in aspect, the subject must not be squeezed
    fit = np.sqrt(height * width / (cutout.size[0] * cutout.size[1]))
    factor = fit * np.exp(generator.uniform(*np.log(scales)))
    left, top, right, bottom = cutout.margins
    tall, wide = cutout.alpha.shape[0] - top - bottom, cutout.alpha.shape[1] - left - right
    at_left, at_top, at_right, at_bottom = cutout.cut_off
    across, upright = at_left and at_right, at_top and at_bottom
    fits = min(height / tall, width / wide)
    factor = min(factor, 0.95 * fits)
    if across or upright:  # what the photo cuts off on both sides goes from edge to edge here, too
        factor = min(max([width / wide] * across + [height / tall] * upright), fits)
    left, top, right, bottom = (round(side * factor) for side in cutout.margins)
    tall, wide = max(2, round(tall * factor)), max(2, round(wide * factor))
    full = tall + top + bottom, wide + left + right
    opacity = _scaled(cutout.alpha, full).clip(0, 1)
    colours = np.stack([_scaled(cutout.colours[..., band] * cutout.alpha, full) for band in range(3)], axis=2)
    x, y = _place((tall, wide), cutout, (height, width), rise, generator)
    # the margin may reach beyond the frame
    rows, columns = slice(max(0, y - top), y + tall + bottom), slice(max(0, x - left), x + wide + right)
    image = scene.astype(np.float32)
    region = image[rows, columns]
    first = max(0, top - y), max(0, left - x)
    seen = slice(first[0], first[0] + region.shape[0]), slice(first[1], first[1] + region.shape[1])
    region[...] = region * (1 - opacity[seen][..., None]) + colours[seen]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), (x, y, x + wide, y + tall), factor / fit


def _place(
    size: tuple[int, int], cutout: _Cutout, frame: tuple[int, int], rise: float, generator: np.random.Generator
) -> tuple[int, int]:
    """Left and top of a subject of `size` (height, width) in the frame: somewhere else than in its photo, if there is
    room; at an edge where the photo cuts it off."""
    room = frame[1] - size[1], frame[0] - size[0]
    centre = (cutout.box[0] + cutout.box[2]) / 2, (cutout.box[1] + cutout.box[3]) / 2
    feet = [round((cutout.box[3] + move) * frame[0]) for move in (-rise, rise)]
    highest, lowest = (int(np.clip(foot - size[0], 0, room[1])) for foot in feet)
    for _ in range(8):
        middle = generator.choice([0.25, 0.5, 0.75]) + generator.uniform(-0.04, 0.04)
        left = int(np.clip(middle * frame[1] - size[1] / 2, 0, room[0]))
        top = int(generator.integers(highest, lowest + 1))
        if np.hypot((left + size[1] / 2) / frame[1] - centre[0], (top + size[0] / 2) / frame[0] - centre[1]) > 0.15:
            break
    at_left, at_top, at_right, at_bottom = cutout.cut_off
    left = 0 if at_left and not at_right else room[0] if at_right and not at_left else left
    top = 0 if at_top and not at_bottom else room[1] if at_bottom else top
    return left, top


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
