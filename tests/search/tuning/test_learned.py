"""`sampler.learn_from`: where good settings lay for other photos, the first trials are drawn; what they scored counts
for nothing."""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from search.errors import StudyError
from search.record.json_files import write_json
from search.record.learned_from import NOBODY, Example, LearnedFrom
from search.record.record import StudyFolder, TrialRecord
from search.study.input_digests import Inputs, fingerprint_of_base
from search.study.study import Study, load_study
from search.tuning.learned import as_trials, learned
from search.tuning.ledger import Ledger
from tests.messages import refusal
from tests.search.conftest import study_writer

SEARCH = {"rank": {"values": [4, 8, 16]}, "learning_rate_scale": {"min": 0.5, "max": 32, "log": True}}
GOOD = (8.0, 16.0)


class Studies:
    """One that learns, and those beside it."""

    def __init__(self, home: Path) -> None:
        self.home, self.write = home, study_writer(home)

    def folder(self, name: str) -> StudyFolder:
        return StudyFolder(self.home / "runs" / name)

    def study(self, **sampler: Any) -> Study:
        return load_study(self.write(search=SEARCH, budget={"trials": 20, "startup_trials": 6}, sampler=sampler))

    def earlier(self, name: str, score: Callable[[float], float], *, count: int = 16, **fixed: Any) -> None:
        """Trials at rates from 0.5 to 32; `score`: what a rate scores."""
        study = self.study()
        for number in range(count):
            rate = 0.5 * 64 ** (number / (count - 1))
            params = {"rank": (4, 8, 16)[number % 3], "learning_rate_scale": rate}
            config = study.config(params).model_copy(update=fixed)
            value = score(rate)
            record = TrialRecord(number, "complete", config, params, 4, epochs_trained=4, score=value, value=value)
            record.save(self.folder(name).trial(number))

    def drawn(self, study: Study, name: str, trials: int = 6) -> list[dict[str, Any]]:
        """The settings of the first trials, none of which has ended."""
        found = []
        with contextlib.closing(Ledger.of(study, self.folder(name))) as ledger:
            for _ in range(trials):
                _, params = ledger.reattach(ledger.ask(study.space, 0, 0), study.space)
                found.append(params)
        return found


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    return Studies(tmp_path)


def best_at_twelve(rate: float) -> float:
    return 0.5 if GOOD[0] <= rate <= GOOD[1] else 0.1 + rate / 1e4


def learning(studies: Studies, *names: str) -> Study:
    study = studies.study(learn_from=list(names))
    found, _ = learned(study, studies.folder("small"))
    return replace(study, learned=found)


def test_the_first_trials_are_drawn_where_good_settings_lay(studies: Studies) -> None:
    studies.earlier("dog", best_at_twelve)
    study = learning(studies, "dog")
    near = [GOOD[0] / 1.5 <= params["learning_rate_scale"] <= GOOD[1] * 1.5 for params in studies.drawn(study, "small")]
    alone = studies.drawn(studies.study(), "alone")
    at_random = [GOOD[0] / 1.5 <= params["learning_rate_scale"] <= GOOD[1] * 1.5 for params in alone]
    assert sum(near) >= 5 > sum(at_random)
    assert studies.drawn(study, "again") == studies.drawn(study, "once more")


def test_ranks_count_and_scores_do_not(studies: Studies) -> None:
    studies.earlier("dog", best_at_twelve)
    studies.earlier("cat", lambda rate: 0.9 + best_at_twelve(rate) / 100)
    assert learning(studies, "dog").learned.examples == learning(studies, "cat").learned.examples
    examples = learning(studies, "dog").learned.examples
    assert (min(e.rank for e in examples), max(e.rank for e in examples)) == (0.0, pytest.approx(1, abs=0.15))
    study = studies.study()
    with contextlib.closing(Ledger.of(study, studies.folder("own"))) as ledger:
        trial, _ = ledger.reattach(ledger.ask(study.space, 0, 0), study.space)
        ledger.study.tell(trial, 0.04)
        mapped = as_trials(examples, study.space, ledger.study.get_trials())
    assert max(t.value for t in mapped) == pytest.approx(0.04)  # none is better than the best of this study
    order = sorted(range(len(examples)), key=lambda n: examples[n].rank)
    assert sorted(range(len(mapped)), key=lambda n: mapped[n].value) == order


def test_a_study_goes_on_with_what_it_began_with(studies: Studies) -> None:
    studies.earlier("dog", best_at_twelve)
    study = learning(studies, "dog")
    study.learned.save(studies.folder("small"))
    studies.earlier("dog", lambda rate: -rate, count=20)
    found, notes = learned(study, studies.folder("small"))
    assert (found, notes) == (study.learned, ())
    assert LearnedFrom.load(studies.folder("small")) == study.learned
    assert learned(studies.study(), studies.folder("small")) == (NOBODY, ())


def test_what_does_not_fit_the_search_is_left_out_and_said(studies: Studies) -> None:
    studies.earlier("dog", best_at_twelve)
    narrow = replace(
        load_study(studies.write(search=SEARCH | {"rank": {"values": [4, 8]}}, sampler={"learn_from": ["dog"]}))
    )
    found, (note,) = learned(narrow, studies.folder("small"))
    assert {example.fields["rank"] for example in found.examples} == {4, 8}
    assert f"{len(found.examples)} of its 16 complete trials fit" in note
    assert len(found.examples) == 11


def test_the_same_base_in_another_place_is_the_same_base(studies: Studies, tiny_sd15: Path) -> None:
    studies.earlier("dog", best_at_twelve, base="/moved/from/here")
    study, own = replace(studies.study(learn_from=["dog"]), base=str(tiny_sd15)), studies.folder("small")
    write_json(Inputs.file(studies.folder("dog")), asdict(Inputs(base=fingerprint_of_base(study, own))))
    assert len(learned(study, own)[0].examples) == 16
    write_json(Inputs.file(studies.folder("dog")), asdict(Inputs(base="of another one")))
    with pytest.raises(StudyError, match="same base"):
        learned(study, own)


def test_what_is_learned_is_kept_as_the_search_itself_keeps_its_settings(studies: Studies) -> None:
    """Ranges of whole numbers and of others, with steps and without, and choices."""
    search = SEARCH | {
        "rank": {"min": 4, "max": 16, "step": 4},
        "epochs": {"min": 8, "max": 64, "log": True},
        "alpha_ratio": {"min": 0.25, "max": 1.0, "step": 0.25},
        "optimizer": {"values": ["AdamW", "Lion"]},
        "noise_offset": {"min": 0.0, "max": 0.1},
    }
    train = {"resolution": 64, "save_every_n_epochs": 2, "lr_scheduler": "cosine"}
    study = load_study(studies.write(search=search, train=train, budget={"trials": 20, "startup_trials": 6}))
    with contextlib.closing(Ledger.of(study, studies.folder("own"))) as ledger:
        for _ in range(4):
            trial, params = ledger.reattach(ledger.ask(study.space, 0, 0), study.space)
            (learned_from,) = as_trials([Example(params, 1.0)], study.space, [])
            own = ledger.trial(trial.number)
            assert learned_from.distributions == own.distributions
            assert learned_from.params == own.params


@pytest.mark.parametrize(
    ("name", "why"),
    [("nobody", "complete trials"), ("small", "another study"), ("few", "4 complete trials"), ("other", "same base")],
)
def test_who_says_nothing_is_refused_by_name(studies: Studies, name: str, why: str) -> None:
    studies.earlier("few", best_at_twelve, count=3)
    studies.earlier("other", best_at_twelve, base="/elsewhere/base")
    studies.earlier("small", best_at_twelve)
    with pytest.raises(StudyError, match=refusal("sampler.learn_from[0]", name)) as refused:
        learned(studies.study(learn_from=[name]), studies.folder("small"))
    assert why in str(refused.value)


@pytest.mark.parametrize("sampler", [{"name": "random", "learn_from": ["dog"]}, {"learn_from": ["../dog"]}])
def test_it_is_for_tpe_and_for_studies_beside_this_one(studies: Studies, sampler: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=r"sampler\.learn_from"):
        studies.study(**sampler)
