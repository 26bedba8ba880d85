"""Several processes share the batches of a pass, and what each run's gradients are is averaged once a step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainer.packs import join, new_pack
from trainer.base_model.load import load_base
from trainer.data.dataset import Dataset, scan_dataset
from trainer.families.family import Base
from trainer.packing.distributed import Crew
from trainer.packing.pack import Pack

RUN = {"rank": 2, "targets": "attention", "learning_rate": 1e-2, "optimizer": "AdamW", "lr_scheduler": "constant"}
PACK = {"resolution": (32, 32), "batch_size": 1, "seed": 3}


@pytest.fixture(scope="module")
def base(tiny_sd15: Path) -> Base:
    return load_base(tiny_sd15, device="cpu")


@pytest.fixture(scope="module")
def photos(tiny_photos: Path) -> Dataset:
    found = scan_dataset(tiny_photos)
    return found.subset([row for row, photo in enumerate(found.photos) if not photo.is_reg][:3])


@dataclass(frozen=True)
class _Noting(Crew):
    averaged: list[list[nn.Parameter]] = field(default_factory=list)

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        assert all(parameter.grad is not None for parameter in parameters)
        self.averaged.append(list(parameters))


def _fed(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], int, int]]:
    """(photos, pass, number of the batch) of each batch that is fed from now on."""
    seen: list[tuple[list[int], int, int]] = []
    plain = pack.feed.batch

    def batch(rows: Sequence[int], number: int, place: int) -> Any:
        seen.append((list(rows), number, place))
        return plain(rows, number, place)

    monkeypatch.setattr(pack.feed, "batch", batch)
    return seen


@pytest.mark.parametrize(("rank", "size"), [(0, 1), (0, 2), (1, 2), (2, 3)])
def test_a_process_takes_every_so_many_th_batch_of_a_pass(
    base: Base,
    photos: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rank: int,
    size: int,
) -> None:
    crew = _Noting(torch.device("cpu"), rank, size)
    pack = new_pack(base, photos, crew=crew, **PACK)
    seen = _fed(pack, monkeypatch)
    orders = [pack.feed.photo_pass(number) for number in range(2)]
    count = len(orders[0])
    assert pack.batches_per_pass == pack.steps_per_epoch == -(-count // size)
    runs = [join(pack, run_dir=tmp_path / name, epochs=2, **RUN) for name in ("one", "two")]
    for _ in range(2):
        pack.train_epoch()
    places = [step * size + rank for step in range(-(-count // size))]
    assert seen == [(list(orders[number][at % count]), number, at) for number in range(2) for at in places]
    steps = 2 * len(places)
    assert len(crew.averaged) == 2 * steps
    for number, parameters in enumerate(crew.averaged):
        own = runs[number % 2].parameters
        assert all(one is other for one, other in zip(parameters, own, strict=True))


def test_who_leaves_takes_the_sums_of_its_epoch_along_no_further(
    base: Base,
    photos: Dataset,
    tmp_path: Path,
) -> None:
    pack = new_pack(base, photos, **PACK)
    run, other = (join(pack, run_dir=tmp_path / name, epochs=2, **RUN) for name in ("one", "two"))
    noted: list[int] = []

    def leave(pack: Pack) -> None:
        noted.append(run._losses)
        if run in pack.runs:
            pack.leave(run)

    pack.train_epoch(leave)
    assert noted[0] == 1
    assert (run._losses, run._loss_sum, run._effort_here) == (0, None, 0.0)
    assert all(parameter.grad is None for parameter in run.parameters)
    assert (run.epoch, other.epoch) == (0, 1)
    assert pack.runs == [other]
