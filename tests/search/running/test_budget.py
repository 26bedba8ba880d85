"""When a study has nothing more to ask for."""

import json
import shutil
from pathlib import Path

import pytest

from search.record.record import StudyFolder
from search.running.budget import why_finished, why_not_asked
from search.study.study import load_study
from tests.search.conftest import StudyWriter

RANKS = {"rank": {"values": [4, 8, 16]}}
ENDLESS = {"learning_rate_scale": {"min": 0.5, "max": 8}}


@pytest.mark.parametrize(
    ("search", "budget", "spent", "why"),
    [
        (ENDLESS, {"trials": 4}, (3, 3, 1e9), None),
        (ENDLESS, {"trials": 4}, (4, 4, 0.0), "4 trials"),
        (ENDLESS, {"trials": 4}, (5, 1, 0.0), "5 trials"),
        (ENDLESS, {"trials": 4, "hours": 1.5}, (2, 2, 5399.0), None),
        (ENDLESS, {"trials": 4, "hours": 1.5}, (2, 2, 5400.0), "2 trials in 1.5 hours"),
        (RANKS, {"trials": 9}, (3, 2, 0.0), None),
        (RANKS, {"trials": 9}, (4, 3, 0.0), "4 trials, and every combination is tried (3)"),
        (RANKS, {"trials": 9, "hours": 1}, (4, 3, 3600.0), "4 trials in 1 hours"),
    ],
)
def test_trials_time_and_space_each_end_it(write_study: StudyWriter, search, budget, spent, why) -> None:
    study = load_study(write_study(search=search, budget=budget))
    assert why_not_asked(study, *spent) == why


def test_a_finished_study_is_finished_until_something_is_asked_for_or_lost(
    write_study: StudyWriter, finished_study: StudyFolder, tmp_path: Path
) -> None:
    folder = StudyFolder(shutil.copytree(finished_study.path, tmp_path / "runs" / "toy"))
    trials = len(folder.numbers())

    def why(**changes: object) -> str | None:
        return why_finished(load_study(write_study(study="toy", search=ENDLESS, **changes)), folder)

    assert why(budget={"trials": trials}) == f"{trials} trials"
    assert why(budget={"trials": trials + 1}) is None
    assert why(budget={"trials": trials}, finalists={"twins": 3}) is None, "its winner has no twins yet"
    for file in json.loads(folder.verdict_file.read_text())["files"].values():
        aside = (folder.path / file).rename(tmp_path / "aside")
        assert why(budget={"trials": trials}) is None, file
        aside.rename(folder.path / file)
    assert why(budget={"trials": trials}) == f"{trials} trials"
    shutil.rmtree(folder.trial(2))
    assert why(budget={"trials": trials - 1}) is None, "the verdict is of other trials"
    folder.verdict_file.unlink()
    assert why(budget={"trials": 1}) is None


def test_combinations_are_counted_once(write_study: StudyWriter, finished_study: StudyFolder) -> None:
    params = [json.dumps(dict(record.params), sort_keys=True) for record in finished_study.records()]
    for size in (len(set(params)), len(set(params)) + 1):
        study = load_study(
            write_study(study="toy", search={"rank": {"values": [*range(1, size + 1)]}}, budget={"trials": 99})
        )
        assert (why_finished(study, finished_study) is None) == (size > len(set(params)))
