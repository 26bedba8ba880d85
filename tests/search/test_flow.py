"""A flow through the command line: each study in turn, results handed on, stopped only where photos should change."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest
import yaml

import search.run
import search.running.placing
from search import dashboard, export, flow, status
from search.errors import StudyError
from search.record.data_check import DataCheck, Finding
from search.record.handed_on import HandedOn
from search.record.json_files import write_json
from search.record.record import PROBE_FILE, StudyFolder
from search.study.flow_file import read_flow
from search.study.study import load_study
from search.verdict.verdict import Verdict, make_verdict
from tests.messages import refusal
from tests.search.conftest import study_writer
from tests.search.one_process import OneProcess

PROBE = {"prompts": ["a photo of sks toy"], "sets": ["C"], "seeds": [11, 12], "size": [64, 64], "trained": ["a"]}
FLOW = Path(__file__).parents[2] / "studies" / "flow"


def write_flow(home: Path, base: Path) -> Path:
    """Two studies; the second takes what the first has found."""
    values = yaml.safe_load(study_writer(home)(drop=["search", "budget"]).read_text())
    train = {"resolution": 64, "save_every_n_epochs": 2, "rank": 8}
    del values["train"]
    (home / "common.yaml").write_text(yaml.safe_dump(values | {"base": str(base)}))
    second = {"from": "first.yaml", "final": {"past": 1}}
    for name, more, epochs in (("first", {}, {"epochs": 4}), ("second", second, {})):
        text = yaml.safe_dump({"study": name, "extends": "common.yaml", "train": train | epochs, **more})
        (home / f"{name}.yaml").write_text(text)
    (home / "flow.yaml").write_text("flow: [first.yaml, second.yaml]\n")
    return home / "flow.yaml"


def team(target: object, setup: tuple[object, StudyFolder], count: int, **more: object) -> OneProcess:
    """Workers that train nothing."""
    write_json(setup[1].path / PROBE_FILE, PROBE)
    return OneProcess(count, setup[1])


@pytest.fixture
def small_flow(tiny_sd15: Path, tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search.running.placing, "Team", team)
    return write_flow(tmp_path, tiny_sd15)


@pytest.fixture(scope="module")
def ran(tiny_sd15: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A flow that has run, and what was said."""
    home, said = tmp_path_factory.mktemp("ran"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.chdir(home)
        patch.setattr(search.running.placing, "Team", team)
        assert search.run.main([str(write_flow(home, tiny_sd15))]) == 0
    return home, said.getvalue()


@pytest.fixture
def ran_flow(ran: tuple[Path, str], tmp_path: Path, monkeypatch) -> Path:
    """A copy of it, to which no worker comes any more."""
    shutil.copytree(ran[0], tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.delattr(search.running.placing, "Team")
    return tmp_path / "home" / "flow.yaml"


def test_each_study_runs_and_takes_what_the_one_before_has_found(ran: tuple[Path, str]) -> None:
    home, said = ran
    assert [line for line in said.splitlines() if ", step " in line] == [
        "flow.yaml, step 1 of 2: first.yaml",
        "flow.yaml, step 2 of 2: second.yaml",
    ]
    taken = HandedOn.load(StudyFolder(home / "runs" / "second"))
    verdict = json.loads((home / "runs/first/verdict.json").read_text())
    assert taken is not None
    assert (taken.study, taken.epoch, taken.config.rank) == ("first", verdict["decision"]["epoch"], 8)
    assert taken.lora == str(home / "runs" / "first" / verdict["files"]["LoRA"])


def test_a_finished_flow_returns_at_once(ran_flow: Path, capsys) -> None:
    assert search.run.main([str(ran_flow)]) == 0
    again = capsys.readouterr().out
    assert "study first is finished." in again
    assert again.count("╭") == 1, "the last verdict is shown, of the others a line"
    assert json.loads(Path("runs/first/verdict.json").read_text())["headline"] in again


def test_of_a_data_check_it_says_what_was_found_rather_than_what_to_ship(ran_flow: Path, capsys) -> None:
    first = Path("runs/first")
    once = Finding("tag_everywhere", "reword", ("1.png",), tag="large")
    DataCheck("first", "", 3, 3.0, findings=(once,), trained=True).save(first)
    (first / "data_check.html").write_text("the page")
    ship = json.loads((first / "verdict.json").read_text())["headline"]
    make_verdict(StudyFolder(first)).save(first / "verdict.json")
    assert search.run.main([str(ran_flow)]) == 0
    said = capsys.readouterr().out.partition("step 2 of 2")[0]
    assert "These photos and captions can be trained on\nruns/first/data_check.html" in said
    assert ship not in said
    assert search.run.main([str(ran_flow.with_name("first.yaml"))]) == 0
    said = capsys.readouterr().out
    assert "“large” stands in every caption" in said
    assert ship not in said


def test_it_stops_where_photos_should_change_until_it_is_told_to_go_on(ran_flow: Path, capsys, monkeypatch) -> None:
    page, second = Path("runs/first/data_check.json"), Path("runs/second")
    write_json(page, {"needs_changes": True})
    assert search.run.main([str(ran_flow)]) == 0, "the next study has begun: it was answered before"
    second.rename("before")
    assert search.run.main([str(ran_flow)]) == 2
    assert f"stopped: photos or captions should change first: {page}" in capsys.readouterr().out
    assert not second.exists()
    begun: list[object] = []
    monkeypatch.setattr(search.run, "_run", lambda *args, **more: begun.append(args) or Path("before").rename(second))
    assert search.run.main([str(ran_flow), "--go-on"]) == 0
    second.rename("before")
    write_json(page, {"needs_changes": False})
    assert search.run.main([str(ran_flow)]) == 0
    assert len(begun) == 2


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


def test_what_was_taken_stays_when_the_other_study_finds_something_else(ran_flow: Path) -> None:
    second, path = ran_flow.with_name("second.yaml"), Path("runs/first/verdict.json")
    before = load_study(second).handed_on
    verdict = json.loads(path.read_text())
    verdict["decision"]["epoch"] = 2 if before.epoch == 4 else 4
    path.write_text(json.dumps(verdict))
    after = load_study(second)
    assert after.handed_on == before
    assert any(f"goes on with epoch {before.epoch}" in notice for notice in after.notices)
    path.unlink()
    assert load_study(second).handed_on == before, "the other study may be gone"


def test_a_study_that_ships_nothing_hands_nothing_on(ran_flow: Path) -> None:
    shutil.rmtree("runs/second")
    path = Path("runs/first/verdict.json")
    verdict = json.loads(path.read_text())
    verdict["decision"] |= {"ship": False, "outcome": "poor"}
    path.write_text(json.dumps(verdict | {"headline": "Ship nothing yet: …"}))
    with pytest.raises(StudyError, match=r"second\.yaml: from: expected .*Ship nothing yet"):
        load_study(ran_flow.with_name("second.yaml"))


@pytest.mark.parametrize("named", ["nowhere.yaml", "second.yaml", "", 3, pytest.param("d" * 5000, id="5000 letters")])
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


def test_status_shows_each_study_and_others_name_them(ran_flow: Path, capsys) -> None:
    shutil.rmtree("runs/second")
    assert status.main([str(ran_flow)]) == 0
    said = capsys.readouterr().out
    assert "study first" in said
    assert "study second" in said
    assert "has not begun" in said
    assert dashboard.main([str(ran_flow)]) == 2
    assert "first.yaml, " in capsys.readouterr().err
    assert export.main([str(ran_flow), "--to", "out"]) == 2
    assert "second.yaml" in capsys.readouterr().err, "the final one is meant, which has not run"


def test_a_study_that_takes_nothing_needs_no_other_one(small_flow: Path) -> None:
    second = small_flow.with_name("second.yaml")
    values = yaml.safe_load(second.read_text())
    del values["final"]
    second.write_text(yaml.safe_dump(values))
    with pytest.raises(StudyError, match=refusal("from", "first.yaml", "nothing", second)):
        load_study(second)


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
    command = 'python -m search.run "my dog/flow.yaml"'
    assert command in capsys.readouterr().out
    assert command in (tmp_path / "my dog" / "flow.yaml").read_text()
    assert flow.main(["init", "my dog", "--base", str(tiny_sd15), "--data", str(tiny_photos)]) == 2
    assert flow.main(["init", "b", "--base", str(tiny_sd15), "--data", "nowhere"]) == 2
    assert "--data: expected" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a:b", "con", "x" * 300])
def test_init_makes_no_folder_whose_name_no_study_can_have(
    tiny_photos: Path, tiny_sd15: Path, tmp_path: Path, capsys, name: str
) -> None:
    made = tmp_path / name
    assert flow.main(["init", str(made), "--base", str(tiny_sd15), "--data", str(tiny_photos)]) == 2
    assert "DIR: expected " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_init_keeps_absolute_paths_and_writes_others_as_seen_from_its_files(
    tiny_photos: Path, tiny_sd15: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_photos, tmp_path / "photos")
    assert flow.main(["init", "flows/dog", "--base", str(tiny_sd15), "--data", "photos"]) == 0
    written = yaml.safe_load((tmp_path / "flows" / "dog" / "common.yaml").read_text())
    assert (written["base"], written["data"]) == (str(tiny_sd15), "../../photos")


def test_the_demo_flow_loads_before_anything_has_run(tmp_path: Path) -> None:
    names: list[str] = []
    for step in read_flow(FLOW / "flow.yaml").steps:
        load_study(step.file, runs=tmp_path, to_come=names)
        names.append(step.study)


@pytest.mark.slow
def test_the_flow_runs_from_end_to_end_through_the_command_line(tmp_path: Path, capsys) -> None:
    """The files of studies/flow with a few epochs each, on the demo's photos, of which none has to change."""
    demo, home, runs = FLOW.parent / "demo", tmp_path / "small", tmp_path / "runs"
    home.mkdir()
    every = {"save_every_n_epochs": 1}
    short = {
        "1_data_check.yaml": {"train": {"epochs": 2, **every}, "data_check": {"seeds": 1}},
        "2_border.yaml": {"train": {"epochs": 4, "cycle_epochs": 2, **every}},
        "3_final.yaml": {"train": {"cycle_epochs": 2, **every}},
        "4_delivery.yaml": {"budget": {"trials": 3}},
    }
    probe = {"seeds": 1, "steps": 3, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class} on grass"]}
    score = {"probe": probe, "losses": {"levels": 2, "draws": 1}, "shifted": {"composites": 0}}
    common = {"extends": str(demo / "flow.yaml"), "base": str(demo / "base"), "data": str(demo / "photos")}
    common |= {"score": score, "train": {"learning_rate_scale": 40}, "workers": {"threads": 1}}
    for path in FLOW.glob("*.yaml"):
        values = yaml.safe_load(path.read_text())
        for section, changes in (common if path.name == "common.yaml" else short.get(path.name, {})).items():
            before = values.get(section)
            values[section] = before | changes if isinstance(before, dict) else changes
        (home / path.name).write_text(yaml.safe_dump(values))
    command = [str(home / "flow.yaml"), "--runs", str(runs)]
    assert search.run.main(command) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    border, final = StudyFolder(runs / "demo-2-border"), StudyFolder(runs / "demo-3-final")
    found = Verdict.load(border.verdict_file)
    assert f"from demo-2-border: epoch {found.epoch} × 1.25" in said
    (record,) = final.records()
    assert (record.final.study, record.final.epoch) == ("demo-2-border", found.epoch)
    assert record.epochs >= found.epoch * 1.25
    assert search.run.main(command) == 0
    flow_file = read_flow(home / "flow.yaml")
    assert capsys.readouterr().out.count("is finished") == len(flow_file.steps)
    assert all((runs / step.study / "verdict.json").is_file() for step in flow_file.steps)
    assert export.main([str(home / "flow.yaml"), "--runs", str(runs), "--to", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "demo-3-final.safetensors").is_file()
