"""What is counted trial by trial is what a count of all trials says."""

import random

import pytest
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.tuning.tally import SLOT, STARTED_WITH, Tally, placed_here
from search.tuning.untried import key_of

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def trial(number: int, state: TrialState, rank: int | None = None, **attributes: object) -> FrozenTrial:
    params = {} if rank is None else {"rank": rank}
    distributions = {} if rank is None else {"rank": IntDistribution(1, 99)}
    value = 1.0 if state == TrialState.COMPLETE else None
    made = create_trial(state=state, params=params, distributions=distributions, user_attrs=attributes, value=value)
    made.number = number
    return made


@pytest.mark.parametrize("seed", range(4))
def test_trials_seen_again_and_again_are_counted_once(seed: int) -> None:
    """Each is queued or begun, has its values later, and ends; a quarter are another's."""
    luck = random.Random(seed)
    tally, now = Tally("mine"), dict[int, FrozenTrial]()
    for _ in range(300):
        number = luck.randrange(20)
        before = now.get(number)
        if before is not None and before.state.is_finished():
            continue
        state = luck.choice([TrialState.WAITING, TrialState.RUNNING, TrialState.RUNNING, *ENDED, TrialState.FAIL])
        if before is not None and before.state == TrialState.RUNNING and state == TrialState.WAITING:
            continue
        placed = {} if state == TrialState.WAITING or number % 4 == 3 else {SLOT: 0, "study": "mine"}
        if placed and number % 5 == 0:
            placed[STARTED_WITH] = f"given {number % 3}"
        now[number] = trial(number, state, luck.choice([None, 1, 2, 3]), **placed)
        tally.see(now[number])
        assert tally.waiting == {n for n, t in now.items() if t.state == TrialState.WAITING}
        assert tally.ended == {n for n, t in now.items() if t.state in ENDED}
        own = [t for t in now.values() if SLOT in t.user_attrs]
        assert tally.tried == (len(own), len({key_of(t.params) for t in own}))
        assert set(tally.configurations) == {key_of(t.params) for t in own}
    assert tally.given == {f"given {n % 3}" for n in now if n % 5 == 0 and SLOT in now[n].user_attrs}


def test_a_trial_that_was_copied_from_another_study_is_that_ones() -> None:
    assert placed_here(trial(0, TrialState.RUNNING, slot=1), "mine"), "of a version that noted no owner"
    assert placed_here(trial(0, TrialState.RUNNING, slot=1, study="mine"), "mine")
    assert not placed_here(trial(0, TrialState.RUNNING, slot=1, study="theirs"), "mine")
    assert not placed_here(trial(0, TrialState.RUNNING, study="mine"), "mine")
    tally = Tally("mine")
    tally.see(trial(0, TrialState.COMPLETE, 4, slot=1, study="theirs"))
    assert (tally.tried, tally.ended) == ((0, 0), {0}), "the sampler learns from it"
