"""Aspect-ratio buckets and batches, counted as kohya's sd-scripts counts them (library/train_util.py)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from trainer.data.dataset import Dataset, Photo

Size = tuple[int, int]


def bucket_sizes(resolution: Size, *, step: int = 64, smallest: int = 256, largest: int = 1024) -> list[Size]:
    """All bucket sizes (width, height) for a resolution, sorted; sd-scripts' make_bucket_resolutions.

    Sides are multiples of `step`: bounds off that grid are widened to it (`bounds_on_grid`).

    Args:
        step: at most the resolution's shorter side.
    """
    smallest, largest = bounds_on_grid(smallest, largest, step)
    area = resolution[0] * resolution[1]
    side = int(math.sqrt(area) // step) * step
    sizes = {(side, side)}
    for width in range(smallest, min(largest, area // smallest) + 1, step):
        height = min(largest, int((area // width) // step) * step)
        if height >= smallest:
            sizes |= {(width, height), (height, width)}
    return sorted(sizes)


def bounds_on_grid(smallest: int, largest: int, step: int) -> Size:
    """The sides of buckets go from one of these to the other: down and up to multiples of `step`, as sd-scripts does
    (adjust_min_max_bucket_reso_by_steps); a smallest side below one step is one step, where it divides by zero."""
    return max(step, smallest // step * step), math.ceil(largest / step) * step


def assign_buckets(
    photos: Sequence[Photo],
    *,
    resolution: Size,
    enable_bucket: bool = True,
    step: int = 64,
    smallest: int = 256,
    largest: int = 1024,
) -> list[Size]:
    """The size (width, height) that each photo is cut to: the bucket of the nearest aspect ratio."""
    import numpy as np

    if not enable_bucket:
        return [resolution] * len(photos)
    sizes = bucket_sizes(resolution, step=step, smallest=smallest, largest=largest)
    ratios = np.array([width / height for width, height in sizes])
    assigned = []
    for photo in photos:
        exact = (photo.width, photo.height)
        nearest = sizes[int(np.abs(ratios - photo.width / photo.height).argmin())]
        assigned.append(exact if exact in sizes else nearest)
    return assigned


def crop_corner(size: Size, original: Size) -> tuple[int, int]:
    """(left, top) that SDXL is told about a photo of `original` size in a bucket (BucketManager.get_crop_ltrb)."""
    if size[0] / size[1] > original[0] / original[1]:
        width, height = size[1] * original[0] / original[1], float(size[1])
    else:
        width, height = float(size[0]), size[0] * original[1] / original[0]
    return int((size[0] - width) // 2), int((size[1] - height) // 2)


def repeat_counts(photos: Sequence[Photo]) -> list[int]:
    """How often each photo occurs in an epoch.

    Training photos occur as often as their folder says. Regularisation images are taken in order, each as often as its
    folder says, then once more each, until there are as many as training images; those not reached do not occur
    (sd-scripts' DreamBoothDataset).
    """
    counts = [0 if photo.is_reg else photo.repeats for photo in photos]
    wanted, reg = sum(counts), [index for index, photo in enumerate(photos) if photo.is_reg]
    total, first = 0, True
    while reg and total < wanted:
        for index in reg:
            more = photos[index].repeats if first else 1
            counts[index] += more
            total += more
            if total >= wanted:
                break
        first = False
    return counts


def batches_per_epoch(photos: Sequence[Photo], sizes: Sequence[Size], batch_size: int) -> int:
    """Σ over buckets of ⌈images × repeats ÷ batch size⌉."""
    images: Counter[Size] = Counter()
    for count, size in zip(repeat_counts(photos), sizes, strict=True):
        images[size] += count
    return sum(math.ceil(count / batch_size) for count in images.values())


def epoch_batches(
    dataset: Dataset, sizes: Sequence[Size], *, batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """The batches of one epoch, as indices into `dataset.photos`; all photos of a batch share a size.

    Which bucket each batch comes from depends on the seed only, so that runs in different epochs can share a pack;
    inside a bucket the photos are shuffled anew in each epoch. A bucket's last batch may be short.
    """
    import numpy as np

    members: dict[Size, list[int]] = {}
    for index, (count, size) in enumerate(zip(repeat_counts(dataset.photos), sizes, strict=True)):
        members.setdefault(size, []).extend([index] * count)
    queues: dict[Size, list[list[int]]] = {}
    order: list[Size] = []
    for number, size in enumerate(sorted(members)):
        shuffled = np.random.default_rng([seed, 1 + epoch, number]).permutation(np.array(members[size], dtype=np.int64))
        queue = [shuffled[start : start + batch_size].tolist() for start in range(0, len(shuffled), batch_size)]
        queues[size] = queue[::-1]
        order += [size] * len(queue)
    places = np.random.default_rng([seed, 0]).permutation(len(order))
    # short batches come last in their bucket, so a place has the same shape in every epoch
    return [queues[order[place]].pop() for place in places]
