"""A flow through the command line: each study in turn, results handed on, stopped only where photos should change."""

import json
from pathlib import Path

import pytest
import yaml

import search.run
from search import dashboard, export, flow, status
from search.errors import StudyError
from search.record.handed_on import HandedOn
from search.record.json_files import write_json
from search.record.record import PROBE_FILE, StudyFolder
from search.study.flow_file import read_flow
from search.study.study import load_study
from tests.search.one_process import OneProcess

PROBE = {"prompts": ["a photo of sks toy"], "sets": ["C"], "seeds": [11, 12], "size": [64, 64], "trained": ["a"]}
FLOW = Path(__file__).parents[2] / "studies" / "flow"


@pytest.fixture
def small_flow(write_study, tiny_sd15: Path, tmp_path: Path, monkeypatch) -> Path:
    """Two studies whose workers train nothing; the second takes what the first has found."""
    values = yaml.safe_load(write_study(drop=["search"]).read_text())
    train = values.pop("train") | {"epochs": 4, "rank": 8}
    (tmp_path / "common.yaml").write_text(yaml.safe_dump(values | {"base": str(tiny_sd15)}))
    for name, more in (("first", {}), ("second", {"from": "first.yaml"})):
        text = yaml.safe_dump({"study": name, "extends": "common.yaml", "train": train, **more})
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "flow.yaml").write_text("flow: [first.yaml, second.yaml]\n")
    monkeypatch.chdir(tmp_path)

    def team(target, setup, count, **more) -> OneProcess:
        write_json(setup[1].path / PROBE_FILE, PROBE)
        return OneProcess(count)

    monkeypatch.setattr(search.run, "Team", team)
    return tmp_path / "flow.yaml"


def test_each_study_runs_and_a_finished_one_returns_at_once(small_flow: Path, capsys, monkeypatch) -> None:
    assert search.run.main([str(small_flow)]) == 0
    first = capsys.readouterr().out
    assert [line for line in first.splitlines() if ", step " in line] == [
        "flow.yaml, step 1 of 2: first.yaml",
        "flow.yaml, step 2 of 2: second.yaml",
    ]
    taken = HandedOn.load(StudyFolder(Path("runs/second")))
    verdict = json.loads(Path("runs/first/verdict.json").read_text())
    assert taken is not None
    assert (taken.study, taken.epoch, taken.config.rank) == ("first", verdict["decision"]["epoch"], 8)
    assert taken.lora == str(Path("runs/first").resolve() / verdict["files"]["LoRA"])
    monkeypatch.delattr(search.run, "Team")  # nothing runs any more
    assert search.run.main([str(small_flow)]) == 0
    again = capsys.readouterr().out
    assert "study first is finished." in again
    assert again.count("╭") == 1, "the last verdict is shown, of the others a line"
    assert verdict["headline"] in again


def test_it_stops_where_photos_should_change_until_it_is_told_to_go_on(small_flow: Path, capsys) -> None:
    page = Path("runs/first/data_check.json")
    write_json(page, {"needs_changes": True})
    assert search.run.main([str(small_flow)]) == 2
    assert f"stopped: photos or captions should change first: {page}" in capsys.readouterr().out
    assert not Path("runs/second").exists()
    assert search.run.main([str(small_flow), "--go-on"]) == 0
    capsys.readouterr()
    assert search.run.main([str(small_flow)]) == 0, "the next study has begun: it was answered before"
    write_json(page, {"needs_changes": False})
    assert search.run.main([str(small_flow)]) == 0


def test_mistakes_of_later_studies_are_told_before_anything_runs(small_flow: Path, capsys) -> None:
    second = small_flow.with_name("second.yaml")
    second.write_text(second.read_text() + "budgt: {}\n")
    assert search.run.main([str(small_flow)]) == 2
    assert f"{second}: budgt: " in capsys.readouterr().err
    assert not Path("runs/first").exists()


def test_a_study_that_takes_something_waits_for_the_other_one(small_flow: Path, capsys) -> None:
    second = small_flow.with_name("second.yaml")
    first = small_flow.with_name("first.yaml")
    assert search.run.main([str(second)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"run it first: python -m search.run {first}" in said
    assert search.run.main([str(first)]) == 0
    assert load_study(second).handed_on is not None


def test_what_was_taken_stays_when_the_other_study_finds_something_else(small_flow: Path) -> None:
    assert search.run.main([str(small_flow)]) == 0
    second, path = small_flow.with_name("second.yaml"), Path("runs/first/verdict.json")
    before = load_study(second).handed_on
    verdict = json.loads(path.read_text())
    verdict["decision"]["epoch"] = 2 if before.epoch == 4 else 4
    path.write_text(json.dumps(verdict))
    after = load_study(second)
    assert after.handed_on == before
    assert any(f"goes on with epoch {before.epoch}" in notice for notice in after.notices)
    path.unlink()
    assert load_study(second).handed_on == before, "the other study may be gone"


def test_a_study_that_ships_nothing_hands_nothing_on(small_flow: Path) -> None:
    assert search.run.main([str(small_flow.with_name("first.yaml"))]) == 0
    path = Path("runs/first/verdict.json")
    verdict = json.loads(path.read_text())
    verdict["decision"] |= {"ship": False, "outcome": "poor"}
    path.write_text(json.dumps(verdict | {"headline": "Ship nothing yet: …"}))
    with pytest.raises(StudyError, match=r"second\.yaml: from: expected .*Ship nothing yet"):
        load_study(small_flow.with_name("second.yaml"))


@pytest.mark.parametrize("named", ["nowhere.yaml", "second.yaml", "", 3])
def test_what_cannot_hand_anything_on_is_refused(small_flow: Path, named: object) -> None:
    second = small_flow.with_name("second.yaml")
    second.write_text(yaml.safe_dump(yaml.safe_load(second.read_text()) | {"from": named}))
    with pytest.raises(StudyError) as caught:
        load_study(second)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("flow: []", "flow"),
        ("flow: first.yaml", "flow"),
        ("flow: [first.yaml, nowhere.yaml]", "flow[1]"),
        ("flow: [first.yaml, first.yaml]", "study"),
        ("flow: [flow.yaml]", "flow[0]"),
        ("flow: [first.yaml, 3]", "flow[1]"),
        ("flow: [first.yaml]\nstudy: x", "study"),
    ],
)
def test_a_flow_that_cannot_run_is_refused_in_a_line(small_flow: Path, text: str, key: str) -> None:
    small_flow.write_text(text)
    with pytest.raises(StudyError) as caught:
        read_flow(small_flow)
    (line,) = caught.value.problems
    assert f": {key}: expected" in line


def test_status_shows_each_study_and_others_name_them(small_flow: Path, capsys) -> None:
    assert search.run.main([str(small_flow.with_name("first.yaml"))]) == 0
    capsys.readouterr()
    assert status.main([str(small_flow)]) == 0
    said = capsys.readouterr().out
    assert "study first" in said
    assert "study second" in said
    assert "has not begun" in said
    for command in (dashboard, export):
        more = ["--to", "out"] if command is export else []
        assert command.main([str(small_flow), *more]) == 2
        assert "first.yaml, " in capsys.readouterr().err


def test_go_on_belongs_to_a_flow(small_flow: Path, capsys) -> None:
    assert search.run.main([str(small_flow.with_name("first.yaml")), "--go-on"]) == 2
    assert "--go-on" in capsys.readouterr().err


def test_init_writes_a_flow_for_own_photos(
    tiny_photos: Path, tiny_sd15: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert flow.main(["init", "my dog", "--base", str(tiny_sd15), "--data", str(tiny_photos)]) == 0
    made = read_flow(tmp_path / "my dog" / "flow.yaml")
    assert made is not None
    assert {step.file.name for step in made.steps} == {step.file.name for step in read_flow(FLOW / "flow.yaml").steps}
    studies = []
    for step in made.steps:
        studies.append(load_study(step.file, to_come=[study.name for study in studies]))
        assert (studies[-1].base, studies[-1].data) == (str(tiny_sd15), str(tiny_photos))
        assert step.study.startswith("my dog-")
    assert flow.main(["init", "my dog", "--base", str(tiny_sd15), "--data", str(tiny_photos)]) == 2
    assert flow.main(["init", "b", "--base", str(tiny_sd15), "--data", "nowhere"]) == 2
    assert "--data: expected" in capsys.readouterr().err


def test_the_demo_flow_loads_before_anything_has_run(tmp_path: Path) -> None:
    names: list[str] = []
    for step in read_flow(FLOW / "flow.yaml").steps:
        load_study(step.file, runs=tmp_path, to_come=names)
        names.append(step.study)
