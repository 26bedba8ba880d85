"""Trials are stopped against peers only: same kind, equal progress, and no way to catch up."""

from collections.abc import Mapping

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from search.tuning.peers import outlook, spent
from search.tuning.pruner import CYCLES, HORIZON, SCHEDULE, PeerPruner


def rising(best: float, horizon: int, upto: float = 1.0) -> dict[int, float]:
    """A learning curve that flattens towards `best` at its own horizon, up to a share of it."""
    epochs = range(2, int(horizon * upto) + 1, 2)
    return {epoch: best * (1 - (1 - epoch / horizon) ** 2) for epoch in epochs}


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", pruner=PeerPruner())


def add(
    study: optuna.Study, scores: Mapping[int, float], horizon: int, schedule: str = "constant", state: str = "COMPLETE"
) -> None:
    study.add_trial(
        create_trial(
            state=TrialState[state],
            value=max(scores.values()) if state == "COMPLETE" else None,
            intermediate_values=dict(scores),
            user_attrs={HORIZON: horizon, SCHEDULE: schedule, CYCLES: 2.0},
        )
    )


def pruned(study: optuna.Study, scores: Mapping[int, float], horizon: int, schedule: str = "constant") -> bool:
    add(study, scores, horizon, schedule, "RUNNING")
    return study.pruner.prune(study, study.get_trials()[-1])


def test_a_flat_low_trial_is_pruned(study) -> None:
    for best in (0.5, 0.6, 0.7):
        add(study, rising(best, 20), 20)
    assert pruned(study, {2: 0.1, 4: 0.12, 6: 0.12, 8: 0.12, 10: 0.12}, 20)


def test_a_good_trial_is_not_pruned(study) -> None:
    for best in (0.5, 0.6, 0.7):
        add(study, rising(best, 20), 20)
    assert not pruned(study, rising(0.65, 20, upto=0.5), 20)


def test_a_slow_trial_that_still_climbs_is_not_pruned(study) -> None:
    """Low learning rates start behind and end best: at half its horizon this one is below every peer."""
    for best in (0.5, 0.55, 0.6):
        add(study, rising(best, 20), 20)
    slow = {epoch: 0.035 * epoch for epoch in range(2, 11, 2)}
    assert max(slow.values()) < min(rising(0.5, 20, upto=0.5)[10], 0.4)
    assert not pruned(study, slow, 20)


def test_a_long_horizon_is_compared_at_equal_progress_not_at_equal_epochs(study) -> None:
    for best in (0.5, 0.6, 0.7):
        add(study, rising(best, 8), 8)
    at_epoch_8 = rising(0.9, 40, upto=0.4)
    assert max(at_epoch_8.values()) < 0.7  # epoch for epoch the short schedules are ahead
    assert not pruned(study, at_epoch_8, 40)


def test_trials_of_its_own_kind_go_before_others(study) -> None:
    for best in (0.5, 0.6, 0.7):
        add(study, rising(best, 20), 20, schedule="cosine")
    low = {2: 0.1, 4: 0.1, 6: 0.1, 8: 0.1, 10: 0.1}
    assert pruned(study, low, 20, schedule="constant")  # no other constant ones: all are peers
    for best in (0.04, 0.05, 0.06):
        add(study, rising(best, 20), 20, schedule="constant")
    assert not pruned(study, low, 20, schedule="constant")


@pytest.mark.parametrize(
    ("schedule", "cycles"), [("constant", 1), ("cosine", 1), ("cosine_with_restarts", 3), ("linear", 1)]
)
def test_progress_is_the_share_of_the_rates_that_diffusers_would_give(schedule: str, cycles: int) -> None:
    import torch
    from diffusers.optimization import get_scheduler

    steps = 600
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    course = get_scheduler(schedule, optimizer, num_warmup_steps=0, num_training_steps=steps, num_cycles=cycles)
    rates = []
    for _ in range(steps):
        rates.append(course.get_last_lr()[0])
        optimizer.step()
        course.step()
    for at in (100, 250, 450, 600):
        assert spent(schedule, at / steps, cycles) == pytest.approx(sum(rates[:at]) / sum(rates), abs=0.005)


def test_too_few_peers_and_too_early_are_no_reason(study) -> None:
    low = {2: 0.1, 4: 0.1, 6: 0.1, 8: 0.1, 10: 0.1}
    add(study, rising(0.5, 20), 20)
    assert not pruned(study, low, 20)
    study = optuna.create_study(direction="maximize", pruner=PeerPruner())
    for best in (0.5, 0.6):
        add(study, rising(best, 20), 20)
    assert not pruned(study, {2: 0.1, 4: 0.1}, 20)
    assert pruned(study, low, 20)


def test_failed_trials_are_no_peers(study) -> None:
    add(study, rising(0.5, 20), 20)
    add(study, rising(0.7, 20), 20, state="FAIL")
    assert not pruned(study, {2: 0.1, 4: 0.1, 6: 0.1, 8: 0.1, 10: 0.1}, 20)


def test_the_outlook_is_the_line_of_the_last_checkpoints_and_never_below_the_best() -> None:
    assert outlook({2: 0.1, 4: 0.2, 6: 0.3}, 10) == pytest.approx(0.5)
    assert outlook({2: 0.1, 4: 0.5, 6: 0.3, 8: 0.2}, 10) == pytest.approx(0.5)
    assert outlook({2: 0.1, 4: 0.5, 6: 0.2}, 10) == pytest.approx(0.5)  # up and down again is no trend
