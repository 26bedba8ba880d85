"""Cross-fitted twins: who leaves out what, what they read, and what the verdict makes of it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from metrics.channels.bootstrap import reading_of_items
from metrics.onset.onset import find_onset
from metrics.trajectory.readings import Readings
from metrics.trajectory.trajectory import Trajectory
from search.errors import StudyError
from search.record.clock import Clock
from search.record.events import DrawAgain, DrawnAgain, Failed, Lost
from search.record.finalists import FreshLook
from search.record.record import StudyFolder, TrialRecord
from search.record.twin_curve import CHANNEL, last_epoch, plotted, with_twin_losses
from search.record.twins import TwinLosses, Twins
from search.run import why_finished
from search.running.finalists import draw_finalists
from search.running.progress import Board
from search.running.twins import what_they_say
from search.study.folds import folds
from search.study.study import Study, load_study
from search.verdict.verdict import Verdict, make_verdict
from tests.messages import refusal
from tests.search.any_config import CONFIG
from tests.search.conftest import StudyWriter, study_writer
from tests.search.finished_studies import make_study
from tests.search.recovery.real_studies import real_values, run_here
from tests.search.running.test_finalists import SCORES, Workers

TURN = 14.0
"""Epoch of a twin of three at which its losses turn; it stands for half as many more of the trial."""


def test_each_photo_is_left_out_once_and_never_without_its_copies() -> None:
    seen = np.eye(10)
    copies = np.zeros((10, 10), bool)
    copies[2, 7] = copies[7, 2] = copies[7, 9] = copies[9, 7] = True
    found = folds(3, seen, 0, copies)
    assert sorted(row for rows in found for row in rows) == list(range(10))
    assert [{2, 7, 9} <= set(rows) for rows in found].count(True) == 1
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert folds(3, seen, 0, copies) == found != folds(3, seen, 1, copies)
    assert folds(4, np.ones((3, 2)), 0) == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("settings", "got", "expected"),
    [
        ({"finalists": {"twins": 1}}, 1, "from 2 to 8"),
        ({"finalists": {"twins": 9}}, 9, "8"),
        ({"finalists": {"twins": 7}}, 7, "at most 6, so that each leaves one out"),
    ],
)
def test_twins_that_cannot_be_are_refused(
    write_study: StudyWriter, settings: dict[str, Any], got: int, expected: str
) -> None:
    with pytest.raises(StudyError, match=refusal("finalists.twins", got, expected)):
        load_study(write_study(**settings))


# --- the coordinator: planted losses


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load_study(study_writer(tmp_path_factory.mktemp("file"))(study="toy", finalists={"twins": 3}))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, study: Study) -> StudyFolder:
    """A study that held out no photos."""
    home = study.file.parent
    folder = make_study(tmp_path_factory.mktemp("searched"), home / "base", home / "photos")
    for record in list(folder.records()):
        if record.onset is None:
            continue
        readings = []
        for each in folder.trajectory(record.number).readings:
            channels = {name: reading for name, reading in each.channels.items() if name != CHANNEL}
            items = {name: values for name, values in each.items.items() if name != CHANNEL}
            readings.append(replace(each, channels=channels, items=items))
        trajectory = Trajectory(tuple(readings))
        trajectory.save(folder.trial(record.number))
        onset = find_onset(trajectory)
        assert onset.memory.status == "unmeasured"
        score = next(each.score for each in readings if each.epoch == onset.best)
        value = record.value if record.state == "pruned" else score
        record = replace(record, onset=onset, epoch_shipped=onset.best, score=score, value=value)
        record.save(folder.trial(record.number))
    return folder


@pytest.fixture
def folder(searched: StudyFolder, tmp_path: Path) -> StudyFolder:
    shutil.copytree(searched.path, tmp_path / "toy", ignore=shutil.ignore_patterns("samples"))
    return StudyFolder(tmp_path / "toy")


LAST = 28
"""Of these epochs as many passes over two thirds of the photos as 40 epochs are over all."""


def planted(place: int, last: int = LAST, turn: float = TURN) -> TwinLosses:
    """A third of nine photos, whose losses turn."""
    epochs = np.array([0, *range(2, last + 1, 2)])
    luck = np.random.default_rng(place)
    curve = -0.3 * epochs / (epochs + 3) + 0.15 * np.maximum(0.0, epochs / turn - 0.8) ** 1.5
    each = curve[:, None, None, None] * luck.uniform(0.9, 1.1, (1, 3, 8, 1))
    each = each + luck.normal(0, 0.002, each.shape) * (epochs > 0)[:, None, None, None]
    return TwinLosses("asked", np.arange(place, 9, 3), epochs, each, 4.0)


class TwinWorkers(Workers):
    """As the finals' workers; twins leave what is planted."""

    def receive(self, timeout: float) -> list[tuple[int, Any]]:
        slot, look = self.asked[-1]
        if not look.twins or self.happens(slot, look) is not None:
            return super().receive(timeout)
        self.asked.pop()
        planted(look.place).save(TwinLosses.file(self.folder.path / "finalists", look.number, look.twins, look.place))
        return [(slot, DrawnAgain(look.number, look.epoch, look.twin))]


@pytest.fixture
def finals(study: Study, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Verdict]:
    for number in folder.numbers():
        monkeypatch.setitem(SCORES, number, SCORES.get(number, 0.1))
    monkeypatch.setattr("search.running.twins.write_pictures", lambda folder, number: {})

    def draw(happens: Callable[[int, DrawAgain], Any] = lambda worker, look: None, *settings: str) -> Verdict:
        changed = load_study(study.file, list(settings)) if settings else study
        team = TwinWorkers(folder, 2, happens)
        draw_finalists(changed, folder, team, Board("toy", 8, 2), Clock(folder), lambda: None)
        return make_verdict(folder)

    return draw


def test_without_twins_nothing_is_trained_and_nothing_is_said(folder: StudyFolder, finals) -> None:
    asked = []
    verdict = finals(lambda worker, look: asked.append(look), "finalists.twins=0")
    assert not any(look.twins for look in asked)
    assert (verdict.twins, verdict.decision.twins, verdict.decision.memory.status) == (None, 0, "unmeasured")
    assert not any("twin" in sentence for sentence in verdict.sentences)


def test_what_twins_read_is_told_as_if_those_photos_had_been_held_out(study, folder: StudyFolder, finals) -> None:
    without = finals(lambda *_: None, "finalists.twins=0")
    before = TrialRecord.load(folder.trial(without.trial))
    asked = []
    verdict = finals(lambda worker, look: asked.append((worker, look)))
    twins = [(look.place, worker) for worker, look in asked if look.twins]
    assert sorted(twins) == [(0, 0), (1, 0), (2, 1)]
    trained = {look.epoch for _, look in asked if look.twins}
    assert trained == {40} == {before.epochs_trained}
    found = verdict.decision
    assert (verdict.trial, found.twins) == (without.trial, 3)
    read = [planted(place) for place in range(3)]
    expected = find_onset(with_twin_losses(folder.trajectory(found.trial), read), ship=study.score.ship)
    assert (found.memory.status, found.memory.epoch, found.memory.low, found.memory.high) == (
        "found", expected.memory.epoch, expected.memory.low, expected.memory.high,
    )  # fmt: skip
    assert abs(np.log2(found.memory.epoch / (1.5 * TURN))) < 0.6
    assert found.epoch == expected.best
    assert "Read from 3 twins: trainings with the same settings, each without another third of the photos." in " ".join(
        verdict.sentences
    )
    assert any(
        "3 twins read 9 photos, each by the twin that was trained without it" in said for said in verdict.said.sure
    )
    assert TrialRecord.load(folder.trial(found.trial), searched=True) == before
    after = TrialRecord.load(folder.trial(found.trial))
    assert (after.onset, after.epoch_shipped, after.value) == (expected, expected.best, before.value)
    assert "heldout_loss" in plotted(folder, after).channels
    assert [each for each in folder.records() if each.number != found.trial] == [
        each for each in folder.records(searched=True) if each.number != found.trial
    ]
    verdict.save(folder.verdict_file)
    assert Verdict.load(folder.verdict_file).twins == verdict.twins


def test_another_epoch_that_ships_by_twins_is_drawn_and_shown_there(folder: StudyFolder, finals, monkeypatch) -> None:
    monkeypatch.setattr("search.running.twins.lora_damage", lambda path: None)
    without = finals(lambda *_: None, "finalists.twins=0")
    asked = []
    verdict = finals(lambda worker, look: asked.append(look))
    found, told = verdict.decision, verdict.twins
    assert told.before == without.decision.epoch != found.epoch == told.onset.best
    assert DrawAgain(found.trial, found.epoch) in asked
    assert asked[-1] == DrawAgain(found.trial, found.epoch, strengths=True)
    assert (
        found.score == told.fresh[0] == FreshLook.load(FreshLook.file(folder, found.trial, found.epoch)).readings.score
    )
    said = " ".join(verdict.said.sure)
    assert f"By what they read, epoch {found.epoch} ships instead of epoch {told.before}; drawn there" in said
    one = verdict.finalists.of(found.trial)
    assert f"Trial {one.trial} scores {one.score:.3f} at epoch {told.before} (" in said
    assert f"scores {one.score:.3f} there (" in " ".join(without.said.sure)
    assert verdict.scored_afresh
    own = replace(told, fresh_own=0.25)
    own.save(folder.trial(found.trial))
    assert make_verdict(folder).decision.own_score == 0.25


def test_a_lost_worker_and_a_second_sitting_change_nothing(folder: StudyFolder, finals) -> None:
    expected = finals()
    shutil.rmtree(folder.path / "finalists")
    (folder.trial(expected.trial) / "twins.json").unlink()
    deaths = [2]

    def happens(worker: int, look: DrawAgain) -> Any:
        deaths[0] -= look.twins > 0
        return Lost("it was killed") if look.twins and deaths[0] >= 0 else None

    assert finals(happens) == expected == finals()


def test_twins_that_are_not_asked_for_any_more_are_forgotten(study, folder: StudyFolder, finals) -> None:
    before = finals(lambda *_: None, "finalists.twins=0")
    verdict = replace(finals(), files={}, finalists=None)  # as where there is one trial
    verdict.save(folder.verdict_file)
    trial, spent = folder.trial(verdict.trial), f"budget.trials={verdict.cost.trials}"
    (trial / "onset.png").write_bytes(b"by twins")
    assert why_finished(load_study(study.file, [spent]), folder) is not None
    assert why_finished(load_study(study.file, [spent, "finalists.twins=0"]), folder) is None
    asked = []
    assert finals(lambda worker, look: asked.append(look), "finalists.twins=0") == before
    assert (before.twins, (trial / "onset.png").exists()) == (None, False)
    shown = [look for look in asked if look.strengths]
    assert shown == [DrawAgain(before.trial, before.epoch, strengths=True)]


def test_a_twin_that_blows_up_costs_no_verdict_and_is_named(study, folder: StudyFolder, finals) -> None:
    def happens(worker: int, look: DrawAgain) -> Any:
        blown = look.twin == 1
        return Failed(look.number, look.epoch, "the loss is NaN", again=False, twin=1) if blown else None

    verdict = finals(happens)
    assert verdict.decision.ships
    assert (verdict.decision.twins, verdict.decision.memory.status) == (0, "unmeasured")
    assert "Where memorising begins could not be read from twins: the loss is NaN." in verdict.said.sure
    assert Twins.load(folder.trial(verdict.trial)).onset is None


def test_twins_whose_losses_never_fall_do_not_take_back_what_the_trial_has_learned(
    study, folder: StudyFolder, finals, monkeypatch
) -> None:
    without = finals(lambda *_: None, "finalists.twins=0")
    record = TrialRecord.load(folder.trial(without.trial), searched=True)
    read = [planted(place) for place in range(3)]
    never_learned = replace(record.onset, status="never_learned")
    monkeypatch.setattr("search.running.twins.find_onset", lambda *_, **__: never_learned)
    never = what_they_say(study, folder, record, read)
    assert (never.onset, never.moved, never.count, never.photos) == (None, False, 3, 9)
    assert "hardly fall" in never.failed


def test_losses_of_twins_stand_beside_those_of_held_out_photos() -> None:
    read = [planted(place, 8) for place in range(3)]
    held = np.full((2, 8, 1), 0.5)
    readings = [Readings(epoch, 0.0, {CHANNEL: reading_of_items(held)}, {CHANNEL: held}) for epoch in range(0, 9, 2)]
    joined = with_twin_losses(Trajectory(tuple(readings)), read, 0.0).cube(CHANNEL)
    assert joined.shape == (5, 11, 8, 1)
    assert (joined[:, :2] == 0.5).all()
    for place, each in enumerate(read):
        assert np.array_equal(joined[:, 2 + place :: 3], each.ratios)
    later = with_twin_losses(Trajectory(tuple(readings)), read, 1.0).cube(CHANNEL)  # epoch 6 is their epoch 4
    assert later[3, 2:] == pytest.approx(joined[2, 2:])


def test_an_epoch_of_a_twin_is_worth_what_its_own_number_of_photos_says() -> None:
    def flat(rows: list[int], last: int) -> TwinLosses:
        """Losses that say their epoch."""
        epochs = np.arange(0, last + 1)
        said = epochs[:, None, None, None] * np.ones((1, len(rows), 1, 1))
        return TwinLosses("asked", np.array(rows), epochs, said, 1.0)

    readings = tuple(Readings(epoch, 0.0, {}) for epoch in (0, 6, 12))
    few, many = flat([1, 4], 9), flat([0, 2, 3, 5], 5)  # of six photos: 2/3 of the passes, and 1/3
    joined = with_twin_losses(Trajectory(readings), [many, few])
    assert joined.cube(CHANNEL)[1, :, 0, 0] == pytest.approx([2, 4, 2, 2, 4, 2])
    assert joined.cube(CHANNEL)[2, :, 0, 0] == pytest.approx([4, 8, 4, 4, 8, 4])
    assert [last_epoch(CONFIG, 12, 6, left_out) for left_out in (2, 4)] == [8, 4]


# --- through the command line


@pytest.mark.slow
def test_a_real_study_that_is_asked_for_twins_trains_only_these_and_tells_them_everywhere(tmp_path: Path) -> None:
    """Run to its verdict; then again with twins of two halves, side by side. Its four held-out photos stand beside."""
    values = real_values()
    values["workers"] = {"count": 1, "threads": 1, "pack": 3}
    file = tmp_path / "mini.yaml"

    def run(**finalists: Any) -> Verdict:
        file.write_text(yaml.safe_dump({**values, "finalists": {"trials": 2, "strengths": [], **finalists}}))
        code, said = run_here(file, tmp_path / "runs")
        assert code == 0, said
        verdict = Verdict.load(folder.verdict_file)
        assert ("twins" in said) == bool(finalists)
        assert ("Read from" in " ".join(said.split())) == (verdict.decision.twins > 0)
        return verdict

    folder = StudyFolder(tmp_path / "runs" / "mini")
    before = run()
    assert before.decision.ships
    records = [record for record in folder.records() if record.number != before.trial]
    verdict = run(twins=2)
    assert (verdict.trial, verdict.decision.ships) == (before.trial, True)
    assert verdict.twins is not None
    assert (verdict.twins.onset is None) == bool(verdict.twins.failed) == (verdict.decision.twins == 0)
    assert (verdict.twins.photos, verdict.twins.beside) == (len(folder.probe().trained), 4)
    assert verdict.decision.memory.channels == ("heldout_loss",)
    assert [record for record in folder.records() if record.number != before.trial] == records
    told = "could not be read from twins" if verdict.twins.failed else "Read from 2 twins"
    assert told in folder.report.read_text()
    assert (folder.path / verdict.files["onset plot"]).is_file()
    assert why_finished(load_study(file), folder) is not None
