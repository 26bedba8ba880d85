"""What a study spent: added up from its trials, and told as far as there is something to tell."""

from search.record.record import TrialRecord
from search.record.taken_run import TakenRun
from search.verdict.cost import Cost, cost_of, spent_sentence
from tests.search.any_config import CONFIG


def trial(state: str, stopped: str, trained: int, taken: TakenRun | None = None, **timings: float) -> TrialRecord:
    return TrialRecord(0, state, CONFIG, {}, 40, trained, stopped=stopped, timings=timings, taken=taken)


TRIALS = [
    trial("complete", "horizon", 40, train=10.0, sample=3.0, score=1.0, save=0.5),
    trial("complete", "onset", 20, train=5.0, sample=2.0),
    trial("complete", "horizon", 40, TakenRun("a", 1, 40, 40, 2.0, 1.0), score=1.0),
    trial("pruned", "onset", 8, TakenRun("a", 1, 4, 4, 2.0, 1.0), train=1.0),
    trial("failed", "failed", 3),
    trial("running", "", 5),
]


def test_everything_is_added_up() -> None:
    # the two that took readings saved 40 epochs with 40 looks and 4 epochs with 4 looks (CONFIG looks at each epoch)
    step = CONFIG.save_every_n_epochs
    looks = -(-40 // step) + -(-4 // step)
    assert cost_of(TRIALS, 12.5) == Cost(
        seconds=23.5, train=16.0, sample=5.0, score=2.0, wall_seconds=12.5, epochs=116 - 44, complete=3, at_onset=1,
        pruned=1, failed=1, running=1, taken=2, saved_epochs=44, saved_seconds=44 * 2.0 + looks * 1.0,
    )  # fmt: skip
    assert cost_of(TRIALS, None).trials == 6
    assert cost_of([], None) == Cost()


def test_the_sentence_has_each_part_that_is_not_nought() -> None:
    spent = Cost(300.0, 200.0, 60.0, 40.0, 125.0, 100, complete=4, at_onset=1, pruned=2, failed=1, running=3)
    assert spent_sentence(spent) == (
        "10 trials (3 trained to the end, 1 stopped at the onset, 2 pruned because others were ahead, 1 failed, 3 "
        "unfinished) with 100 trained epochs in 2 min 5 s on the clock. The workers took 5 min 0 s: training 3 min "
        "20 s, drawing images 1 min 0 s, scoring 40 s."
    )
    assert spent_sentence(Cost(epochs=1, complete=1, at_onset=1)) == (
        "1 trial (1 stopped at the onset) with 1 trained epoch. The workers took 0 s: training 0 s, drawing images "
        "0 s, scoring 0 s."
    )
    assert spent_sentence(Cost()).startswith("0 trials with 0 trained epochs. The")


def test_what_the_same_run_saved_is_told() -> None:
    one = spent_sentence(Cost(complete=1, taken=1, saved_epochs=1, saved_seconds=61.0))
    assert one.endswith(
        " 1 trial has readings of the same run in another trial: that saved 1 trained epoch and 1 min 1 s."
    )
    two = spent_sentence(Cost(complete=2, taken=2, saved_epochs=8, saved_seconds=9.0))
    assert two.endswith(
        " 2 trials have readings of the same run in another trial: that saved 8 trained epochs and 9 s."
    )


def test_nothing_took_nothing() -> None:
    assert cost_of([], None) == Cost()
    assert {value for value in vars(Cost()).values() if value is not None} == {0}
    assert Cost().trials == 0
