"""The draw of faults, where they are planted, and what a run of tests says of them."""

import ast
import gc
import json
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.mutation import ran as noted
from tests.mutation.__main__ import merged, tried_alone
from tests.mutation.mutants import PACKAGES, Mutant, candidates, drawn
from tests.mutation.ran import Ran, with_calls
from tests.mutation.session import ended, loaded_functions, outcomes, plant

SOURCE = '''"""Says 3 > 2."""

from typing import Literal

Size = Literal[1, 2]  # an alias is code


def larger(one: Literal[3], two: float = 0.5) -> float:
    """The larger one, not 7 nor 8."""
    if one > two and not two == 9:
        raise ValueError(f"é: {one + 1} is too much", 6)
    print("words", 5)
    return max(one, two)
'''


def faults(source: str, path: str = "metrics/sizes.py") -> list[Mutant]:
    return candidates(path, source, random.Random(0))


def test_each_fault_changes_one_place_and_can_be_compiled():
    for mutant in faults(SOURCE):
        planted = mutant.planted(SOURCE)
        assert planted != SOURCE
        ast.parse(planted)
        assert SOURCE.encode()[mutant.start : mutant.end].decode() == mutant.before
        assert planted.count("\n") == SOURCE.count("\n")


def test_words_annotations_and_docstrings_are_left_alone():
    numbers = [mutant.before for mutant in faults(SOURCE) if mutant.kind == "constant"]
    assert numbers == ["1", "2", "0.5", "9"]


def test_the_usual_faults_are_all_there():
    kinds = Counter(mutant.kind for mutant in faults(SOURCE))
    assert kinds.keys() == {
        "comparison", "and/or", "not", "condition", "raise dropped", "return value", "opposite", "constant"
    }  # fmt: skip


def test_drawing_has_no_faults_in_numbers():
    assert faults("x = 3 + y\n", "search/verdict/sheet.py") == []
    assert [mutant.kind for mutant in faults("x = 3 + y\n", "search/verdict/verdict.py")] == ["arithmetic", "constant"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "sizes.py").write_text(SOURCE)
    (tmp_path / "tests" / "trainer").mkdir(parents=True)
    (tmp_path / "tests" / "trainer" / "test_sizes.py").write_text(
        "import pytest\nfrom trainer.sizes import larger\n\n\n"
        "def test_the_larger():\n    assert larger(1, 2) == 2\n\n\n"
        "def test_too_much():\n    with pytest.raises(ValueError):\n        larger(2, 1)\n\n\n"
        "def test_by_itself():\n    assert larger(1, 1) == 1\n"
    )
    return tmp_path


def test_a_seed_draws_the_same_faults_from_every_package(repository: Path):
    first = drawn(repository, 9, 4)
    assert first == drawn(repository, 9, 4)
    assert first != drawn(repository, 9, 5)
    assert Counter(mutant.path.split("/")[0] for mutant in first) == dict.fromkeys(PACKAGES, 3)
    assert len({(mutant.path, mutant.line) for mutant in first}) == 9


@pytest.mark.parametrize("package", PACKAGES)
def test_with_calls_code_can_be_compiled(package: str):
    root = Path(__file__).parents[2]
    for path in sorted((root / package).rglob("*.py"))[::3]:
        source = path.read_text()
        by_line = {mutant.line: mutant for mutant in faults(source, path.relative_to(root).as_posix())}
        compile(with_calls(source, dict(enumerate(by_line.values()))), str(path), "exec")


def test_with_calls_the_code_does_the_same_and_tells_where_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAN", str(tmp_path))
    chosen = dict(enumerate(faults(SOURCE)))
    one_a_line = {mutant.line: place for place, mutant in reversed(chosen.items())}
    names: dict = {}
    exec(with_calls(SOURCE, {place: chosen[place] for place in one_a_line.values()}), names)
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/test_sizes.py::test_the_larger (call)")
    assert names["larger"](1, 2) == 2
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/test_sizes.py::test_too_much (call)")
    with pytest.raises(ValueError, match="too much"):
        names["larger"](2, 1)
    with (tmp_path / "tests.jsonl").open("w") as file:
        for test, seconds in [("test_too_much", 9.0), ("test_the_larger", 0.1)]:
            file.write(
                json.dumps(
                    {"test": f"tests/test_sizes.py::{test}", "outcome": "passed", "seconds": seconds, "setup": 0.0}
                )
                + "\n"
            )
    ran = Ran.read(tmp_path)
    returned, raised = one_a_line[13], one_a_line[11]
    assert ran.within(returned, "metrics/sizes.py", 60) == (["tests/test_sizes.py::test_the_larger"], 0.1)
    assert ran.within(raised, "metrics/sizes.py", 60) == (["tests/test_sizes.py::test_too_much"], 9.0)
    compared = one_a_line[10]
    assert ran.within(compared, "metrics/sizes.py", 60)[0] == [
        "tests/test_sizes.py::test_the_larger",
        "tests/test_sizes.py::test_too_much",
    ]
    assert ran.within(compared, "metrics/sizes.py", 1)[0] == ["tests/test_sizes.py::test_the_larger"]
    nowhere = len(chosen)
    assert ran.within(nowhere, "metrics/sizes.py", 60) == ([], 0.0)


def test_what_runs_on_import_lies_behind_all_tests_that_are_near():
    near, far, command = (f"tests/{name}.py::test" for name in ("metrics/test_sizes", "search/test_a", "search/test_b"))
    every = dict.fromkeys((near, far, command), 0.5)
    ran = Ran(every, {f"{test.split('::')[0]}[": 0.0 for test in every}, {3: {command}, 4: set()}, set(every))
    assert ran.within(3, "metrics/sizes.py", 60) == ([command], 0.5)
    assert ran.within(3, "metrics/sizes.py", 60, on_import=True) == ([near, command], 1.0)
    assert ran.within(4, "metrics/sizes.py", 60) == ([near], 0.5)


def test_a_process_that_began_in_another_test_notes_the_one_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAN", str(tmp_path))
    noted.say_what_runs("tests/test_b.py::test_b (call)")
    monkeypatch.setenv("RAN_PYTEST", str(os.getpid()))
    began = {"PYTEST_CURRENT_TEST": "tests/test_a.py::test_a (call)", "PYTHONPATH": str(Path(__file__).parents[2])}
    code = "from tests.mutation.ran import ran; ran(3)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **began}, check=True)
    (row,) = map(json.loads, (tmp_path / "places.jsonl").read_text().splitlines())
    assert row == {"place": 3, "test": "tests/test_b.py::test_b (call)"}


def test_alone_a_fault_is_found_by_a_slow_test_and_not_by_one_that_fails_anyway(repository: Path):
    tests = repository / "tests" / "trainer" / "test_sizes.py"
    tests.write_text(tests.read_text().replace("def test_the_larger", "@pytest.mark.slow\ndef test_the_larger"))
    tests.write_text(tests.read_text() + "\n\ndef test_nothing():\n    assert larger(3, 3) == 4\n")
    fault = next(mutant for mutant in faults(SOURCE, "trainer/sizes.py") if mutant.kind == "opposite")
    names = [f"tests/trainer/test_sizes.py::{name}" for name in ("test_nothing", "test_by_itself", "test_the_larger")]
    assert tried_alone(repository, fault, names, 30) == ("found", names[2])
    assert tried_alone(repository, fault, names[1:2], 30) == ("survived", "")
    assert (repository / "trainer" / "sizes.py").read_text() == SOURCE


def test_what_default_tests_do_not_find_others_may(tmp_path: Path):
    one, two, three, four = faults(SOURCE)[:4]
    told = {"": {one: "found", two: "survived", three: "survived"}, "slow": {one: "survived", two: "found"}}
    for kind, rows in told.items():
        (tmp_path / kind).mkdir(exist_ok=True)
        for mutant, outcome in rows.items():
            noted.note(tmp_path / kind / "outcomes.jsonl", {"mutant": mutant.name, "outcome": outcome})
    found = merged(tmp_path, [one, two, three, four])  # the fourth was not tried
    assert [(row["outcome"], row.get("marks")) for row in found] == [
        ("found", None), ("found", "slow"), ("survived", None)
    ]  # fmt: skip


def test_what_waits_for_nothing_is_ended_and_what_works_is_not():
    def started(code: str) -> int:
        return subprocess.Popen([sys.executable, "-c", code], start_new_session=True).pid

    assert ended(started("import threading; threading.Event().wait()"), 60, idle=1.2) is None
    working = "import time\nwhile time.process_time() < 2.2: pass\nraise SystemExit(7)"
    assert ended(started(working), 60, idle=2) == 7


def test_functions_that_the_collector_has_frozen_are_found_too():
    gc.freeze()
    try:
        assert ended in loaded_functions()[ended.__code__.co_filename]
    finally:
        gc.unfreeze()


def test_a_fault_that_a_loaded_function_cannot_take_is_planted_nowhere(tmp_path: Path):
    """Without its `super()` a method has one free variable less."""
    file = tmp_path / "sizes.py"
    source = "class A:\n    def __init__(self):\n        self.a = 1\n\n\n"
    source += "class B(A):\n    def __init__(self):\n        super().__init__()\n"
    names: dict = {}
    exec(compile(source, str(file), "exec"), names)
    functions = [names["A"].__init__, names["B"].__init__]
    assert plant(functions, file, source.replace("= 1", "= 2"))
    assert names["B"]().a == 2
    assert not plant(functions, file, source.replace("super().__init__()", "pass"))


def tried(repository: Path, notes: Path, chosen: list[Mutant]) -> None:
    """Tries these faults in a session of its own, in which a test may use a second of CPU while it is noted."""
    session = (
        "import pickle, sys, pytest\n"
        "from pathlib import Path\n"
        "from tests.mutation import ran\n"
        "from tests.mutation.session import Session\n"
        "tree, notes = map(Path, sys.argv[1:])\n"
        "chosen = pickle.loads((notes / 'chosen').read_bytes())\n"
        "session = Session(tree, notes, chosen, chosen, 30, {}, most_cpu=1.0)\n"
        "with session.planted_calls():\n"
        "    pytest.main(['-p', 'no:cacheprovider', str(tree / 'tests')], plugins=[session, ran])\n"
    )
    (notes / "chosen").write_bytes(pickle.dumps(chosen))
    environment = {
        **os.environ,
        "PYTHONPATH": f"{repository}{os.pathsep}{Path(__file__).parents[2]}",
        "RAN": str(notes),
    }
    subprocess.run([sys.executable, "-c", session, repository, notes], cwd=repository, env=environment, check=True)


def noted_tests(notes: Path) -> list[tuple[str, str]]:
    rows = map(json.loads, (notes / "tests.jsonl").read_text().splitlines())
    return [(row["test"].split("::")[1], row["outcome"]) for row in rows]


def test_each_fault_is_found_or_survives_in_a_session_of_its_own(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
):
    notes = tmp_path_factory.mktemp("notes")
    chosen = [mutant for mutant in faults(SOURCE, "trainer/sizes.py") if mutant.kind != "condition"]
    tried(repository, notes, chosen)
    ended = {(row["mutant"].split(": ")[1], row["outcome"]) for row in outcomes(notes).values()}
    assert ended == {
        *((kind, "found") for kind in ("and/or", "comparison", "not", "raise dropped", "return value", "opposite")),
        ("constant", "survived"),  # nothing asks for a nine
        ("constant", "alone"),  # runs on import: to be tried in a process of its own
    }
    assert (repository / "trainer" / "sizes.py").read_text() == SOURCE
    assert [outcome for _, outcome in noted_tests(notes)] == ["passed"] * 3, (
        "a test that finds a fault is none that fails"
    )


def test_a_fault_is_found_behind_what_an_earlier_test_has_kept(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
):
    (repository / "tests" / "trainer" / "test_sizes.py").write_text(
        "from functools import cache\nfrom trainer.sizes import larger\n\n\n"
        "@cache\ndef asked():\n    return larger(1, 2)\n\n\n"
        "def test_one():\n    assert asked() == 2\n\n\ndef test_other():\n    assert asked() == 2\n"
    )
    notes = tmp_path_factory.mktemp("notes")
    chosen = [mutant for mutant in faults(SOURCE, "trainer/sizes.py") if mutant.kind == "opposite"]
    tried(repository, notes, chosen)
    assert [row["outcome"] for row in outcomes(notes).values()] == ["found"]


def test_faults_are_found_by_tests_that_lie_between_those_of_another_folder(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
):
    beside = repository / "tests" / "elsewhere"
    beside.mkdir()
    (beside / "__init__.py").write_text("")
    (beside / "test_beside.py").write_text("def test_one():\n    pass\n\n\ndef test_other():\n    pass\n")
    order = "def pytest_collection_modifyitems(items):\n    items.append(items.pop(0))\n"
    (repository / "tests" / "conftest.py").write_text(order)
    notes = tmp_path_factory.mktemp("notes")
    chosen = [mutant for mutant in faults(SOURCE, "trainer/sizes.py") if mutant.kind == "opposite"]
    tried(repository, notes, chosen)
    names = [name for name, _ in noted_tests(notes)]
    assert (names[0], names[-1]) == ("test_other", "test_one")
    assert [row["outcome"] for row in outcomes(notes).values()] == ["found"]


def test_the_notes_go_on_after_a_test_that_takes_too_long_and_one_that_cannot_be_reported(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
):
    tests = repository / "tests" / "trainer"
    (tests / "conftest.py").write_text(
        "def pytest_runtest_makereport(item, call):\n"
        "    if call.excinfo and 'frames' in item.name:\n        raise TypeError('a frame without a line')\n"
    )
    (tests / "test_sizes.py").write_text(
        "import contextlib, resource\nfrom trainer.sizes import larger\n\n\n"
        "def test_frames():\n    raise ValueError\n\n\n"
        "def test_what_takes_long():\n    while True:\n        pass\n\n\n"
        "def test_a_full_disk():\n    before = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))\n"
        "    with contextlib.redirect_stdout(None):\n        one = larger(1, 2)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, before)\n    assert one == 2\n"
    )
    notes = tmp_path_factory.mktemp("notes")
    chosen = [mutant for mutant in faults(SOURCE, "trainer/sizes.py") if mutant.kind == "opposite"]
    tried(repository, notes, chosen)
    assert dict(reversed(noted_tests(notes))) == {  # the first of each: what is torn down well is noted, too
        "test_frames": "failed", "test_what_takes_long": "failed", "test_a_full_disk": "passed"
    }  # fmt: skip
    assert [row["outcome"] for row in outcomes(notes).values()] == ["found"]
