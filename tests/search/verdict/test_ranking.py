"""What is kept of a trial depends on how it stands; what may still be shipped is never deleted."""

from dataclasses import replace
from pathlib import Path

import pytest

from metrics.onset.turns import Onset, Turn
from search.record.record import StudyFolder, TrialRecord
from search.record.twins import Twins
from search.study.settings import KeepSection
from search.study.space import Entry, Space
from search.study.space_values import size
from search.verdict.decision import Decision
from search.verdict.disk_cleanup import Tidier, tidy_study, tidy_trial
from search.verdict.ranking import best_trials, contenders, kept_epochs, kept_in_detail
from search.verdict.verdict import Verdict
from tests.search.any_config import CONFIG

EPOCHS = list(range(2, 42, 2))


def trial(number: int, value: float, *, state: str = "complete", shipped: int = 20, turn: float | None = None):
    onset = None if turn is None else Onset("found", Turn("found", turn), Turn("beyond"), learned=2, best=shipped)
    return TrialRecord(
        number, state, config=CONFIG, params={}, epochs=40, epochs_trained=40, epoch_shipped=shipped, onset=onset,
        score=value, value=value,
    )  # fmt: skip


def test_the_best_three_and_all_within_the_noise_of_the_best_may_still_win() -> None:
    records = [trial(0, 0.5), trial(1, 0.8), trial(2, 0.79), trial(3, 0.785), trial(4, 0.7), trial(5, 0.781)]
    assert contenders(records) == {1, 2, 3, 5}
    assert contenders(records[:2]) == {0, 1}


def test_a_whole_trial_is_told_its_value_and_a_pruned_one_has_only_its_score() -> None:
    whole = [replace(trial(n, n / 10), score=0.9 - n / 10) for n in range(6)]
    assert contenders(whole, 1) == {5}
    assert kept_in_detail(whole, [], 2) == [5, 4]
    pruned = [replace(trial(n, 0.5, state="pruned"), score=n / 10, value=None) for n in range(6)]
    assert contenders(pruned, 1) == {5}
    nothing = [replace(whole[5], value=value) for value in (None, float("nan"), float("inf"))]
    assert contenders([*nothing, whole[1]], 1) == {1}


def test_finalists_are_the_highest_scores_of_those_that_ship_the_earlier_first_in_a_tie() -> None:
    records = [
        trial(0, 0.5),
        trial(1, 0.9, state="pruned"),
        trial(2, 0.7),
        trial(3, 0.7),
        trial(4, 0.05),
        trial(5, 0.6),
    ]
    ship = [replace(r, onset=Onset("beyond", Turn("beyond"), Turn("beyond"), learned=2, best=20)) for r in records]
    assert best_trials(ship, 3) == [2, 3, 5]
    assert best_trials(ship, 9) == [2, 3, 5, 0]
    assert best_trials(records, 9) == []


def test_an_objective_of_nought_is_a_score_like_others() -> None:
    onset = Onset("beyond", Turn("beyond"), Turn("beyond"), learned=2, best=20)
    scored = [replace(trial(n, v), onset=onset, objective="f", own_score=0.5) for n, v in enumerate((-0.2, 0.0, -0.1))]
    assert best_trials(scored, 2) == [1, 2]


def test_what_ships_by_twins_and_is_gone_takes_no_other_checkpoint_with_it() -> None:
    left = [16, 18, 20, 22, 24, 26, 28]
    later = Onset("found", Turn("unmeasured"), Turn("found", 38.0), learned=2, best=36)
    record = trial(0, 0.8, turn=24).with_twins(Twins(3, 40, 20, count=3, onset=later))
    assert record.epoch_shipped == 36
    for keep in ("best", "none"):
        assert 20 in kept_epochs(record, left, KeepSection(checkpoints=keep), in_detail=True)
    assert kept_epochs(record, left, KeepSection(), in_detail=False) == {20}
    assert kept_epochs(record, [*left, 36], KeepSection(), in_detail=False) == {20, 36}


def test_a_trial_is_tidied_when_it_ends_and_again_when_others_push_it_out(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    tidier = Tidier(folder, KeepSection(), 3, whole=False)
    kept = {}
    for number, value in enumerate((0.5, 0.6, 0.7, 0.8, 0.9)):
        for epoch in EPOCHS:
            (folder.trial(number) / "checkpoints" / f"{epoch:04d}").mkdir(parents=True)
        (folder.trial(number) / "readings").mkdir()
        tidier.ended(trial(number, value, turn=20))
        kept = {n: len(list((folder.trial(n) / "checkpoints").iterdir())) for n in range(number + 1)}
        assert not (folder.trial(number) / "readings").exists()
    assert kept[0] == kept[1] == 1
    assert kept[2] == kept[3] == kept[4] > 1


def test_who_is_out_stays_out_however_the_study_goes_on() -> None:
    records = [trial(n, v) for n, v in enumerate((0.3, 0.8, 0.79, 0.1, 0.805, 0.795, 0.9, 0.7, 0.89))]
    out: set[int] = set()
    for upto in range(1, len(records) + 1):
        assert not out & contenders(records[:upto])
        out |= {r.number for r in records[:upto]} - contenders(records[:upto])
    assert len(out) >= 4


def test_a_pruned_trial_counts_only_while_none_is_complete() -> None:
    pruned = [trial(0, 0.9, state="pruned"), trial(1, 0.8, state="pruned")]
    assert contenders(pruned) == {0, 1}
    assert contenders([*pruned, trial(2, 0.3)]) == {2}


def test_the_verdicts_order_goes_before_the_score() -> None:
    records = [trial(0, 0.8), trial(1, 0.79), trial(2, 0.6), trial(3, 0.5)]
    assert kept_in_detail(records, [1, 0]) == [1, 0, 2]


@pytest.mark.parametrize(
    ("checkpoints", "in_detail", "state", "expected"),
    [
        (
            "best",
            True,
            "complete",
            {16, 18, 20, 22, 24, 26, 28},
        ),  # from 20 to the turn at 24.6, and two beside
        ("best", False, "complete", {20}),
        ("best", False, "pruned", set()),
        ("best", True, "pruned", {16, 18, 20, 22, 24, 26, 28}),
        ("none", True, "complete", {20}),
        ("none", False, "complete", set()),
        ("all", False, "pruned", set(EPOCHS)),
    ],
)
def test_what_is_kept(checkpoints: str, in_detail: bool, state: str, expected: set[int]) -> None:
    record = trial(0, 0.8, state=state, turn=24.6)
    assert kept_epochs(record, EPOCHS, KeepSection(checkpoints=checkpoints), in_detail=in_detail) == expected


def test_at_the_end_only_the_best_few_keep_their_checkpoints_and_what_that_weighs_is_said(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    for number, value in enumerate((0.8, 0.79, 0.7, 0.4)):
        trial(number, value, turn=24).save(folder.trial(number))
        for epoch in EPOCHS:
            checkpoint = folder.checkpoint(number, epoch)
            checkpoint.mkdir(parents=True)
            (checkpoint / "lora.safetensors").write_bytes(b"x" * 100_000)
            (checkpoint / "state.json").write_text("x")
        (folder.trial(number) / "checkpoints" / ".0b1c.part").mkdir()  # of a kill
    verdict = Verdict(study="s", decision=Decision("ship", trial=1, epoch=20), ties=(0,))
    (said,) = tidy_study(folder, KeepSection(), verdict)
    kept = [sorted(int(p.name) for p in (folder.trial(n) / "checkpoints").iterdir()) for n in range(4)]
    assert kept == [list(range(16, 30, 2))] * 3 + [[20]]
    assert "around the onset of trials 1, 0, 2" in said
    assert said.endswith("22 LoRA files, 2.2 MB.")
    assert not list(tmp_path.rglob("state.*"))
    (said,) = tidy_study(folder, KeepSection(checkpoints="none"), verdict)
    assert [len(list((folder.trial(n) / "checkpoints").iterdir())) for n in range(4)] == [1, 1, 1, 0]


@pytest.mark.parametrize(("stopped", "kept"), [("horizon", {20, 40}), ("onset", {20})])
def test_what_training_needs_to_go_on_stays_of_the_last_checkpoint_where_it_is_wanted(
    tmp_path: Path, stopped: str, kept: set[int]
) -> None:
    record = replace(trial(0, 0.8), epochs_trained=40, stopped=stopped)
    for epoch in (20, 38, 40):
        checkpoint = tmp_path / "checkpoints" / f"{epoch:04d}"
        checkpoint.mkdir(parents=True)
        for name in ("lora.safetensors", "state.json", "state.safetensors"):
            (checkpoint / name).write_bytes(b"x")
    tidy_trial(tmp_path, record, KeepSection(states=True), in_detail=False)
    assert {int(path.name) for path in (tmp_path / "checkpoints").iterdir()} == kept
    assert {int(path.parent.name) for path in tmp_path.rglob("state.*")} == kept - {20}
    tidy_trial(tmp_path, record, KeepSection(), in_detail=False)
    assert not list(tmp_path.rglob("state.*"))


def test_a_space_knows_how_many_configurations_it_has() -> None:
    scheduler = Entry("lr_scheduler", "lr_scheduler", values=("constant", "cosine"))
    horizon = Entry("epochs", "epochs", values=(4, 6, 8), when=(("lr_scheduler", ("cosine",)),))
    ranks = Entry("rank", "rank", low=2, high=8, step=2, whole=True)
    assert size(Space()) == 1
    assert size(Space((scheduler, horizon))) == 4
    assert size(Space((scheduler, horizon, ranks))) == 16
    assert size(Space((Entry("noise_offset", "noise_offset", low=0, high=0.1, step=0.05),))) == 3
    assert size(Space((scheduler, Entry("noise_offset", "noise_offset", low=0, high=0.1)))) is None
