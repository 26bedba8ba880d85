"""A real worker: what it does with a final run and its twin, and with what it is told."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from search.record.events import (
    Alive,
    Checkpointed,
    Doing,
    DrawAgain,
    Failed,
    GoOn,
    Note,
    Quit,
    StopTrial,
    TrialSpec,
)
from search.record.final_run import TWIN
from search.record.pack_width import PackWidth
from search.record.taken_run import RunMark, TakenRun
from search.running.coordinator_line import Ended
from search.running.machine_faults import Fault
from search.running.trial_at_work import TrialAtWork
from search.running.worker import _Worker
from tests.search.running.resident_worker import EPOCHS, Resident
from trainer.checkpoint import LORA_FILE, checkpoint_path, state_damage
from trainer.errors import TrainerError
from trainer.lora.kohya_file import load_lora
from trainer.packing.builder import run_settings
from trainer.packing.pack import Pack
from trainer.packing.training_run import Run

TO_SEARCH = ("search", "budget")
TRAIN = {"resolution": 64, "batch_size": 8, "optimizer": "AdamW", "rank": 4, "learning_rate_scale": 30.0}
SCORE = {
    "probe": {"seeds": 1, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class}, snow"]},
    "losses": {"levels": 1, "draws": 1},
    "shifted": {"composites": 0},
}


@pytest.fixture(scope="module")
def resident(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path, tiny_clip: Path, tiny_photos: Path) -> Resident:
    return Resident(tmp_path_factory.mktemp("resident"), tiny_sd15, tiny_clip, tiny_photos)


def spec_of(resident: Resident, number: int = 0) -> TrialSpec:
    return TrialSpec(number, resident.folder.trial(number), resident.study.config({}), place=number)


@pytest.fixture(scope="module")
def final(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path, tiny_clip: Path, tiny_photos: Path) -> Resident:
    """A worker for a final run of two epochs."""
    return Resident(
        tmp_path_factory.mktemp("final"), tiny_sd15, tiny_clip, tiny_photos, drop=TO_SEARCH, train=TRAIN,
        final={"epoch": EPOCHS, "past": 1}, workers={"threads": 1, "device": "cpu"},
    )  # fmt: skip


def test_a_final_run_takes_all_photos_and_its_twin_none_of_those_held_out(final: Resident) -> None:
    spec = spec_of(final)
    seen: list[tuple[int, int]] = []
    join = final.worker._passes.join

    def noted(config, settings, run_dir, *, photos=None, **named):
        own = final.worker._probe.trained if photos is None else photos
        seen.append((run_dir == spec.folder, len(own.photos)))
        return join(config, settings, run_dir, photos=photos, **named)

    final.worker._passes.join = noted
    found, said = final.run(spec)
    final.worker._passes.join = join
    assert not said
    assert seen == [(True, 8), (False, len(final.worker._probe.trained.photos))]
    assert seen[1][1] < 8, "some are held out"
    for home in (spec.folder, spec.folder / TWIN):
        for epoch in (1, 2):
            assert (checkpoint_path(home / "checkpoints", epoch) / LORA_FILE).is_file()
        assert state_damage(checkpoint_path(home / "checkpoints", EPOCHS)) is None
    both = [
        load_lora(checkpoint_path(home / "checkpoints", EPOCHS) / LORA_FILE, family="sd15")
        for home in (spec.folder, spec.folder / TWIN)
    ]
    assert any(not torch.equal(m.up, both[1].modules[site].up) for site, m in both[0].modules.items())
    probe = final.worker._probe
    images, _, _ = probe.read(both[0], epoch=EPOCHS, effort=0.0)
    twin, _, _ = probe.read(both[1], epoch=EPOCHS, effort=0.0)
    kept, own, apart = (
        each.items["heldout_loss"] for each in (Checkpointed.load(spec.folder, 0, EPOCHS).readings, images, twin)
    )
    assert np.abs(kept - apart).max() < 0.2 * np.abs(kept - own).max(), "the twin's losses count; its file is fp16"
    final.run(spec, until=1)
    assert final.run(spec, go_on=True)[0] == found, "ended between two checkpoints it is what it was"


def test_a_trial_in_the_place_of_another_takes_it(resident: Resident) -> None:
    """The coordinator has given the first one up."""
    worker, first, second = resident.worker, resident.spec(0), replace(resident.spec(1), place=0)
    for spec in (first, second):
        shutil.rmtree(spec.folder, ignore_errors=True)
        spec.folder.mkdir(parents=True)
        worker._begin(spec)
    assert [*worker._trials] == [1]
    ((_, run),) = worker._trials[1].seats
    assert (run.settings.adapter.rank, run.run_dir) == (8, second.folder)
    worker._let_go(1)
    assert not worker._trials


def test_a_trial_that_is_stopped_before_it_began_never_begins(resident: Resident, monkeypatch) -> None:
    worker: _Worker = resident.worker
    worker._new = [resident.spec(0), resident.spec(1)]
    monkeypatch.setattr(worker._line, "heard", lambda *, block: iter([StopTrial(0, 0)]))
    worker._hear()
    assert [spec.number for spec in worker._new] == [1]
    worker._new = []


@pytest.mark.parametrize(("told", "decided", "step", "due", "rests"), [
    (0, 0, 2, 2, False), (2, 0, 2, 4, False), (4, 0, 2, 6, False), (6, 0, 2, 8, True), (6, 2, 2, 8, False),
    (8, 8, 2, 9, False), (3, 3, 2, 4, False), (4, 0, 1, 5, True), (2, 0, 1, 3, False), (3, 0, 1, 4, True),
])  # fmt: skip
def test_a_trial_is_at_most_two_checkpoints_ahead_of_what_is_decided(
    resident: Resident, told: int, decided: int, step: int, due: int, rests: bool
) -> None:
    spec = resident.spec(0, epochs=9, save_every_n_epochs=step)
    trial = TrialAtWork(spec)
    assert (trial.told, trial.decided, trial.twin) == (0, 0, None)
    trial.told, trial.decided = told, decided
    pack, run = resident.passes().join(spec.config, run_settings(spec.config), spec.folder, place=0)
    trial.seats = [(pack, run)]
    assert trial.run is run
    assert (trial.due, trial.rests) == (due, rests)
    trial.leave()
    assert (pack.runs, trial.seats) == ([], [])


@pytest.fixture
def quiet(resident: Resident, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[_Worker, list[object]]]:
    """The worker without trials, and what it says."""
    said: list[object] = []
    shutil.rmtree(resident.folder.path / "trials", ignore_errors=True)

    def heard(message: object) -> None:
        if not isinstance(message, Alive):  # one a second, whenever that is
            said.append(message)

    monkeypatch.setattr(resident.worker._line, "send", heard)
    monkeypatch.setattr(resident.worker, "_passes", resident.passes())
    yield resident.worker, said
    for number in list(resident.worker._trials):
        resident.worker._let_go(number)


def begun(resident: Resident, *numbers: int, **changes: object) -> list[TrialAtWork]:
    for number in numbers:
        spec = resident.spec(number, **changes)
        spec.folder.mkdir(parents=True, exist_ok=True)
        resident.worker._begin(spec)
    return [resident.worker._trials[number] for number in numbers]


def test_a_trial_begins_with_the_bases_readings_and_a_mark_of_its_run(resident: Resident, quiet) -> None:
    worker, said = quiet
    (trial,) = begun(resident, 1)
    assert Checkpointed.epochs(trial.spec.folder) == [0]
    assert RunMark.file(trial.spec.folder).is_file()
    assert (len(trial.seats), trial.run.epoch, trial.told, said) == (1, 0, 0, [])
    readings = worker._probe.base_readings
    for epoch in (1, 2):  # measured, but its checkpoints are gone: it is trained and measured again
        Checkpointed(1, epoch, replace(readings, epoch=epoch)).save(trial.spec.folder)
    (again,) = begun(resident, 1)
    assert (again.told, said) == (0, [])
    with pytest.MonkeyPatch.context() as patch:  # what the same run has looked at is told
        patch.setattr(worker, "_from_the_same_run", lambda trial: 1)
        (third,) = begun(resident, 1)
    assert [(event.number, event.epoch) for event in said] == [(1, 1)]
    assert third.told == 1


def test_a_checkpoint_behind_one_that_was_not_measured_is_trained_again(resident: Resident, quiet) -> None:
    folder = resident.spec(1).folder / "checkpoints"
    for epoch in (1, 2):
        checkpoint_path(folder, epoch).mkdir(parents=True)
    begun(resident, 1)
    assert sorted(path.name for path in folder.iterdir()) == ["0001"]


def test_a_trial_goes_on_from_what_the_same_run_has_saved_and_tells_what_it_has_read(
    resident: Resident, quiet, monkeypatch
) -> None:
    worker, said = quiet
    (first,) = begun(resident, 0)
    first.seats[0][0].train_epoch(lambda _: None, runs=[first.run])
    first.run.save()
    worker._let_go(0)
    theirs, mine = resident.spec(0).folder, resident.spec(1, rank=4, learning_rate_scale=1.0).folder

    def take(spec: TrialSpec, mark: RunMark) -> TakenRun:
        assert RunMark.load(spec.folder) == mark
        shutil.copytree(theirs / "checkpoints", mine / "checkpoints")
        for epoch in (1, EPOCHS):
            Checkpointed(1, epoch, replace(worker._probe.base_readings, epoch=epoch)).save(mine)
        return TakenRun("mini", 0, looked=EPOCHS, trained=1)

    with monkeypatch.context() as patch:
        patch.setattr(worker._same, "take", take)
        (trial,) = begun(resident, 1, rank=4, learning_rate_scale=1.0)
    assert (trial.run.epoch, trial.told) == (1, EPOCHS)
    note, *events = said
    assert note == Note(1, TakenRun("mini", 0, looked=EPOCHS).sentence)
    assert [(event.number, event.epoch) for event in events] == [(1, 1), (1, EPOCHS)]
    assert trial.seats[0][0].runs == [trial.run], "the seat that it had first is free"


def test_what_is_said_while_a_worker_loads(resident: Resident) -> None:
    assert [each.what for each in resident.loading] == ["loading the base", "loading the encoder", "building the probe"]


@pytest.mark.parametrize(("told", "waits"), [(2, False), (3, True)])
def test_who_is_too_far_ahead_says_so_and_listens(
    resident: Resident, quiet, monkeypatch: pytest.MonkeyPatch, told: int, waits: bool
) -> None:
    worker, said = quiet
    (trial,) = begun(resident, 1, epochs=9)
    trial.told = told
    heard: list[bool] = []
    trained: list[list[TrialAtWork]] = []
    monkeypatch.setattr(worker, "_hear", lambda *, block=False: heard.append(block))
    monkeypatch.setattr(worker, "_train", lambda going: trained.append(going) or [])
    worker._turn()
    assert (said, heard) == (([Doing("waiting", 1, 0)], [False, True]) if waits else ([], [False]))
    assert trained == ([] if waits else [[trial]])


def test_memory_of_a_trial_that_failed_is_given_back_once(resident: Resident, quiet, monkeypatch) -> None:
    worker, _ = quiet
    done: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))

    def hear(*, block: bool) -> None:
        if len(done) == 5:
            raise Ended
        done.append(f"heard {block}")

    def turn() -> None:
        worker._failed = len(done) == 1
        done.append("turned")

    monkeypatch.setattr(worker, "_hear", hear)
    monkeypatch.setattr(worker, "_turn", turn)
    worker.serve()
    assert done == ["heard True", "turned", "emptied", "heard True", "turned"]
    assert not worker._failed


def test_what_goes_wrong_in_a_pass_that_two_share_sets_each_apart(resident: Resident, quiet) -> None:
    worker, said = quiet
    first, second = begun(resident, 0, 1)
    pack = first.seats[0][0]
    assert second.seats[0][0] is pack
    (third,) = begun(resident, 2, batch_size=4)
    other = third.seats[0][0]
    assert other is not pack
    worker._untangle(pack, Fault("RuntimeError: planted", again=True))
    assert [(type(each), each.number) for each in said] == [(Note, 0), (Note, 1)]
    assert all("RuntimeError: planted; up to its next checkpoint" in each.notice for each in said)
    assert [trial.apart for trial in (first, second, third)] == [True, True, False]
    packs = [trial.seats[0][0] for trial in (first, second, third)]
    assert pack not in packs
    assert len(set(packs)) == 3
    assert packs[2] is other
    said.clear()
    worker._untangle(packs[0], Fault("RuntimeError: planted", again=True))
    assert said == [Failed(0, 1, "RuntimeError: planted", again=True)]
    assert sorted(worker._trials) == [1, 2]
    assert worker._failed
    worker._failed = False


def test_a_machine_that_cannot_work_fails_all_of_a_pass_and_too_little_memory_none(resident: Resident, quiet) -> None:
    worker, said = quiet
    first, second = begun(resident, 0, 1)
    (third,) = begun(resident, 2, batch_size=4)
    worker._untangle(first.seats[0][0], Fault("no memory", again=True, memory=True))
    assert {each.number for each in said} == {0, 1, 2}, "all go on in narrower packs"
    assert all("with at most 1 trials at a time" in each.notice for each in said)
    assert worker._passes.width == 1
    assert not any(trial.apart for trial in (first, second, third))
    assert all(trial.seats[0][0].width == 1 for trial in (first, second, third))
    said.clear()
    worker._untangle(second.seats[0][0], Fault("no memory", again=True, memory=True))
    assert said == [Failed(1, 1, "no memory", again=True)], "it can be no narrower"
    said.clear()
    (again,) = begun(resident, 1)
    again.seats = first.seats
    worker._untangle(first.seats[0][0], Fault("the disk is full", again=True, machine=True))
    assert [(each.number, each.machine, each.again) for each in said] == [(0, True, True), (1, True, True)]
    PackWidth.file(resident.folder).unlink()


def test_packs_are_trained_in_turn_whatever_becomes_of_one(resident: Resident, quiet, monkeypatch) -> None:
    worker, said = quiet
    first, second = begun(resident, 0, 1)
    (third,) = begun(resident, 2, batch_size=4)
    trained: list[tuple[int, ...]] = []
    bad = first.seats[0][0]

    def train_epoch(pack: Pack, on_step: object, *, runs: list[Run]) -> None:
        trained.append(tuple(int(run.run_dir.name) for run in runs))
        if pack is bad:
            raise RuntimeError("planted")

    monkeypatch.setattr(Pack, "train_epoch", train_epoch)
    ((pack, fault),) = worker._train([first, second, third])
    assert (pack is bad, fault.text, trained) == (True, "RuntimeError: planted", [(0, 1), (2,)])
    assert said == [Doing("training", number, 0) for number in range(3)]
    assert first.trained == second.trained == 0.0 < third.trained
    third.run.failed = "the loss is NaN or infinite"
    said.clear()
    worker._train([third])
    assert said[-1] == Failed(2, 1, "the loss is NaN or infinite", again=False)
    assert sorted(worker._trials) == [0, 1]
    pack, run = second.seats[0]
    pack.leave(run)  # stopped between two steps
    trained.clear()
    worker._train([second])
    assert trained == []
    second.seats = []
    worker._failed = False


def test_one_that_was_set_apart_comes_back_after_its_checkpoint(resident: Resident, quiet, monkeypatch) -> None:
    worker, _ = quiet
    (trial,) = begun(resident, 1)
    seen: list[int] = []
    monkeypatch.setattr(worker, "_checkpoint", lambda trial: seen.append(trial.run.epoch))
    assert not worker._see_to(trial), "no epoch has been trained"
    trial.run.epoch, trial.apart = 1, True
    seats = list(trial.seats)
    assert worker._see_to(trial)
    assert (seen, trial.apart, trial.looked) == ([1], False, -1)
    assert trial.seats != seats
    trial.run.epoch = 1
    assert worker._see_to(trial)
    assert not worker._see_to(trial), "seen to already"
    assert seen == [1, 1]


def test_what_goes_wrong_with_a_trial_is_told_once_and_its_seat_is_free(resident: Resident, quiet) -> None:
    worker, said = quiet
    (trial,) = begun(resident, 1)
    pack = trial.seats[0][0]
    for _ in range(2):
        with worker._answering_for(trial):
            raise TrainerError("its folder is gone")
    assert said == [Failed(1, 1, "its folder is gone", again=False)]
    assert (worker._trials, pack.runs) == ({}, [])
    (newer,) = begun(resident, 1)
    worker._fail(trial, Fault("late", again=True))  # of the one before it
    assert (worker._trials, len(said)) == ({1: newer}, 1)
    worker._let_go(1)
    with pytest.raises(Ended), worker._answering_for(trial):
        raise Ended
    worker._let_go(1)
    worker._failed = False


@pytest.mark.parametrize("block", [True, False])
def test_what_it_is_told_it_takes_in(resident: Resident, quiet, monkeypatch, block: bool) -> None:
    worker, _ = quiet
    (trial,) = begun(resident, 1)
    told = [
        GoOn(1, 4), GoOn(1, 2), GoOn(7, 9), resident.spec(0), resident.spec(2), StopTrial(2, 0), DrawAgain(None, 0),
        DrawAgain(1, 2),
    ]  # fmt: skip
    monkeypatch.setattr(worker._line, "heard", lambda *, block: iter(told))
    worker._hear(block=block)
    assert trial.decided == 4
    assert [spec.number for spec in worker._new] == [0]
    assert worker._again == [DrawAgain(None, 0), DrawAgain(1, 2)]
    checkpoint_path(trial.spec.folder / "checkpoints", 3).mkdir(parents=True)
    checkpoint_path(trial.spec.folder / "checkpoints", 2).mkdir(parents=True)
    told[:] = [StopTrial(1, 2)]
    worker._hear()
    assert worker._trials == {}
    assert [path.name for path in (trial.spec.folder / "checkpoints").iterdir()] == ["0002"]
    told[:] = [Quit()]
    with pytest.raises(Ended):
        worker._hear()
    worker._new, worker._again = [], []
