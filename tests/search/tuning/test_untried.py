"""No configuration is trained twice while there are others."""

from pathlib import Path

import optuna
from optuna.trial import Trial, TrialState

from search.study.space import Space, parse_space
from search.tuning.ledger import Ledger
from search.tuning.untried import draw, key_of


def space_of(searched: dict) -> Space:
    space, wrong = parse_space(Path("s.yaml"), searched, {})
    assert not wrong
    return space


FINITE = {
    "optimizer": {"values": ["AdamW", "Lion"]},
    "rank": {"min": 4, "max": 8, "step": 4},
    "lr_scheduler": {"values": ["constant", "cosine"], "when": {"optimizer": "Lion"}},
}  # 2 with AdamW, 4 with Lion
HALF_OPEN = {
    "optimizer": {"values": ["AdamW", "Adafactor"]},
    "learning_rate_scale": {"min": 0.1, "max": 10.0, "log": True, "when": {"optimizer": "AdamW"}},
}


def run(folder: Path, space: Space, trials: int, *, killed: bool = False) -> list[str]:
    ledger = Ledger(folder / "study.db", "dog", seed=3, startup_trials=3)
    for _ in range(trials):
        number = ledger.ask(space, slot=0, began=0)
        if killed:
            ledger = Ledger(folder / "study.db", "dog", seed=3, startup_trials=3)
        trial, fields = ledger.reattach(number, space)
        assert space.stored(fields).keys() == trial.params.keys()
        ledger.tell(trial, TrialState.COMPLETE, 1.0 if fields["optimizer"] == "AdamW" else 0.1)
    return [key_of(trial.params) for trial in ledger.own()]


def test_a_finite_space_is_gone_through_without_a_repeat(tmp_path):
    tried = run(tmp_path, space_of(FINITE), 6)
    assert len(set(tried)) == 6


def test_a_coordinator_killed_after_asking_goes_on_with_the_same(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert run(tmp_path / "a", space_of(FINITE), 4) == run(tmp_path / "b", space_of(FINITE), 4, killed=True)


def test_the_branch_without_a_range_is_trained_once(tmp_path):
    tried = run(tmp_path, space_of(HALF_OPEN), 4)
    assert len(set(tried)) == 4


def test_the_sampler_alone_would_repeat(tmp_path, monkeypatch):
    monkeypatch.setattr("search.tuning.ledger.untried", lambda *args, **settings: None)
    assert len(set(run(tmp_path, space_of(FINITE), 6))) < 6


def test_each_value_has_a_seed_of_its_own_and_what_is_drawn_together_that_of_the_first() -> None:
    """Also where some were stored before a kill: the others are drawn as they would have been."""
    space = space_of({name: {"values": [2, 4, 8]} for name in ("rank", "batch_size", "num_cycles")})
    names = [entry.parameter for entry in space.entries]
    for stored in range(len(names)):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        number = study.ask()._trial_id
        seeds: list[str] = []
        if stored:
            draw(Trial(study, number), Space(space.entries[:stored]), lambda name: None, [])
        trial = Trial(study, number)  # another process goes on with it
        asked: list[str] = []
        fields = draw(trial, space, seeds.append, asked)
        assert asked == names
        assert list(fields) == names
        assert seeds == (names if not stored else [*names[:stored], names[0], *names[stored:]])
