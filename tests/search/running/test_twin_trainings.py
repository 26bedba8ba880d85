"""Cross-fitted twins as a worker trains them: what they have not seen, and a kill or an end of memory on the way."""

import shutil
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.record.events import DrawAgain, DrawnAgain, Failed
from search.record.record import TrialRecord
from search.record.twins import TwinLosses
from search.running.coordinator_line import Ended
from tests.search.running.resident_worker import EPOCHS, Resident, memory_for_one
from trainer.packing.pack import Pack

ASKED = [DrawAgain(1, EPOCHS, twins=3, place=place) for place in range(3)]


@pytest.fixture(scope="module")
def resident(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path, tiny_clip: Path, tiny_photos: Path) -> Resident:
    made = Resident(tmp_path_factory.mktemp("twins"), tiny_sd15, tiny_clip, tiny_photos)
    config = made.spec(1).config
    TrialRecord(1, "complete", config, {}, EPOCHS, EPOCHS).save(made.folder.trial(1))
    looks = made.worker._finalists
    assert looks._twins.rows(ASKED[0])
    rows = range(made.worker._probe.trained.num_photos)  # to an encoder without training most of them are one photo
    looks._twins._left_out[3] = [list(rows[:-2]), [rows[-2]], [rows[-1]]]
    return made


def _read(resident: Resident) -> list[TwinLosses]:
    files = [TwinLosses.file(resident.folder.path / "finalists", 1, 3, place) for place in range(3)]
    return [read for file in files if (read := TwinLosses.load(file)) is not None]


def test_twins_that_were_killed_read_what_undisturbed_ones_read(resident: Resident, monkeypatch) -> None:
    said, looks = [], resident.worker._finalists
    monkeypatch.setattr(resident.worker._line, "send", said.append)
    assert looks.see_to(ASKED, lambda: None)
    assert [message for message in said if isinstance(message, DrawnAgain)] == [
        DrawnAgain(1, EPOCHS, place) for place in range(3)
    ]
    expected, home = _read(resident), resident.folder.path / "finalists" / "0001" / "twins-3"
    assert sorted(path.name for path in home.iterdir()) == ["0.npz", "1.npz", "2.npz"]  # no LoRA is left
    trained = [photo for photo in resident.worker._probe.trained.photos if not photo.is_reg]
    assert sorted(np.concatenate([each.rows for each in expected])) == list(range(len(trained)))
    for each in expected:  # each has as many passes over its own photos, and goes no further
        last = ceil(EPOCHS * (len(trained) - len(each.rows)) / len(trained))
        assert each.epochs.tolist() == list(range(last + 1))
        assert each.ratios.shape == (last + 1, len(each.rows), 1, 1)
        assert not each.ratios[0].any()
        assert each.ratios[1:].any()
        assert each.seconds > 0
    shutil.rmtree(home)

    def killed() -> None:
        if (home / "1" / "checkpoints" / "0001").is_dir():
            raise Ended

    looks._side.passes = resident.passes()
    with pytest.raises(Ended):
        looks.see_to(ASKED, killed)
    assert not _read(resident)
    looks._side.passes = resident.passes()  # as after a start
    steps, step = [], Pack.train_epoch
    monkeypatch.setattr(Pack, "train_epoch", lambda pack, *a, **k: (steps.append(1), step(pack, *a, **k))[1])
    assert looks.see_to(ASKED, lambda: None)
    assert len(steps) == EPOCHS - 1
    for again, each in zip(_read(resident), expected, strict=True):
        assert np.array_equal(again.rows, each.rows)
        assert np.array_equal(again.ratios, each.ratios)
    steps.clear()
    assert looks.see_to(ASKED, lambda: None)
    assert not steps
    shutil.rmtree(home)


def test_a_twin_has_not_seen_what_it_reads(resident: Resident, monkeypatch) -> None:
    joined, join = [], Pack.join

    def noted(pack: Pack, *args: Any, **named: Any) -> Any:
        joined.append([photo.content for photo in named["photos"].photos])
        return join(pack, *args, **named)

    monkeypatch.setattr(Pack, "join", noted)
    looks = resident.worker._finalists
    looks._side.passes = resident.passes()
    assert looks.see_to(ASKED, lambda: None)
    own = [photo.content for photo in resident.worker._probe.trained.photos]
    for content, read in zip(joined, _read(resident), strict=True):
        assert sorted(content) == sorted(c for row, c in enumerate(own) if row not in read.rows)
    shutil.rmtree(resident.folder.path / "finalists" / "0001" / "twins-3")


def test_where_memory_ends_while_twins_join_all_of_them_may_be_tried_again(resident: Resident, monkeypatch) -> None:
    said, looks = [], resident.worker._finalists
    monkeypatch.setattr(resident.worker._line, "send", said.append)
    looks._side.passes = resident.passes()
    memory_for_one(monkeypatch)
    assert not looks.see_to(ASKED, lambda: None)
    failed = [message for message in said if isinstance(message, Failed)]
    assert [(message.twin, message.again) for message in failed] == [(0, True), (1, True), (2, True)]
    assert looks.see_to(ASKED, lambda: None)
    assert len(_read(resident)) == 3
