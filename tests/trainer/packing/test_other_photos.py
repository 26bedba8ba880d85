"""Runs with photos of their own in a pack: as many steps in an epoch as the others, every photo as often as any."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainer.packs import join, new_pack, run_settings
from trainer.base_model.load import load_base
from trainer.data.buckets import epoch_batches
from trainer.data.cache import LatentCache
from trainer.data.dataset import Dataset, scan_dataset
from trainer.errors import ModelError
from trainer.families.family import Base
from trainer.packing.batches import Feed
from trainer.packing.settings import FeedSettings
from trainer.packing.training_run import Run

RUN = {"rank": 2, "epochs": 2, "targets": "attention", "learning_rate": 1e-2, "optimizer": "AdamW"}
PACK = {"resolution": (32, 32), "batch_size": 2, "seed": 3}
BUCKETS = {"enable_bucket": True, "bucket_step": 8, "min_bucket_resolution": 16, "max_bucket_resolution": 48}


@pytest.fixture(scope="module")
def base(tiny_sd15: Path) -> Base:
    found = load_base(tiny_sd15, device="cpu")
    for module in (found.denoiser, *found.text_encoders):
        torch.nn.Module.to(module, torch.float64)
    found.dtype = torch.float64
    return found


@pytest.fixture(scope="module")
def photos(tiny_photos: Path) -> Dataset:
    found = scan_dataset(tiny_photos)
    return found.subset([row for row, photo in enumerate(found.photos) if not photo.is_reg][:4])


def some(photos: Dataset) -> Dataset:
    return photos.subset(range(len(photos.photos) - 1))


@pytest.mark.parametrize("pace", [[2, 2, 1], [2, 1], [1] * 11])
def test_passes_follow_each_other_and_every_photo_comes_as_often(base: Base, photos: Dataset, pace: list[int]) -> None:
    settings = FeedSettings(**PACK)
    feed = Feed(base, photos, LatentCache(base, None), settings, pace=pace)
    each = sum(map(len, epoch_batches(photos, feed.sizes, batch_size=2, seed=3, epoch=0)))
    epochs = [feed.photo_pass(number) for number in range(each)]
    assert all([len(batch) for batch in epoch] == pace for epoch in epochs)
    seen = [index for epoch in epochs for batch in epoch for index in batch]
    passes = [epoch_batches(photos, feed.sizes, batch_size=2, seed=3, epoch=number) for number in range(sum(pace))]
    assert seen == [index for one in passes for batch in one for index in batch]
    once = Counter(index for batch in passes[0] for index in batch)
    assert Counter(seen) == Counter({index: count * sum(pace) for index, count in once.items()})


def test_batches_of_photos_of_one_size_stay_whole_at_any_pace(base: Base, photos: Dataset) -> None:
    wide = tuple(replace(photo, width=2 * photo.width) for photo in photos.photos[:2])
    photos = replace(photos, photos=wide + photos.photos[2:])
    settings = FeedSettings(**PACK, **BUCKETS)
    feed = Feed(base, photos, LatentCache(base, None), settings, pace=[2] * 5)
    assert len(set(feed.sizes)) > 1
    passes = [epoch_batches(photos, feed.sizes, batch_size=2, seed=3, epoch=number) for number in range(8)]
    follow = [batch for one in passes for batch in one]
    assert len(passes[0]) != 5
    assert [batch for number in range(3) for batch in feed.photo_pass(number)] == follow[:15]


def test_a_run_with_other_photos_learns_in_company_what_it_learns_alone(
    base: Base, photos: Dataset, tmp_path: Path
) -> None:
    def trained(folder: str, *, twin: bool, whole: bool, stop: int | None = None) -> list[Run]:
        pack = new_pack(base, some(photos), **PACK)
        runs = [join(pack, run_dir=tmp_path / folder / "twin", **RUN)] if twin else []
        if whole:
            runs.append(pack.join(run_settings(**RUN), run_dir=tmp_path / folder / "whole", photos=photos))
        while not all(run.finished for run in runs) and runs[0].epoch != stop:
            pack.train_epoch()
            for run in runs:
                run.save()
        return runs

    twin, whole = trained("both", twin=True, whole=True)
    assert (twin.step, twin.epoch) == (whole.step, whole.epoch)
    (lone_twin,), (lone_whole,) = trained("a", twin=True, whole=False), trained("b", twin=False, whole=True)
    trained("again", twin=True, whole=True, stop=1)
    resumed = trained("again", twin=True, whole=True)
    for run, others in ((twin, (lone_twin, resumed[0])), (whole, (lone_whole, resumed[1]))):
        for other in others:
            for name, parameter in other.adapters.named_parameters():
                found = dict(run.adapters.named_parameters())[name]
                torch.testing.assert_close(found, parameter, rtol=1e-9, atol=1e-12)
    differs = [
        not torch.allclose(one, other)
        for (_, one), (_, other) in zip(
            twin.adapters.named_parameters(), whole.adapters.named_parameters(), strict=True
        )
    ]
    assert any(differs), "one photo more is another training"


def test_the_file_tells_of_the_photos_that_it_was_trained_on(base: Base, photos: Dataset, tmp_path: Path) -> None:
    from trainer.lora.kohya_file import read_metadata

    pack = new_pack(base, some(photos), **PACK)
    twin = join(pack, run_dir=tmp_path / "twin", **RUN)
    whole = pack.join(run_settings(**RUN), run_dir=tmp_path / "whole", photos=photos)
    told = [read_metadata(run.save() / "lora.safetensors") for run in (twin, whole)]
    counts = [int(one["ss_num_train_images"]) for one in told]
    assert counts[1] > counts[0]
    assert {one["ss_num_batches_per_epoch"] for one in told} == {str(pack.batches_per_pass)}


def test_buckets_and_other_photos_go_alone(base: Base, photos: Dataset, tmp_path: Path) -> None:
    pack = new_pack(base, some(photos), **PACK, **BUCKETS)
    whole = pack.join(run_settings(**RUN), run_dir=tmp_path / "whole", photos=photos)
    pack.train_epoch()
    assert (whole.epoch, whole.step) == (1, pack.steps_per_epoch)
    pack = new_pack(base, some(photos), **PACK, **BUCKETS)
    join(pack, run_dir=tmp_path / "twin", **RUN)
    with pytest.raises(ModelError, match="in buckets, cannot share a pack"):
        pack.join(run_settings(**RUN), run_dir=tmp_path / "other", photos=photos)
