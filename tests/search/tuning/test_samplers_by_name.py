"""Samplers and pruners by name, settings to start with: each chosen the same again after a kill."""

import re
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from search import run
from search.errors import StudyError
from search.study.settings import SAMPLERS, SamplerSection, StopSection
from search.study.space import Space, parse_space
from search.study.study import load_study
from search.tuning.ledger import Ledger
from search.tuning.pruner import PeerPruner
from search.tuning.sampler import sampler_for
from search.tuning.untried import key_of
from tests.messages import refusal

MIXED = {
    "optimizer": {"values": ["AdamW", "Lion"]},
    "rank": {"min": 4, "max": 64, "step": 4},
    "learning_rate_scale": {"min": 0.1, "max": 10.0, "log": True, "when": {"optimizer": "AdamW"}},
}
FINITE = {
    "optimizer": {"values": ["AdamW", "Lion"]},
    "rank": {"values": [4, 8]},
    "num_cycles": {"values": [2, 3], "when": {"optimizer": "Lion"}},
}  # 2 with AdamW, 4 with Lion
OWN = """
import optuna
class Fixed(optuna.samplers.RandomSampler):
    def __init__(self, share=0.5):
        super().__init__(seed=0)
        self.share = share
    def sample_independent(self, study, trial, name, distribution):
        return distribution.to_external_repr(int(self.share * len(distribution.choices))) if hasattr(
            distribution, "choices") else distribution.low
class Never(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return False
"""


def space_of(searched: dict[str, Any]) -> Space:
    space, wrong = parse_space(Path("s.yaml"), searched, {})
    assert not wrong
    return space


def asked(folder: Path, space: Space, sampler: SamplerSection, trials: int, *, killed: bool = False) -> list[dict]:
    """The fields of each trial; `killed`: the coordinator dies after each question and after each first value."""
    folder.mkdir()

    def ledger() -> Ledger:
        return Ledger(folder / "study.db", "dog", seed=3, startup_trials=3, sampler=sampler)

    found = []
    opened = ledger()
    for _ in range(trials):
        number = opened.ask(space, slot=0, began=0)
        if killed:
            opened = ledger()
            half = Space(space.entries[:1])
            opened.reattach(number, half)
            opened = ledger()
        trial, fields = opened.reattach(number, space)
        opened.tell(trial, TrialState.COMPLETE, fields["rank"] / 64 + (fields["optimizer"] == "AdamW"))
        found.append(fields)
    return found


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in ("gp", "qmc", "random")))
        for name in SAMPLERS
        if name != "grid"
    ],
)
def test_each_sampler_chooses_the_same_again_after_a_kill(name: str, tmp_path: Path) -> None:
    space, sampler = space_of(MIXED), SamplerSection(name=name)
    whole = asked(tmp_path / "a", space, sampler, 5)
    assert asked(tmp_path / "b", space, sampler, 5, killed=True) == whole
    assert len({key_of(fields) for fields in whole}) == 5


def test_a_sampler_of_another_name_chooses_otherwise(tmp_path: Path) -> None:
    space = space_of(MIXED)
    chosen = {
        name: str(asked(tmp_path / name, space, SamplerSection(name=name), 5))
        for name in ("tpe", "random", "qmc", "gp")
    }
    assert len(set(chosen.values())) == len(chosen)


def test_a_grid_takes_every_configuration_once_before_any_twice(tmp_path: Path) -> None:
    space, grid = space_of(FINITE), SamplerSection(name="grid")
    tried = asked(tmp_path / "a", space, grid, 6)
    assert len({key_of(fields) for fields in tried}) == 6
    assert asked(tmp_path / "b", space, grid, 6, killed=True) == tried


def test_a_class_of_ones_own_is_asked_with_its_keywords(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "of_my_own.py").write_text(OWN)
    section = SamplerSection(name="of_my_own:Fixed", arguments={"share": 0.5})
    fields = asked(tmp_path / "a", space_of(MIXED), section, 1)[0]
    assert fields["optimizer"] == "Lion"
    assert fields["rank"] == 4
    stop = StopSection(pruner="of_my_own:Never")
    ledger = Ledger(tmp_path / "x.db", "dog", seed=0, startup_trials=1, stop=stop)
    assert type(ledger.study.pruner).__name__ == "Never"


def test_pruners_by_name_take_their_keywords(tmp_path: Path) -> None:
    stop = StopSection(pruner="percentile", pruner_arguments={"percentile": 10.0, "n_startup_trials": 2})
    pruner = Ledger(tmp_path / "a.db", "dog", seed=0, startup_trials=1, stop=stop).study.pruner
    assert isinstance(pruner, optuna.pruners.PercentilePruner)
    assert pruner._percentile == 10.0
    assert isinstance(Ledger(tmp_path / "b.db", "dog", seed=0, startup_trials=1).study.pruner, PeerPruner)


def test_what_a_study_starts_with_comes_first_and_once_and_the_rest_is_drawn(tmp_path: Path) -> None:
    first = [{"optimizer": "AdamW", "learning_rate_scale": 2, "rank": 16}, {"optimizer": "Lion"}, {"rank": 64}]
    section = SamplerSection(start_with=first)
    fields = asked(tmp_path / "a", space_of(MIXED), section, 5)
    assert fields[0] == {"optimizer": "AdamW", "rank": 16, "learning_rate_scale": 2.0}
    assert fields[1]["optimizer"] == "Lion"
    assert "learning_rate_scale" not in fields[1]
    assert fields[2]["rank"] == 64
    assert asked(tmp_path / "b", space_of(MIXED), section, 5, killed=True) == fields
    plain = asked(tmp_path / "c", space_of(MIXED), SamplerSection(), 2)
    assert fields[3:] != plain  # the sampler has learned from them


@pytest.mark.parametrize(
    ("changes", "key", "given", "expected"),
    [
        ({"sampler": {"name": "tpa"}}, "sampler.name", "tpa", "did you mean tpe"),
        ({"sampler": {"name": "grid"}}, "sampler.name", "grid", "at most 4096 configurations"),
        ({"sampler": {"name": "nowhere:Sampler"}}, "sampler.name", "nowhere:Sampler", "a class that can be imported"),
        ({"sampler": {"name": "pathlib:Path"}}, "sampler.name", "pathlib:Path", "a class of Optuna's kind"),
        ({"sampler": {"arguments": {"gama": 1}}}, "sampler.arguments", "{'gama': 1}", "keywords of tpe"),
        ({"stop": {"pruner": "median", "pruner_arguments": {"n": 1}}}, "stop.pruner_arguments", "{'n': 1}", "median"),
        ({"stop": {"pruner": "percentile"}}, "stop.pruner_arguments", "{}", "keywords of percentile"),
        ({"sampler": {"start_with": [{"rnk": 4}]}}, "sampler.start_with[0].rnk", 4, "a field that is searched"),
        ({"sampler": {"start_with": [{"rank": 5}]}}, "sampler.start_with[0].rank", 5, "one of the values"),
        (
            {"sampler": {"start_with": [{"optimizer": "Lion", "learning_rate_scale": 1}]}},
            "sampler.start_with[0].learning_rate_scale",
            1,
            "beside the others",
        ),
    ],
)
def test_a_wrong_one_is_told_before_anything_is_loaded(changes, key, given, expected, write_study, tmp_path, capsys):
    file = write_study(search=MIXED, **changes)
    assert run.main([str(file), "--runs", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert re.search(refusal(key, given, ""), said), said
    assert expected in said
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_sampler_may_change_while_a_study_goes_on(write_study) -> None:
    with_random = load_study(write_study(search=MIXED, sampler={"name": "random"}))
    assert with_random.digest == load_study(write_study(search=MIXED)).digest
    with pytest.raises(StudyError, match=r"sampler\.nam"):
        load_study(write_study(sampler={"nam": "random"}))


def test_tpe_that_looks_at_new_trials_only_draws_as_if_it_had_looked_at_all(tmp_path: Path) -> None:
    """Also where trials end in another order than they began, are pruned or failed, or others' have other values."""
    space = space_of(MIXED)

    def begun(name: str) -> Ledger:
        return Ledger(tmp_path / f"{name}.db", "dog", seed=3, startup_trials=3)

    def searched(name: str, *, again: bool) -> list[dict[str, Any]]:
        """`again`: every trial is asked for by a new ledger, which has looked at no trial."""
        ledger, running, found = begun(name), [], []
        for place in range(16):
            ledger = begun(name) if again else ledger
            trial, fields = ledger.reattach(ledger.ask(space, slot=0, began=place), space)
            found.append(fields)
            running.append((trial.number, fields["rank"] / 64))
            if place == 11:
                other = create_trial(value=0.9, params={"rank": 8}, distributions={"rank": IntDistribution(4, 32)})
                ledger.study.add_trial(other)
            if len(running) > 2:  # the newest first, and the oldest runs for long
                number, score = running.pop(-1 if place < 10 else 0)
                state = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)[place % 3]
                ended, _ = ledger.reattach(number, space)
                ledger.report(ended, 2, score)
                ledger.tell(ended, state, score)
        return found

    drawn = searched("kept", again=False)
    assert drawn == searched("anew", again=True)
    assert len({key_of(fields) for fields in drawn}) > 8


def test_tpe_looks_at_a_trial_that_has_ended_once(tmp_path: Path, monkeypatch) -> None:
    space = space_of({"noise_offset": {"min": 0.0, "max": 1.0}})
    ledger = Ledger(tmp_path / "study.db", "dog", seed=3, startup_trials=3)
    distributions = {"noise_offset": FloatDistribution(0.0, 1.0)}
    for offset in range(60):
        params = {"noise_offset": offset / 60}
        ledger.study.add_trial(create_trial(value=0.5, params=params, distributions=distributions))
    same, looks = FloatDistribution.__eq__, []
    monkeypatch.setattr(FloatDistribution, "__eq__", lambda one, other: looks.append(one) or same(one, other))
    found = []
    for _ in range(3):
        looks.clear()
        trial, _ = ledger.reattach(ledger.ask(space, slot=0, began=0), space)
        ledger.tell(trial, TrialState.COMPLETE, 0.5)
        found.append(len(looks))
    assert found[0] >= 59
    assert max(found[1:]) < 10


@pytest.mark.parametrize("name", ["tpe", "random", "grid", "qmc", "gp", "cmaes"])
def test_ones_own_keywords_go_before_ours(name: str) -> None:
    kinds = {"tpe": "TPESampler", "random": "RandomSampler", "grid": "RandomSampler", "qmc": "QMCSampler",
             "gp": "GPSampler", "cmaes": "CmaEsSampler"}  # fmt: skip
    made = sampler_for(SamplerSection(name=name), 3, 5, "", 7)
    assert kinds[name] in {kind.__name__ for kind in type(made).__mro__}
    values: Any = vars(made)
    if name == "tpe":
        assert (values["_n_startup_trials"], values["_multivariate"], values["_constant_liar"]) == (7, True, True)
        mine = vars(
            sampler_for(
                SamplerSection(name=name, arguments={"n_startup_trials": 2, "multivariate": False}), 3, 5, "", 7
            )
        )
        assert (mine["_n_startup_trials"], mine["_multivariate"]) == (2, False)
    elif name == "gp" or name == "cmaes":
        assert (values["_n_startup_trials"], values["_warn_independent_sampling"]) == (7, False)
    elif name == "qmc":
        assert (values["_scramble"], values["_seed"], values["_warn_independent_sampling"]) == (True, 3, False)
        mine = vars(sampler_for(SamplerSection(name=name, arguments={"scramble": False}), 3, 5, "", 7))
        assert (mine["_scramble"], mine["_seed"]) == (False, 3)


def test_each_question_of_each_trial_has_luck_of_its_own() -> None:
    def drawn(seed: int, number: int, parameter: str) -> float:
        made = sampler_for(SamplerSection(name="random"), seed, number, parameter, 1)
        return float(vars(made)["_rng"].rng.random())

    same = drawn(3, 5, "rank")
    assert drawn(3, 5, "rank") == same
    assert len({same, drawn(4, 5, "rank"), drawn(3, 6, "rank"), drawn(3, 5, "epochs"), drawn(3, 5, "")}) == 5
