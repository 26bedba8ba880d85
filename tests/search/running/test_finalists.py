"""The finals: whoever draws, dies or is killed meanwhile, finalists read the same, and the verdict is theirs."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from metrics.trajectory.readings import Readings
from search.errors import WorkerError
from search.record.clock import Clock
from search.record.events import DrawAgain, DrawnAgain, Failed, Lost
from search.record.finalists import FINALISTS_FILE, Finalists, FreshLook
from search.record.record import StudyFolder, TrialRecord
from search.record.twins import Twins
from search.running.budget import why_finished
from search.running.drawing import Drawing
from search.running.finalists import draw_finalists
from search.running.progress import Board
from search.running.workers import Team
from search.study.study import Study, load_study
from search.verdict.finalists import finalist_columns, finalist_rows
from search.verdict.ranking import best_trials
from search.verdict.verdict import make_verdict
from tests.search.conftest import study_writer
from tests.search.one_process import draw_again

SCORES = {2: 0.55, 3: 0.61, 5: 0.60, 0: 0.2}
"""On fresh images: the search put trial 2 first by far."""
AGAIN = {2: 0.53, 3: 0.51, 5: 0.58, 0: 0.21}
"""Of second trainings."""


class Workers(Team):
    """Draw what they are asked for, one look a turn; `happens` may answer for a look instead."""

    def __init__(
        self, folder: StudyFolder, count: int = 2, happens: Callable[[int, DrawAgain], Any] = lambda worker, look: None
    ) -> None:
        self.count, self.folder, self.happens = count, folder, happens
        self.asked: list[tuple[int, DrawAgain]] = []
        self.drawn: list[int | None] = []

    def send(self, slot: int, message: Any) -> None:
        self.asked.append((slot, message))

    def receive(self, timeout: float) -> list[tuple[int, Any]]:
        slot, look = self.asked.pop()  # the last one is done first
        answer = self.happens(slot, look)
        if answer is not None:
            return [(slot, answer)]
        if look.number is None:
            draw_again(self.folder, look)
        elif look.retrained:
            score, file = AGAIN[look.number], FreshLook.file(self.folder, look.number, look.epoch, retrained=True)
            draws = score + np.random.default_rng(look.number).normal(0, 0.01, 1000)
            FreshLook("asked", Readings(look.epoch, 0.0, {}, {}, score), draws, 8, 4, 0, 2.0).save(file)
        elif FreshLook.load(file := FreshLook.file(self.folder, look.number, look.epoch)) is None:
            draws = SCORES[look.number] + np.random.default_rng(look.number).normal(0, 0.01, 1000)
            FreshLook("asked", Readings(look.epoch, 0.0, {}, {}, SCORES[look.number]), draws, 8, 4, 0, 2.0).save(file)
            self.drawn.append(look.number)
        return [(slot, DrawnAgain(look.number, look.epoch))]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load_study(study_writer(tmp_path_factory.mktemp("file"))(study="toy"))


@pytest.fixture
def folder(finished_study: StudyFolder, tmp_path: Path) -> StudyFolder:
    shutil.copytree(
        finished_study.path, tmp_path / "toy", ignore=shutil.ignore_patterns("samples", "*.png", "artifacts")
    )
    return StudyFolder(tmp_path / "toy")


@pytest.fixture
def finals(study: Study, folder: StudyFolder) -> Callable[..., Finalists | None]:
    def draw(
        team: Team,
        check_place: Callable[[], None] = lambda: None,
        begun: Mapping[int, DrawAgain] | None = None,
        **settings: Any,
    ) -> Finalists | None:
        asked = study.finalists.model_copy(update=settings)
        changed = load_study(study.file, [f"finalists.trials={asked.trials}", f"finalists.retrain={asked.retrain}"])
        return draw_finalists(Drawing(changed, folder, team, Board("toy", 8, 2), Clock(folder), check_place, begun))

    return draw


def test_the_best_are_drawn_again_and_the_fresh_images_decide(folder: StudyFolder, finals) -> None:
    before = make_verdict(folder)
    assert (before.trial, before.finalists) == (2, None)
    found = finals(Workers(folder))
    assert [one.trial for one in found.drawn] == [3, 5, 2, 0] == sorted(SCORES, key=lambda number: -SCORES[number])
    assert found.base == 0.05, "what all of them are held against"
    verdict = make_verdict(folder)
    assert verdict.finalists == found
    assert (verdict.trial, verdict.score) == (3, SCORES[3])
    assert verdict.ties == (5,)
    assert [one.as_good for one in found.drawn] == [True, True, False, False]
    assert 0.5 < found.drawn[0].best < 0.9
    assert sum(one.best for one in found.drawn) == pytest.approx(1)
    assert found.drawn[2].searched == next(r.score for r in folder.records() if r.number == 2)
    low, high = np.quantile(SCORES[3] + np.random.default_rng(3).normal(0, 0.01, 1000), [0.05, 0.95])
    assert (found.drawn[0].low, found.drawn[0].high) == pytest.approx((low, high))


def learns(folder: StudyFolder, number: int, heldout_loss: float | None) -> None:
    """A trial's loss of held-out photos becomes this at the epoch that it ships."""
    file = folder.trial(number) / "trajectory.csv"
    table, shipped = pd.read_csv(file), TrialRecord.load(folder.trial(number)).epoch_shipped
    table.loc[table["epoch"] == shipped, "heldout_loss"] = heldout_loss
    table.to_csv(file, index=False)


def test_one_that_learned_less_than_half_of_another_does_not_win(folder: StudyFolder, finals) -> None:
    for number, loss in ((3, -0.19), (5, None), (2, -0.4), (0, 0.1)):
        learns(folder, number, loss)
    found = finals(Workers(folder))
    assert [(one.trial, one.learned) for one in found.drawn] == [(5, None), (2, 0.4), (3, 0.19), (0, -0.1)]
    assert found.learned_little == {0, 3}
    assert [one.best for one in found.drawn[2:]] == [0, 0]
    assert found.drawn[0].best > 0.9, "the one that scores more by far is not counted"
    assert found.of(3).behind < 0.5 < found.of(2).behind, "of resamples in which each scores less than the winner"
    verdict = make_verdict(folder)
    assert (verdict.trial, verdict.score, verdict.ties) == (5, SCORES[5], ())
    said = [sentence for sentence in verdict.said.sure if "too little" in sentence]
    assert said == [
        "Trial 3 scores more there (0.610), but learned too little to win: its loss on held-out photos fell by 17 %, "
        "that of trial 2 fell by 33 %."
    ]
    assert {row[1][0]: row[1][-1] for row in finalist_rows(verdict)} == {
        "5": "", "2": "surely worse", "3": "learned too little", "0": "learned too little",
    }  # fmt: skip
    learns(folder, 3, -0.2)
    assert finals(Workers(folder)).drawn[0].trial == 3, "half is enough"


def test_who_draws_and_who_dies_changes_nothing(folder: StudyFolder, finals) -> None:
    expected = finals(Workers(folder))
    shutil.rmtree(folder.path / "finalists")
    (folder.path / FINALISTS_FILE).unlink()
    deaths = {None: 1, 3: 2, 5: 1}

    def happens(worker: int, look: DrawAgain) -> Any:
        deaths[look.number] = left = deaths.get(look.number, 0) - 1
        if left == -1 and look.number == 0:
            return Failed(0, look.epoch, "the disk hiccuped", again=True)
        return Lost("it was killed") if left >= 0 else None

    assert finals(Workers(folder, 1, happens)) == expected


@pytest.mark.parametrize("answer", ["drawn", "failed", "lost"])
@pytest.mark.parametrize("number", [3, 7])  # in the finals and not
def test_what_a_worker_had_begun_changes_nothing(
    folder: StudyFolder, finals, monkeypatch: pytest.MonkeyPatch, number: int, answer: str
) -> None:
    monkeypatch.setitem(SCORES, 7, 0.9)
    expected = finals(Workers(folder))
    shutil.rmtree(folder.path / "finalists")
    (folder.path / FINALISTS_FILE).unlink()
    begun = DrawAgain(number, next(each.epoch_shipped for each in folder.records() if each.number == number))
    answers = {"failed": Failed(number, begun.epoch, "the disk hiccuped", again=True), "lost": Lost("it was killed")}

    def happens(worker: int, look: DrawAgain) -> Any:
        return answers.pop(answer, None) if look == begun else None

    team = Workers(folder, 2, happens)
    team.asked.append((0, begun))
    assert finals(team, begun={0: begun}) == expected
    assert team.drawn.count(3) == 1


def test_killed_on_the_way_nothing_is_drawn_twice(folder: StudyFolder, finals) -> None:
    class Killed(Exception):
        pass

    first, left = Workers(folder), [4]

    def check_place() -> None:
        left[0] -= 1
        if not left[0]:
            raise Killed

    with pytest.raises(Killed):
        finals(first, check_place)
    assert not (folder.path / FINALISTS_FILE).exists()
    assert make_verdict(folder).finalists is None
    second = Workers(folder)
    found = finals(second)
    assert sorted([*first.drawn, *second.drawn]) == sorted(SCORES)
    assert len(first.drawn) > 1 < len(second.drawn)
    assert make_verdict(folder).finalists == found


def test_one_that_cannot_be_drawn_is_left_out_and_named(folder: StudyFolder, finals) -> None:
    def happens(worker: int, look: DrawAgain) -> Any:
        return Failed(3, look.epoch, "lora.safetensors: no such file", again=False) if look.number == 3 else None

    found = finals(Workers(folder, 2, happens))
    assert [one.trial for one in found.drawn] == [5, 2, 0]
    assert found.left_out == {3: "lora.safetensors: no such file"}
    verdict = make_verdict(folder)
    assert verdict.trial == 5
    assert any("Trial 3 was not drawn again: lora.safetensors: no such file" in said for said in verdict.said.sure)


@pytest.mark.parametrize(
    "answer",
    [Failed(2, 0, "the disk is full", again=True, machine=True), Lost("it ended with exit code 1", replaced=False)],
)
def test_a_machine_that_cannot_work_ends_the_study_and_not_the_trial(folder: StudyFolder, finals, answer) -> None:
    def happens(worker: int, look: DrawAgain) -> Any:
        if isinstance(answer, Failed) and look.number != 2:
            return None
        return Failed(2, look.epoch, answer.error, again=True, machine=True) if isinstance(answer, Failed) else answer

    with pytest.raises(WorkerError, match=r"disk is full|no worker could start"):
        finals(Workers(folder, 2, happens))
    assert not (folder.path / FINALISTS_FILE).exists()


@pytest.mark.parametrize("turn", range(1, 9))
def test_before_anything_is_written_the_study_is_still_to_be_ours(folder: StudyFolder, finals, turn: int) -> None:
    class Gone(Exception):
        pass

    left = [turn]

    def check_place() -> None:
        left[0] -= 1
        if not left[0]:
            raise Gone

    old = Twins(3, 32, 18)
    old.save(folder.trial(2))
    with pytest.raises(Gone):
        finals(Workers(folder), check_place)
    assert not (folder.path / FINALISTS_FILE).exists()
    assert (Twins.load(folder.trial(2)) == old) == (turn == 1)


def test_without_the_base_nothing_is_compared(folder: StudyFolder, finals) -> None:
    broken = Workers(folder, 2, lambda worker, look: None if look.number else Failed(None, 0, "no memory", again=True))
    with pytest.raises(WorkerError, match="no memory"):
        finals(broken)
    assert broken.drawn == []


def test_finalists_of_a_study_that_went_on_are_not_believed(folder: StudyFolder, finals) -> None:
    finals(Workers(folder), trials=2)
    assert make_verdict(folder).finalists is not None
    assert best_trials(folder.records(), 2) == [2, 3]
    kept = (folder.path / FINALISTS_FILE).read_text()
    (folder.path / FINALISTS_FILE).write_text(kept.replace('"trial": 3', '"trial": 0'))
    assert make_verdict(folder).finalists is None
    assert make_verdict(folder).trial == 2
    (folder.path / FINALISTS_FILE).write_text(kept[:-20])
    assert make_verdict(folder).finalists is None


def test_none_are_drawn_where_none_are_asked_for_or_one_configuration_is_all_there_is(
    folder: StudyFolder, finals, tmp_path: Path
) -> None:
    assert finals(Workers(folder), trials=0) is None
    (tmp_path / "one").mkdir()
    alone = load_study(study_writer(tmp_path / "one")(search={"rank": {"value": 4}}, budget={"trials": 1}))
    assert alone.num_finalists == 0


def test_a_finished_study_goes_on_when_its_finalists_are_to_be_drawn_otherwise(
    folder: StudyFolder, finals, study: Study
) -> None:
    finals(Workers(folder))
    make_verdict(folder).save(folder.verdict_file)
    assert why_finished(load_study(study.file, ["budget.trials=8"]), folder) is not None
    for change in ("finalists.trials=2", "finalists.seeds=9", "finalists.retrain=true"):
        assert why_finished(load_study(study.file, ["budget.trials=8", change]), folder) is None


def test_both_trainings_count_and_their_difference_is_luck(folder: StudyFolder, finals) -> None:
    once = {one.trial: one for one in finals(Workers(folder)).drawn}
    found = finals(Workers(folder), retrain=True)
    assert [one.trial for one in found.drawn] == [5, 3, 2, 0]
    assert found.of(5).trainings == (SCORES[5], AGAIN[5])
    for one in found.drawn:
        assert one.score == pytest.approx((SCORES[one.trial] + AGAIN[one.trial]) / 2)
        assert one.high - one.low > 1.5 * (once[one.trial].high - once[one.trial].low)
    assert (found.of(5).as_good, found.of(3).as_good, found.of(0).as_good) == (True, True, False)
    verdict = make_verdict(folder)
    assert (verdict.trial, verdict.score) == (5, found.of(5).score)
    said = " ".join(verdict.said.sure)
    assert "also trained a second time, under another seed" in said
    assert "Trial 5 has 0.600 and 0.580." in said
    assert any("and training them a second time took 18 s more" in cost for cost in verdict.said.took)
    assert "of each training" in finalist_columns(verdict)
    assert finalist_rows(verdict)[0][1][3] == "0.600 and 0.580"


def test_second_trainings_are_shared_out_at_once_and_one_that_fails_is_named(folder: StudyFolder, finals) -> None:
    asked: list[tuple[int, DrawAgain]] = []

    def happens(worker: int, look: DrawAgain) -> Any:
        asked.append((worker, look))
        blown = look.retrained and look.number == 3
        return Failed(3, look.epoch, "the loss is NaN or infinite", again=False) if blown else None

    found = finals(Workers(folder, 2, happens), retrain=True)
    again = sorted((look.place, worker, look.number) for worker, look in asked if look.retrained)
    assert [(place, worker) for place, worker, _ in again] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert found.not_retrained == {3: "the loss is NaN or infinite"}
    assert (found.of(3).score, found.of(3).trainings) == (SCORES[3], ())
    assert Finalists.load(folder) == found
    verdict = make_verdict(folder)
    assert verdict.trial == 3
    assert any("Trial 3 was not trained a second time: the loss is NaN" in said for said in verdict.said.sure)


def test_a_worker_that_dies_with_second_trainings_changes_nothing(folder: StudyFolder, finals) -> None:
    expected = finals(Workers(folder), retrain=True)
    shutil.rmtree(folder.path / "finalists")
    (folder.path / FINALISTS_FILE).unlink()
    deaths = [2]

    def happens(worker: int, look: DrawAgain) -> Any:
        deaths[0] -= look.retrained
        return Lost("it was killed") if look.retrained and deaths[0] >= 0 else None

    assert finals(Workers(folder, 2, happens), retrain=True) == expected


def test_the_best_is_shown_at_other_strengths_when_all_are_compared(folder: StudyFolder, finals) -> None:
    asked = []
    finals(Workers(folder, 1, lambda worker, look: asked.append(look)), lambda: asked.append("ours"))
    assert asked[-2:] == ["ours", "ours"], "before what was found is written"
    asked = [look for look in asked if look != "ours"]
    epoch = next(record.epoch_shipped for record in folder.records() if record.number == 3)
    assert asked[-1] == DrawAgain(3, epoch, strengths=True)
    assert [look.strengths for look in asked] == [False] * 5 + [True]


def test_several_workers_share_the_columns_of_what_ships_at_other_strengths(folder: StudyFolder, finals) -> None:
    asked = []
    finals(Workers(folder, 2, lambda worker, look: asked.append(look)))
    *columns, picture = [look for look in asked if look.strengths]
    assert sorted((look.place, look.parts) for look in columns) == [(0, 2), (1, 2)]
    assert asked[-1] == picture == DrawAgain(columns[0].number, columns[0].epoch, strengths=True)


@pytest.mark.parametrize(("workers", "parts"), [(1, 0), (8, 8), (9, 9), (12, 9)])
def test_no_more_workers_draw_columns_than_there_are(folder: StudyFolder, finals, workers: int, parts: int) -> None:
    """Three strengths at the epoch to ship and those beside it: nine columns."""
    asked = []
    finals(Workers(folder, workers, lambda worker, look: asked.append(look)))
    assert [look.parts for look in asked if look.strengths and look.parts] == [parts] * parts


def test_a_column_that_cannot_be_drawn_is_told_with_the_picture(folder: StudyFolder, finals, capsys) -> None:
    def happens(worker: int, look: DrawAgain) -> Any:
        return Failed(look.number, look.epoch, "other: no such base", again=False) if look.strengths else None

    finals(Workers(folder, 2, happens))
    assert capsys.readouterr().out.count("other: no such base") == 1


def test_strengths_that_cannot_be_drawn_cost_no_verdict(folder: StudyFolder, finals, capsys) -> None:
    def happens(worker: int, look: DrawAgain) -> Any:
        return Failed(look.number, look.epoch, "other: no such base", again=False) if look.strengths else None

    found = finals(Workers(folder, 2, happens))
    assert (len(found.drawn), found.left_out) == (4, {})
    assert "trial 3 is not shown at other strengths: other: no such base" in " ".join(capsys.readouterr().out.split())
    assert make_verdict(folder).trial == 3


def test_without_strengths_nothing_more_is_drawn(study: Study, folder: StudyFolder) -> None:
    asked = []
    changed = load_study(study.file, ["finalists.strengths=[]"])
    team = Workers(folder, 1, lambda worker, look: asked.append(look))
    draw_finalists(Drawing(changed, folder, team, Board("toy", 8, 2), Clock(folder), lambda: None))
    assert not any(look.strengths for look in asked)
