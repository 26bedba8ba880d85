"""Epochs of a number of steps: they end within a pass over the photos, and what is learned until there is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.packs import join, new_pack
from trainer.base_model.load import load_base
from trainer.data.dataset import Dataset, scan_dataset
from trainer.families.family import Base
from trainer.packing.training_run import Run

RUN = {"rank": 2, "targets": "attention", "learning_rate": 1e-2, "optimizer": "AdamW", "lr_scheduler": "cosine"}
PACK = {"resolution": (32, 32), "batch_size": 3, "seed": 3, "flip": True, "caption_dropout": 0.2}
BUCKETS = {"enable_bucket": True, "bucket_step": 8, "min_bucket_resolution": 16, "max_bucket_resolution": 48}


@pytest.fixture(scope="module")
def base(tiny_sd15: Path) -> Base:
    return load_base(tiny_sd15, device="cpu")


@pytest.fixture(scope="module")
def photos(tiny_photos: Path) -> Dataset:
    found = scan_dataset(tiny_photos)
    return found.subset([row for row, photo in enumerate(found.photos) if not photo.is_reg][:5])


def same(one: Run, other: Run) -> bool:
    pairs = zip(one.adapters.named_parameters(), other.adapters.named_parameters(), strict=True)
    return all(torch.equal(a, b) for (_, a), (_, b) in pairs)


@pytest.mark.parametrize("accumulated", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_where_epochs_end_changes_nothing_of_what_is_learned(
    base: Base, photos: Dataset, tmp_path: Path, accumulated: int
) -> None:
    asked: dict[str, Any] = {**PACK, "gradient_accumulation_steps": accumulated}
    by_passes = new_pack(base, photos, **asked)
    each = by_passes.steps_per_epoch
    whole = join(by_passes, run_dir=tmp_path / "passes", epochs=3, **RUN)
    for _ in range(3):
        by_passes.train_epoch()
    assert each % 3, "these epochs end within passes"
    pack = new_pack(base, photos, steps_per_epoch=3, **asked)
    run = join(pack, run_dir=tmp_path / "steps", epochs=each, **RUN)
    while not run.finished:
        pack.train_epoch()
    assert (run.epoch, run.step, whole.step) == (each, 3 * each, 3 * each)
    assert same(run, whole)


def test_a_run_goes_on_from_within_a_pass_to_the_same_bits(base: Base, photos: Dataset, tmp_path: Path) -> None:
    def trained(folder: str, epochs: int) -> Run:
        pack = new_pack(base, photos, steps_per_epoch=2, **PACK)
        run = join(pack, run_dir=tmp_path / folder, epochs=4, **RUN)
        while run.epoch < epochs:
            pack.train_epoch()
        return run

    trained("stopped", 1).save()
    again = trained("stopped", 4)
    assert again.step == 8
    assert same(again, trained("whole", 4))


def test_those_at_other_places_in_the_photos_train_in_turn(base: Base, photos: Dataset, tmp_path: Path) -> None:
    pack = new_pack(base, photos, steps_per_epoch=3, **{**PACK, **BUCKETS}, width=2, max_rank=2)
    assert 3 % pack.steps_per_pass, "an epoch later a run is at another place"
    first = join(pack, run_dir=tmp_path / "first", epochs=2, **RUN)
    pack.train_epoch()
    second = join(pack, run_dir=tmp_path / "second", epochs=2, **RUN)
    while not (first.finished and second.finished):
        pack.train_epoch()
    assert (first.step, second.step) == (6, 6)
    assert same(first, second)


def test_those_a_whole_pass_apart_train_together(base: Base, photos: Dataset, tmp_path: Path) -> None:
    pack = new_pack(base, photos, steps_per_epoch=2, **{**PACK, **BUCKETS})
    first = join(pack, run_dir=tmp_path / "first", epochs=9, **RUN)
    while not first.step or first.step % pack.steps_per_pass:
        pack.train_epoch()
    join(pack, run_dir=tmp_path / "second", epochs=9, **RUN)
    steps = list[int]()
    pack.train_epoch(lambda pack: steps.append(len(pack.runs)))
    assert steps == [2, 2], "each step is one of both"


def test_who_leaves_while_others_have_their_turn_is_not_trained(base: Base, photos: Dataset, tmp_path: Path) -> None:
    pack = new_pack(base, photos, steps_per_epoch=1, **{**PACK, **BUCKETS})
    first = join(pack, run_dir=tmp_path / "first", epochs=2, **RUN)
    pack.train_epoch()
    second = join(pack, run_dir=tmp_path / "second", epochs=2, **RUN)
    pack.train_epoch(lambda pack: pack.leave(second) if second in pack.runs else None)
    assert (first.step, second.step) == (2, 0)
