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
from trainer.checkpoint import checkpoint_path
from trainer.errors import TrainerError
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


@pytest.fixture(autouse=True)
def _nothing_was_read(resident: Resident) -> None:
    shutil.rmtree(resident.folder.path / "finalists" / "0001" / "twins-3", ignore_errors=True)


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


@pytest.mark.parametrize(
    ("saved", "measured", "goes_on"),
    [
        ([], [], True),
        ([], [0], True),
        ([1], [0, 1], True),
        ([1], [1], False),  # of the base it is not known what it read
        ([1], [0], False),
        ([1, 2], [0, 1, 2], True),
        ([1, 2], [0, 2], False),  # a gap
        ([2], [0, 1], False),
        ([1], [0, 1, 2], True),
    ],
)
def test_it_goes_on_where_all_that_its_checkpoints_come_after_was_read(
    resident: Resident, monkeypatch, saved: list[int], measured: list[int], goes_on: bool
) -> None:
    twins = resident.worker._finalists._twins
    monkeypatch.setattr(twins, "_epochs", lambda asked: [1, 2, 3])
    home = twins._training(ASKED[0])
    for epoch in saved:
        checkpoint_path(home / "checkpoints", epoch).mkdir(parents=True)
    for epoch in measured:
        file = twins._measured(ASKED[0], epoch)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert twins._goes_on(ASKED[0]) is goes_on


def test_what_was_read_is_kept_with_what_it_was_asked_for(resident: Resident, monkeypatch) -> None:
    """Losses of the base and of one checkpoint, planted: each photo's ratio to the base."""
    looks = resident.worker._finalists
    twins, said = looks._twins, list[Any]()
    monkeypatch.setattr(resident.worker._line, "send", said.append)
    monkeypatch.setattr(twins, "_epochs", lambda asked: [2])
    rows = twins.rows(ASKED[1])
    base = np.full((len(rows), 1, 1), 2.0)
    for epoch, losses in ((0, base), (2, base / 4)):
        file = twins._measured(ASKED[1], epoch)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, losses)
    looks._side.seconds[ASKED[1]] = 12.5
    twins.keep(ASKED[1])
    (kept,) = _read(resident)
    assert (kept.rows.tolist(), kept.epochs.tolist(), kept.seconds) == (rows, [0, 2], 12.5)
    assert kept.ratios == pytest.approx(np.stack([base * 0, np.full_like(base, np.log(1 / 4))]))
    assert kept.asked == twins._asked(ASKED[1])
    assert said == [DrawnAgain(1, EPOCHS, 1)]
    assert not twins._training(ASKED[1]).exists()
    assert ASKED[1] not in looks._side.seconds
    twins.keep(ASKED[1])  # again: only told
    assert said == [DrawnAgain(1, EPOCHS, 1)] * 2


def test_its_checkpoints_are_those_up_to_as_many_passes_over_its_own_photos(resident: Resident) -> None:
    twins = resident.worker._finalists._twins
    trained = [photo for photo in resident.worker._probe.trained.photos if not photo.is_reg]
    for place, asked in enumerate(ASKED):
        last = ceil(EPOCHS * (len(trained) - len(twins._left_out[3][place])) / len(trained))
        assert twins._until(asked) == last
        assert twins._epochs(asked) == list(range(1, last + 1))
        (file := twins._measured(asked, 0)).parent.mkdir(parents=True)
        for epoch in (0, *twins._epochs(asked)):
            np.save(file.with_name(f"{epoch:04d}.npy"), np.ones((len(twins.rows(asked)), 1, 1)))
        twins.keep(asked)
    assert [kept.seconds for kept in _read(resident)] == [0.0] * 3, "trained in an earlier sitting"


def test_losses_that_are_no_numbers_are_a_fault(resident: Resident, monkeypatch) -> None:
    twins = resident.worker._finalists._twins
    monkeypatch.setattr(twins, "_epochs", lambda asked: [2])
    for epoch, loss in ((0, 2.0), (2, np.nan)):
        file = twins._measured(ASKED[1], epoch)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.full((1, 1, 1), loss))
    with pytest.raises(TrainerError, match="the losses of a twin are NaN or infinite"):
        twins.keep(ASKED[1])


def test_a_twin_beyond_the_parts_of_the_photos_learns_nothing(resident: Resident, monkeypatch) -> None:
    twins, said = resident.worker._finalists._twins, list[Any]()
    monkeypatch.setattr(resident.worker._line, "send", said.append)
    beyond = DrawAgain(1, EPOCHS, twins=3, place=3)
    assert twins.rows(beyond) == []
    assert twins._ready(beyond) is None
    assert twins._until(beyond) == 0
    twins.keep(beyond)
    kept = TwinLosses.load(TwinLosses.file(resident.folder.path / "finalists", 1, 3, 3))
    assert kept is not None
    assert (kept.rows.size, kept.epochs.tolist(), kept.ratios.shape) == (0, [0], (1, 0, 1, 1))


def test_what_was_begun_otherwise_is_deleted_and_what_was_begun_alike_goes_on(resident: Resident, monkeypatch) -> None:
    trainings, asked = resident.worker._finalists._twins, ASKED[0]
    home = trainings._training(asked)
    shutil.rmtree(home, ignore_errors=True)
    monkeypatch.setattr(trainings, "_is_kept", lambda asked: False)
    training = trainings._ready(asked)
    assert training is not None
    assert (training.folder, training.place) == (home, asked.place)
    assert (home / "asked").read_text() == trainings._asked(asked)
    (home / "trained").touch()
    trainings._ready(asked)
    assert (home / "trained").exists()
    monkeypatch.setattr(trainings, "_asked", lambda asked: "with another seed")
    trainings._ready(asked)
    assert [path.name for path in home.iterdir()] == ["asked"]
    assert (home / "asked").read_text() == "with another seed"
    shutil.rmtree(home)
