"""`score.objective`: found beside the study file or in the environment, refused in one line, the same in workers."""

import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from metrics.trajectory.readings import OWN_SCORE, Reading, Readings
from search.errors import StudyError
from search.running.machine_faults import fault_of
from search.study.objective import MissingReadingError, Objective, ObjectiveError, base_scored
from search.study.study import Study, load_study
from tests.search.recovery.test_continuing import begin, refusal

VALUES = {"fidelity": 0.5, "prompt": -0.1, OWN_SCORE: 0.4}
FUNCTION = "def score(readings):\n    return {}\n"


@pytest.fixture
def objective(write_study, tmp_path: Path):
    """Returns a function that writes a module beside a study file that names its function, and loads the study."""

    def load(source: str, name: str = "taste:score", module: str = "taste") -> Study:
        (tmp_path / f"{module}.py").write_text(source)
        return load_study(write_study(score={"encoder": "clip", "holdout": 2, "objective": name}))

    return load


def scores(study: Study) -> Objective:
    assert study.objective is not None
    return pickle.loads(pickle.dumps(study.objective))  # as it comes to a worker


@pytest.mark.parametrize(
    "returned", ["3", "readings['fidelity'] * 6", "np.float32(3)", "np.array(3)", "torch.tensor(3.0)"]
)
def test_any_number_is_a_score(objective, returned: str) -> None:
    study = objective("import numpy as np\nimport torch\n" + FUNCTION.format(returned))
    found = scores(study)(VALUES)
    assert (found, type(found)) == (3.0, float)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        *((FUNCTION.format(returned), "returned") for returned in ("None", "'0.5'", "True", "1j", "[1.0]", "10**400")),
        (FUNCTION.format("float('nan')"), "returned nan, expected a finite number"),
        (FUNCTION.format("float('-inf')"), "returned -inf"),
        (FUNCTION.format("1 / 0"), "raised ZeroDivisionError: division by zero"),
        (FUNCTION.format("readings()"), "raised TypeError"),
        ("def score():\n    return 1.0\n", "raised TypeError"),
    ],
)
def test_what_is_no_number_is_the_trials_failure_in_one_line_that_names_the_function(
    objective, source: str, named: str
) -> None:
    with pytest.raises(ObjectiveError) as caught:
        scores(objective(source))(VALUES)
    assert str(caught.value).startswith(f"score.objective: taste:score {named}")
    assert "\n" not in str(caught.value)
    fault = fault_of(caught.value)
    assert (fault.text, fault.again, fault.machine) == (str(caught.value), False, False)


def test_a_reading_that_is_not_there_is_told_with_the_nearest_one_unless_it_is_asked_for_softly(objective) -> None:
    with pytest.raises(MissingReadingError, match=r"asks for the reading 'fidelty': .*did you mean fidelity"):
        scores(objective(FUNCTION.format("readings['fidelty']")))(VALUES)
    assert scores(objective(FUNCTION.format("readings.get('heldout_loss', 7)")))(VALUES) == 7


def test_it_may_change_what_it_is_given(objective) -> None:
    study = objective("def score(readings):\n    readings['fidelity'] += 1\n    return readings['fidelity']\n")
    assert [scores(study)(VALUES) for _ in range(2)] == [1.5, 1.5]
    assert VALUES["fidelity"] == 0.5


def test_the_base_may_have_no_score_but_asks_for_nothing_that_is_not_read(objective) -> None:
    base = Readings(0, 0.0, {"fidelity": Reading(0.0, 0.0, 0.0)}, {}, 0.05)
    found, told = base_scored(scores(objective(FUNCTION.format("1 / readings['fidelity']"))), base)
    assert math.isnan(found.score)
    assert found.channels[OWN_SCORE].value == 0.05
    assert ["the base without a LoRA has no score" in line for line in told] == [True]
    with pytest.raises(MissingReadingError):
        base_scored(scores(objective(FUNCTION.format("readings['losses']"))), base)
    assert base_scored(None, base) == (base, ())


@pytest.mark.parametrize(
    ("name", "source", "why"),
    [
        ("taste", "", "module:function"),
        ("taste:sc ore", "", "module:function"),
        ("nowhere:score", "", "ModuleNotFoundError: No module named 'nowhere'"),
        ("taste:scor", FUNCTION.format(1), "did you mean score?"),
        ("taste:score", "score = 3\n", "a function of a checkpoint's readings"),
        ("taste:score", "class score: pass\n", "a function of a checkpoint's readings"),
        ("taste:score", "import none_such\n", "No module named 'none_such'"),
        ("taste:score", "def score(:\n", "SyntaxError"),
        ("taste:score", "raise SystemExit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_function_that_is_not_there_is_refused_in_one_line(objective, name: str, source: str, why: str) -> None:
    with pytest.raises(StudyError) as caught:
        objective(source, name)
    (line,) = caught.value.problems
    assert "score.objective: expected" in line
    assert why in line
    assert "\n" not in line


def test_the_file_beside_goes_first_and_two_studies_may_each_have_one_of_the_same_name(
    objective, tmp_path: Path
) -> None:
    (tmp_path / "helps.py").write_text("ONE = 1\n")
    before = list(sys.path)
    first = scores(objective("import helps\n" + FUNCTION.format("helps.ONE"), "statistics:score", "statistics"))
    assert sys.path == before, "a study that is read leaves nothing there"
    assert first(VALUES) == 1
    second = scores(objective(FUNCTION.format("2"), "statistics:score", "statistics"))
    assert (second(VALUES), first.source == second.source) == (2, False)


def test_one_that_the_command_line_names_lies_beside_the_study_file(write_study, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "named.py").write_text(FUNCTION.format("7.0"))
    path = write_study(score={"encoder": "clip", "holdout": 2})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert scores(load_study(path, ["score.objective=named:score"]))(VALUES) == 7.0


def test_a_module_of_the_environment_will_do(objective) -> None:
    study = objective("", "tests.search.study.test_objective:of_the_environment")
    assert scores(study)(VALUES) == pytest.approx(1.0)
    assert scores(study).source


def of_the_environment(readings):
    return float(np.float64(readings["fidelity"]) * 2)


def test_a_worker_refuses_a_file_that_has_changed_meanwhile(objective, tmp_path: Path) -> None:
    study = objective(FUNCTION.format("1.25"))
    (tmp_path / "taste.py").write_text(FUNCTION.format("1.75"))
    with pytest.raises(ObjectiveError, match="the file of taste:score has changed since the study was started"):
        scores(study)(VALUES)


def test_it_may_not_change_while_a_study_goes_on(objective) -> None:
    source = FUNCTION.format("1.5") + FUNCTION.format("2.5").replace("score", "other")
    study = objective(source)
    folder = begin(study)
    changed = objective(source + "# another word\n")
    line = refusal(changed, folder)
    assert "score.objective: expected the function" in line
    assert "its file has changed since" in line
    assert "score.objective: expected 'taste:score'" in refusal(objective(source, "taste:other"), folder)
    without = load_study(changed.file, ["score.objective=null"])
    assert "score.objective: expected 'taste:score'" in refusal(without, folder)


def test_the_probe_is_the_same_with_and_without_and_other_studies_keep_their_meaning(objective) -> None:
    study = objective(FUNCTION.format("1"))
    without = load_study(study.file, ["score.objective=null"])
    assert study.probe_digest == without.probe_digest
    assert study.digest != without.digest
    folder = begin(without)
    assert refusal(study, folder)


def test_only_a_search_chooses_by_one(write_study, tmp_path: Path) -> None:
    (tmp_path / "taste.py").write_text(FUNCTION.format("1"))
    own = {"data_check": {}, "score": {"encoder": "clip", "holdout": 2, "objective": "taste:score"}}
    with pytest.raises(StudyError, match=r"score\.objective: expected nothing, got 'taste:score': only a search"):
        load_study(write_study(drop=("search", "budget"), **own))
    shared = write_study(score=own["score"]).rename(tmp_path / "shared.yaml")
    other = tmp_path / "check.yaml"
    other.write_text(f"study: check\nextends: {shared.name}\nsearch: null\nbudget: null\ndata_check: {{}}\n")
    assert load_study(other).objective is None
