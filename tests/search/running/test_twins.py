"""Cross-fitted twins: who leaves out what, what they read, and what the verdict makes of it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from metrics.onset.onset import find_onset
from metrics.trajectory.readings import OWN_SCORE, Reading
from metrics.trajectory.trajectory import Trajectory
from search.exports.pick import pick
from search.record.clock import Clock
from search.record.events import DrawAgain, Failed, Lost
from search.record.record import StudyFolder, TrialRecord
from search.record.twin_curve import CHANNEL, plotted, with_twin_losses
from search.record.twins import Twins
from search.running.budget import why_finished
from search.running.drawing import Drawing
from search.running.finalists import draw_finalists
from search.running.progress import Board
from search.running.twins import what_they_say
from search.study.study import Study, load_study
from search.verdict.attributes import study_attributes
from search.verdict.finalists import finalist_rows
from search.verdict.sentences import headline
from search.verdict.verdict import Verdict, make_verdict
from tests.search.conftest import study_writer
from tests.search.finished_studies import make_study
from tests.search.recovery.real_studies import real_values, run_here
from tests.search.running.planted_twins import TURN, TwinWorkers, drawn_at, planted
from tests.search.running.test_finalists import AGAIN, SCORES
from trainer.checkpoint import LORA_FILE

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


@pytest.fixture
def finals(study: Study, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Verdict]:
    for number in folder.numbers():
        monkeypatch.setitem(SCORES, number, SCORES.get(number, 0.1))
        monkeypatch.setitem(AGAIN, number, AGAIN.get(number, 0.1))
    monkeypatch.setattr("search.running.twins.write_pictures", lambda folder, number: {})

    def draw(happens: Callable[[int, DrawAgain], Any] = lambda worker, look: None, *settings: str) -> Verdict:
        changed = load_study(study.file, list(settings)) if settings else study
        team = TwinWorkers(folder, 2, happens)
        draw_finalists(Drawing(changed, folder, team, Board("toy", 8, 2), Clock(folder), lambda: None))
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


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every LoRA is there."""
    monkeypatch.setattr("search.running.finalists.lora_damage", lambda path: None)


def test_another_epoch_that_ships_by_twins_is_drawn_and_told_everywhere(
    folder: StudyFolder, finals, kept, capsys: pytest.CaptureFixture[str]
) -> None:
    without = finals(lambda *_: None, "finalists.twins=0")
    epoch, trial = finals().epoch, without.trial  # as what is drawn changes no onset
    shutil.rmtree(folder.path / "finalists")
    asked: list[DrawAgain] = []
    verdict = finals(drawn_at(folder, {epoch: 0.604}, asked))
    found, told = verdict.decision, verdict.twins
    notes = capsys.readouterr().out.splitlines()
    assert f"trial {trial} is drawn again at epoch {epoch}, which ships by its twins" in notes
    assert told.before == without.decision.epoch != found.epoch == told.onset.best == epoch
    assert DrawAgain(trial, epoch) in asked
    assert asked[-1] == DrawAgain(trial, epoch, strengths=True)
    assert (found.trial, found.score, found.own_score) == (trial, 0.604, 0.25)
    one, before = verdict.finalists.of(trial), without.finalists.of(trial)
    assert (one.epoch, one.score, one.own, one.searched) == (epoch, 0.604, 0.25, told.score)
    assert (before.epoch, before.score) == (told.before, SCORES[trial])
    assert [each for each in verdict.finalists.drawn if each.trial != trial] != []
    cells = next(cells for wins, cells in finalist_rows(verdict) if wins)
    assert cells[:3] == (str(trial), str(epoch), "0.604")
    assert study_attributes(verdict)["fresh_scores"][str(trial)] == 0.604
    said = " ".join(verdict.said.sure)
    assert f"By what they read, epoch {epoch} ships instead of epoch {told.before}." in said
    assert f"Trial {trial} scores 0.604 there (" in said
    assert f"{SCORES[trial]:.3f}" not in " ".join(verdict.sentences)
    assert verdict.scored_afresh
    assert "(score 0.604 on fresh images)" in headline(verdict)
    verdict.save(folder.verdict_file)
    assert Verdict.load(folder.verdict_file).finalists == verdict.finalists


def test_others_that_are_better_than_the_winner_at_its_new_epoch_are_named(folder: StudyFolder, finals, kept) -> None:
    epoch = finals().epoch
    shutil.rmtree(folder.path / "finalists")
    verdict = finals(drawn_at(folder, {epoch: 0.4}, []))
    trial, others = verdict.trial, sorted(one.trial for one in verdict.finalists.drawn if one.score > 0.4)
    assert (verdict.score, trial in others, len(others) > 0) == (0.4, False, True)
    assert verdict.finalists.drawn[0].trial == trial
    assert not set(verdict.ties) & set(others)
    beside = {int(cells[0]): cells[-1] for _, cells in finalist_rows(verdict)}
    assert [beside[number] for number in (trial, *others)] == ["", *["surely better"] * len(others)]
    said = " ".join(verdict.said.sure)
    assert all(str(number) in said.partition("more on fresh images, but no twins say")[0][-40:] for number in others)


def test_where_the_new_epoch_cannot_be_drawn_the_score_says_where_it_is_from(folder: StudyFolder, finals) -> None:
    verdict = finals()
    told, one = verdict.twins, verdict.finalists.of(verdict.trial)
    assert (one.epoch, verdict.scored_afresh, verdict.score) == (told.before, False, told.score)
    said = " ".join(verdict.said.sure)
    assert f"what fresh images say is of epoch {told.before}." in said
    assert f"scores {one.score:.3f} at epoch {told.before} (" in said


def test_both_trainings_are_drawn_at_the_epoch_that_ships_by_twins(folder: StudyFolder, finals, kept) -> None:
    epoch = finals(lambda *_: None, "finalists.retrain=true").epoch
    shutil.rmtree(folder.path / "finalists")
    asked: list[DrawAgain] = []
    verdict = finals(drawn_at(folder, {epoch: 0.604}, asked), "finalists.retrain=true")
    assert verdict.epoch == epoch != verdict.twins.before
    assert DrawAgain(verdict.trial, epoch, retrained=True) in asked
    one = verdict.finalists.of(verdict.trial)
    assert (one.epoch, one.trainings) == (epoch, (0.604, pytest.approx(0.584)))
    assert verdict.score == one.score == pytest.approx(0.594)


def test_an_export_tells_twins_of_the_epoch_that_ships_by_them_alone(folder: StudyFolder, finals, kept) -> None:
    epoch = finals().epoch
    shutil.rmtree(folder.path / "finalists")
    verdict = finals(drawn_at(folder, {epoch: 0.604}, []))
    verdict.save(folder.verdict_file)
    before, trial = verdict.twins.before, verdict.trial
    own = pick(folder, None, None)
    assert (own.record.number, own.epoch) == (trial, epoch)
    assert f"read from 3 twins. Without them it would be epoch {before}." in own.about
    assert "it scores 0.604 (" in own.about
    (folder.checkpoint(trial, before) / LORA_FILE).parent.mkdir(parents=True, exist_ok=True)
    (folder.checkpoint(trial, before) / LORA_FILE).touch()
    other = pick(folder, trial, before).about
    assert "twins" not in other
    assert f"Epoch {before} of {own.record.epochs} is your own pick. The verdict ships epoch {epoch}." in other
    assert f"it scores {SCORES[trial]:.3f} (" in other
    for number in folder.numbers():
        if number != trial and TrialRecord.load(folder.trial(number)).state == "complete":
            assert "twins" not in pick(folder, number, None).about


def test_a_lost_worker_and_a_second_sitting_change_nothing(folder: StudyFolder, finals) -> None:
    expected = finals()
    shutil.rmtree(folder.path / "finalists")
    (folder.trial(expected.trial) / "twins.json").unlink()
    deaths = [2]

    def happens(worker: int, look: DrawAgain) -> Any:
        deaths[0] -= look.twins > 0
        return Lost("it was killed") if look.twins and deaths[0] >= 0 else None

    told: list[bool] = []
    assert (
        finals(happens)
        == expected
        == finals(lambda *_: told.append(Twins.load(folder.trial(expected.trial)) is not None))
    )
    assert told
    assert all(told), "what they said stays until they have said it anew"


def test_what_ships_by_twins_is_scored_as_the_search_read_it_there(study, folder: StudyFolder, finals) -> None:
    without = finals(lambda *_: None, "finalists.twins=0")
    record, trajectory = TrialRecord.load(folder.trial(without.trial), searched=True), folder.trajectory(without.trial)
    own = {each.epoch: Reading(0.01 * each.epoch, 0.0, 1.0) for each in trajectory.readings}
    rows = (replace(each, channels={**each.channels, OWN_SCORE: own[each.epoch]}) for each in trajectory.readings)
    replace(trajectory, readings=tuple(rows)).save(folder.trial(without.trial))
    told = what_they_say(study, folder, record, [planted(place) for place in range(3)])
    assert told.onset is not None
    best = told.onset.best
    score = next(each.score for each in trajectory.readings if each.epoch == best)
    assert (told.score, told.own_score) == (pytest.approx(score), pytest.approx(0.01 * best))
    assert (told.count, told.photos, told.beside, told.seconds) == (3, 9, 0, 12.0)
    for read, failed, broken in ((None, "what they read is damaged", True), ([], "one photo again and again", False)):
        lost = what_they_say(study, folder, record, read)
        assert (failed in lost.failed, lost.broken, lost.onset, lost.count) == (True, broken, None, 0)


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
    shown = [look for look in asked if look.strengths and not look.parts]
    assert shown == [DrawAgain(before.trial, before.epoch, strengths=True)]


def test_what_twins_of_a_former_winner_said_is_told_of_no_trial(
    study, folder: StudyFolder, finals, kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(AGAIN, 2, 0.75)  # its second training wins
    first = finals()
    former, searched = folder.trial(first.trial), list(folder.records(searched=True))
    (former / "onset.png").write_bytes(b"by twins")
    second = finals(lambda *_: None, "finalists.retrain=true")
    assert second.trial != first.trial
    assert not (former / "twins.json").exists()
    assert not (former / "onset.png").exists()
    assert [each for each in folder.records() if each.number != second.trial] == [
        each for each in searched if each.number != second.trial
    ]
    assert second.finalists.of(second.trial).epoch == second.epoch
    assert second.finalists.of(first.trial).epoch == first.twins.before
    assert finals() == first


def test_a_winner_that_ships_nothing_by_its_twins_stays_the_winner(study, folder: StudyFolder, finals) -> None:
    first = finals()
    trial = folder.trial(first.trial)
    poor = replace(Twins.load(trial), score=0.05, own_score=None)
    poor.save(trial)
    none = make_verdict(folder)
    told = f"By what they read, epoch {first.epoch} is to ship, which scores too little, instead of epoch"
    assert (none.decision.ships, told in " ".join(none.said.sure)) == (False, True)
    asked = []
    assert finals(lambda worker, look: asked.append(look)) == first
    assert sum(look.twins > 0 for look in asked) == 3


def test_a_twin_that_blows_up_costs_no_verdict_and_is_named(study, folder: StudyFolder, finals) -> None:
    training = folder.path / "finalists" / "{:04d}" / "twins-3" / "1"

    def happens(worker: int, look: DrawAgain) -> Any:
        if look.twins != 3 or look.twin != 1:
            return None
        Path(str(training).format(look.number)).mkdir(parents=True, exist_ok=True)
        return Failed(look.number, look.epoch, "the loss is NaN", again=False, twin=1)

    verdict = finals(happens)
    assert verdict.decision.ships
    assert (verdict.decision.twins, verdict.decision.memory.status) == (0, "unmeasured")
    said = " ".join(verdict.said.sure)
    assert "could not be read from twins: the loss is NaN. Another number of them (finalists.twins) tries it" in said
    assert Twins.load(folder.trial(verdict.trial)).onset is None
    assert not Path(str(training).format(verdict.trial)).exists()
    replace(verdict, files={}).save(folder.verdict_file)
    spent = f"budget.trials={verdict.cost.trials}"
    assert why_finished(load_study(study.file, [spent]), folder) is not None
    assert why_finished(load_study(study.file, [spent, "finalists.twins=4"]), folder) is None
    again = finals(happens, "finalists.twins=4")
    assert (again.decision.twins, again.twins.failed) == (4, "")


def test_twins_whose_losses_never_fall_do_not_take_back_what_the_trial_has_learned(
    study, folder: StudyFolder, finals, monkeypatch
) -> None:
    without = finals(lambda *_: None, "finalists.twins=0")
    record = TrialRecord.load(folder.trial(without.trial), searched=True)
    read = [planted(place) for place in range(3)]
    never_learned = replace(record.onset, status="never_learned")
    monkeypatch.setattr("search.running.twins.find_onset", lambda *_, **__: never_learned)
    never = what_they_say(study, folder, record, read)
    assert (never.asked, never.shipped) == (3, record.epoch_shipped)
    assert (never.onset, never.moved, never.count, never.photos) == (None, False, 3, 9)
    assert "hardly fall" in never.failed


# --- through the command line


@pytest.mark.slow
def test_a_real_study_that_is_asked_for_twins_trains_only_these_and_tells_them_everywhere(tmp_path: Path) -> None:
    """Run to its verdict; then again with twins of two halves, side by side. Its four held-out photos stand beside."""
    values = real_values()
    values["score"]["critic"]["steps"] = 0  # so short a training scores too little for a winner with one
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
