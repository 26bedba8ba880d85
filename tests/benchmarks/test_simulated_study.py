"""Simulated searches take what can be reckoned by hand where nothing ends early, and trials end by the real rules."""

from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from benchmarks.look_replay import ALWAYS, Run, losses_read_once, replay
from benchmarks.simulated_searches import Rules, Task, by_processes, onset, resident
from benchmarks.simulated_study import SHAPES, SOURCES, from_share, interval, studies_of
from benchmarks.simulated_times import Times, look_sizes, times_of
from tests.search.finished_studies import Plan, planted

PHOTOS, EPOCHS, STEP = 10, 24, 2
LOOKS = EPOCHS // STEP
TIMES = Times(steps={1: 0.5, 2: 0.6, 4: 0.8}, plain=1.0, image=0.25, loss=0.125, load=7.0, images=8, losses=4, fresh=16)
NOTHING_ENDS_EARLY = {"prune": False, "stop": False}
FINALS = TIMES.fresh * TIMES.image


def _run(quality: float, seed: int, turn: float | None = None) -> Run:
    case: Any = SimpleNamespace(run="adamw", num_photos=PHOTOS)
    found = Run(case, planted(Plan({}, quality=quality, turn=turn), EPOCHS, seed).readings)
    assert found.epochs == list(range(STEP, EPOCHS + 1, STEP))
    object.__setattr__(found, "quality", lambda epoch: quality)
    return found


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [_run(0.8, 1), _run(0.5, 2, turn=8), _run(0.3, 3), _run(0.6, 4)]


def test_a_process_for_each_trial_on_one_card_takes_the_sum(runs: list[Run]) -> None:
    found = by_processes(Task(runs), 1, TIMES)
    each = 7.0 + EPOCHS * PHOTOS * 1.0 + LOOKS * 8 * 0.25
    assert found.seconds == found.card_seconds == pytest.approx(4 * each)
    assert (found.trained, found.looks) == (4 * EPOCHS * PHOTOS, 4 * LOOKS)
    assert found.quality == 0.8


def test_on_two_cards_it_takes_half_and_three_trials_leave_one_card_early(runs: list[Run]) -> None:
    one, two = by_processes(Task(runs), 1, TIMES), by_processes(Task(runs), 2, TIMES)
    assert two.seconds == pytest.approx(one.seconds / 2)
    three = by_processes(Task(runs[:3]), 2, TIMES)
    assert three.seconds == pytest.approx(two.seconds)
    assert three.card_seconds == pytest.approx(1.5 * two.seconds)


def test_a_resident_search_without_a_pruner_loads_once(runs: list[Run]) -> None:
    found = resident(Task(runs), 1, TIMES, optuna.pruners.NopPruner())
    assert found.seconds == pytest.approx(7.0 + 4 * (EPOCHS * PHOTOS + LOOKS * 2.0))
    assert found.quality == 0.8


def test_the_resident_search_ends_trials_as_optuna_does(runs: list[Run]) -> None:
    task = Task([runs[0]] * 5 + [runs[2]])
    found = resident(task, 1, TIMES)  # five trials first, then whoever is below their median at once
    assert found.looks == 5 * LOOKS + 1
    assert found.trained == (5 * EPOCHS + STEP) * PHOTOS


def test_onset_one_by_one_takes_the_sum_with_losses_and_finals(runs: list[Run]) -> None:
    with losses_read_once():
        bill, found = onset(Task(runs), 1, TIMES, Rules(pack=1, **NOTHING_ENDS_EARLY))
    look = 8 * 0.25 + 4 * 0.125
    trials = 4 * (EPOCHS * PHOTOS * 0.5 + LOOKS * look)
    assert [trial.at for trial in found.trials] == [EPOCHS] * 4
    assert bill.seconds == pytest.approx(7.0 + look + trials + (1 + len(found.finalists)) * FINALS)


def test_a_pack_of_two_takes_as_many_steps_as_half_the_trials_have(runs: list[Run]) -> None:
    with losses_read_once():
        alone, _ = onset(Task(runs), 1, TIMES, Rules(pack=1, **NOTHING_ENDS_EARLY))
        pairs, _ = onset(Task(runs), 1, TIMES, Rules(pack=2, **NOTHING_ENDS_EARLY))
    assert alone.seconds - pairs.seconds == pytest.approx(4 * EPOCHS * PHOTOS * (0.5 - 0.6 / 2))
    assert pairs.trained == alone.trained


def test_two_cards_halve_what_is_not_loading_or_finals(runs: list[Run]) -> None:
    with losses_read_once():
        one, found = onset(Task(runs), 1, TIMES, Rules(pack=1, **NOTHING_ENDS_EARLY))
        two, _ = onset(Task(runs), 2, TIMES, Rules(pack=1, **NOTHING_ENDS_EARLY))
    ready = 7.0 + TIMES.looked
    shown = len(found.finalists)
    in_search = one.seconds - ready - (1 + shown) * FINALS
    assert two.seconds == pytest.approx(ready + in_search / 2 + (1 + -(-shown // 2)) * FINALS)
    assert two.card_seconds == pytest.approx(2 * two.seconds)


def test_trials_of_onset_end_as_in_the_replayed_study(runs: list[Run]) -> None:
    """Two workers, as `look_replay` has them."""
    order = [*runs, _run(0.7, 5), _run(0.2, 6), _run(0.4, 7)]
    with losses_read_once():
        _, found = onset(Task(order), 2, TIMES, Rules(pack=1))
        expected = replay(order, ALWAYS)
    assert [(t.at, t.state) for t in found.trials] == [(t.at, t.state) for t in expected.trials]
    assert {t.state for t in found.trials} == {"complete", "pruned"}
    assert found.verdict == expected.verdict


def test_pruning_and_stopping_save_their_epochs(runs: list[Run]) -> None:
    order = [*runs, *runs]
    with losses_read_once():
        whole, _ = onset(Task(order), 1, TIMES, Rules(pack=2, **NOTHING_ENDS_EARLY))
        for rules in (Rules(pack=2, prune=False), Rules(pack=2, stop=False)):
            bill, found = onset(Task(order), 1, TIMES, rules)
            ended = sum(trial.at for trial in found.trials) * PHOTOS
            assert ended < whole.trained
            assert ended <= bill.trained < whole.trained  # workers train ahead of decisions
            assert bill.seconds < whole.seconds


def test_steps_between_measured_widths_lie_on_a_line() -> None:
    assert TIMES.step(3) == pytest.approx(0.7)
    with pytest.raises(ValueError, match="8"):
        TIMES.step(8)


def test_seconds_are_those_that_were_measured() -> None:
    assert look_sizes() == (32, 288)
    sdxl = times_of("SDXL, H100")
    assert sdxl.step(8) == pytest.approx(0.7507, abs=1e-3)
    assert sdxl.drawn == pytest.approx(32 * 0.50644, abs=1e-2)
    assert 16 not in sdxl.steps  # it did not fit
    assert {times_of(name).step(1) for name in SOURCES} == {times_of(name).steps[1] for name in SOURCES}


def test_every_run_comes_equally_often(runs: list[Run]) -> None:
    for trials, _ in SHAPES.values():
        for _, drawn in studies_of({"set": runs}, trials, 2):
            counts = {id(run): sum(each is run for each in drawn) for run in runs}
            assert len(drawn) == (trials or len(runs))
            assert max(counts.values()) - min(counts.values()) <= 1


def test_an_interval_holds_its_mean() -> None:
    mean, low, high = interval([1.0, 1.0, 3.0, 3.0], ["a", "a", "b", "b"])
    assert (mean, low, high) == (2.0, 1.0, 3.0)


def test_early_checkpoints_are_left_out(runs: list[Run]) -> None:
    assert from_share(runs[0], 0.25).epochs == [epoch for epoch in runs[0].epochs if epoch >= EPOCHS / 4]
    assert from_share(runs[0], 0.25).readings[0].epoch == 0
