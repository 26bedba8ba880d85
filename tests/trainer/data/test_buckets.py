"""Buckets and batches: the counts that kohya's trainer reports."""

import math
from collections import Counter
from pathlib import Path

import pytest

from trainer.data.buckets import (
    assign_buckets,
    batches_per_epoch,
    bucket_sizes,
    crop_corner,
    epoch_batches,
    repeat_counts,
)
from trainer.data.dataset import Dataset, Photo


def photo(width: int = 512, height: int = 512, repeats: int = 1, is_reg: bool = False) -> Photo:
    return Photo(Path("x.png"), "", repeats, None, None, is_reg, "0", width, height)


def test_bucket_sizes_are_kohyas() -> None:
    # printed by sd-scripts for 512×512, 256…1024, steps of 64
    assert bucket_sizes((512, 512)) == [
        (256, 832),
        (256, 896),
        (256, 960),
        (256, 1024),
        (320, 704),
        (320, 768),
        (384, 640),
        (448, 576),
        (512, 512),
        (576, 448),
        (640, 384),
        (704, 320),
        (768, 320),
        (832, 256),
        (896, 256),
        (960, 256),
        (1024, 256),
    ]
    assert (832, 1216) in bucket_sizes((1024, 1024), largest=2048)
    assert bucket_sizes((64, 64)) == [(64, 64)]


@pytest.mark.parametrize(
    ("resolution", "step", "smallest", "largest"),
    [((64, 64), 16, 37, 131), ((512, 512), 64, 300, 1000), ((520, 392), 64, 100, 777), ((64, 64), 32, 8, 64)],
)
def test_bounds_off_the_grid_are_widened_to_it(resolution, step: int, smallest: int, largest: int) -> None:
    sizes = bucket_sizes(resolution, step=step, smallest=smallest, largest=largest)
    sides = [side for size in sizes for side in size]
    assert all(side % step == 0 for side in sides)
    low, high = max(step, smallest - smallest % step), largest + -largest % step  # as sd-scripts adjusts them
    assert sizes == bucket_sizes(resolution, step=step, smallest=low, largest=high)
    assert low <= min(sides)
    assert max(sides) <= high
    assert all(width * height <= resolution[0] * resolution[1] for width, height in sizes)


def test_the_largest_bound_costs_no_time() -> None:
    assert len(bucket_sizes((512, 512), step=8, smallest=8, largest=10**12)) < 10_000


@pytest.mark.parametrize(
    ("size", "bucket"),
    [((4000, 3000), (576, 448)), ((3000, 4000), (448, 576)), ((1000, 990), (512, 512)), ((4000, 900), (1024, 256))],
)
def test_a_photo_goes_to_the_nearest_ratio(size: tuple[int, int], bucket: tuple[int, int]) -> None:
    assert assign_buckets([photo(*size)], resolution=(512, 512)) == [bucket]


def test_without_buckets_all_photos_have_the_resolution() -> None:
    assert assign_buckets([photo(4000, 900)], resolution=(512, 768), enable_bucket=False) == [(512, 768)]


def test_batches_are_counted_bucket_by_bucket() -> None:
    photos = [photo(repeats=20)] * 5 + [photo(768, 512, repeats=20)] * 2
    sizes = assign_buckets(photos, resolution=(512, 512))
    assert batches_per_epoch(photos, sizes, 8) == math.ceil(100 / 8) + math.ceil(40 / 8)


def test_regularisation_images_fill_up_to_the_training_count() -> None:
    # 6 training images; 4 regularisation images of 1 repeat: once each, then one more for the first two
    assert repeat_counts([photo(repeats=3)] * 2 + [photo(is_reg=True)] * 4) == [3, 3, 2, 2, 1, 1]
    # 2 training images reach only the first regularisation image of 5 repeats
    assert repeat_counts([photo()] * 2 + [photo(is_reg=True, repeats=5)] * 3) == [1, 1, 5, 0, 0]


def mixed() -> tuple[Dataset, list[tuple[int, int]]]:
    photos = [photo(repeats=3) for _ in range(5)] + [photo(768, 512, repeats=2) for _ in range(4)]
    dataset = Dataset(Path("."), tuple(photos))
    return dataset, assign_buckets(photos, resolution=(512, 512))


def test_an_epoch_holds_each_photo_as_often_as_it_repeats() -> None:
    dataset, sizes = mixed()
    batches = epoch_batches(dataset, sizes, batch_size=4, seed=0, epoch=0)
    assert len(batches) == batches_per_epoch(dataset.photos, sizes, 4)
    assert Counter(index for batch in batches for index in batch) == Counter(
        {**dict.fromkeys(range(5), 3), **dict.fromkeys(range(5, 9), 2)}
    )
    assert all(len({sizes[index] for index in batch}) == 1 for batch in batches)


def test_epochs_share_their_shapes_and_differ_inside() -> None:
    dataset, sizes = mixed()
    epochs = [epoch_batches(dataset, sizes, batch_size=4, seed=3, epoch=epoch) for epoch in range(4)]
    shapes = [[(sizes[batch[0]], len(batch)) for batch in batches] for batches in epochs]
    assert all(shape == shapes[0] for shape in shapes)
    assert epochs[0] != epochs[1]
    assert epochs[1] == epoch_batches(dataset, sizes, batch_size=4, seed=3, epoch=1)
    assert epochs[1] != epoch_batches(dataset, sizes, batch_size=4, seed=4, epoch=1)


def test_sdxl_is_told_the_crop_as_kohya_tells_it() -> None:
    assert crop_corner((1024, 1024), (1024, 1024)) == (0, 0)
    assert crop_corner((832, 1216), (800, 1200)) == (10, 0)
    assert crop_corner((1024, 1024), (2000, 1000)) == (0, 256)
