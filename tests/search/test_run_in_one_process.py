"""`search.run` from its command line to a verdict, with workers in its own process: what it says, keeps and refuses."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import search.run
from search.record.json_files import write_json
from search.record.lock import locked, worker_lock
from search.record.record import PROBE_FILE, StudyFolder
from search.recovery.study_json import About
from search.study.json_schema import study_schema
from search.study.study import Study, load_study
from search.verdict.verdict import Verdict
from tests.search.one_process import OneProcess

PROBE = {"prompts": ["a photo of sks toy"], "sets": ["C"], "seeds": [11, 12], "size": [64, 64]}


class Runs:
    """A study file, and where it runs."""

    def __init__(self, file: Path, counts: list[int]) -> None:
        self.file, self.home, self.counts = file, file.parent / "runs", counts
        self.folder = StudyFolder(self.home / "small")

    def __call__(self, *options: str) -> int:
        write_json(self.folder.path / PROBE_FILE, PROBE)
        return search.run.main([str(self.file), "--runs", str(self.home), *options])


@pytest.fixture
def runs(write_study: Callable[..., Path], tiny_sd15: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    counts: list[int] = []

    @contextlib.contextmanager
    def here(study: Study) -> Iterator[Any]:
        class Place:
            def team(self, study: Study, folder: StudyFolder) -> OneProcess:
                counts.append(study.workers.count)
                return OneProcess(study.workers.count, folder)

        yield Place()

    monkeypatch.setattr(search.run, "place_of", here)
    file = write_study(
        base=str(tiny_sd15),
        score={"encoder": str(tiny_clip), "holdout": 2},
        train={"resolution": 64, "save_every_n_epochs": 2, "epochs": 6},
        budget={"trials": 2, "startup_trials": 2},
        workers={"count": 5},
    )
    return Runs(file, counts)


def test_a_study_runs_to_its_verdict_and_keeps_what_it_ran_with(runs: Runs, capsys) -> None:
    assert runs() == 0
    study = load_study(runs.file)
    verdict = Verdict.load(runs.folder.verdict_file)
    assert len(verdict.trials) == 2
    assert runs.counts == [2], "no more workers than trials"
    assert runs.folder.study_file.read_bytes() == study.source.kept()
    about = About.load(runs.folder)
    assert about is not None
    assert (about.study, about.digest) == ("small", study.digest)
    assert json.loads((runs.folder.path / "clock.json").read_text())["seconds"] >= 0
    assert verdict.said.headline in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_finished_study_says_so_and_shows_its_verdict_and_a_larger_one_goes_on(runs: Runs, capsys) -> None:
    assert runs() == 0
    capsys.readouterr()
    before = runs.folder.verdict_file.read_bytes()
    assert runs() == 0
    said = capsys.readouterr().out
    assert "study small is finished: 2 trials. To go on with it, raise the budget." in said
    assert "╭" in said
    assert len(runs.counts) == 1, "no worker is asked for"
    assert runs.folder.verdict_file.read_bytes() == before
    assert runs("--set", "budget.trials=3") == 0
    assert len(Verdict.load(runs.folder.verdict_file).trials) == 3
    assert "budget.trials=3" not in runs.file.read_text()
    assert len(runs.counts) == 2
    assert runs("--set", "budget.trials=3") == 0
    assert len(runs.counts) == 2


def test_a_study_with_one_configuration_is_finished_without_a_word_of_its_budget(runs: Runs, capsys) -> None:
    one = ("--set", "search.rank.values=[4]", "--set", "search.learning_rate_scale={value: 1.0}")
    assert runs(*one) == 0
    capsys.readouterr()
    assert runs(*one) == 0
    assert "study small is finished.\n" in capsys.readouterr().out


def test_while_another_process_runs_the_study_it_is_kept_out(runs: Runs, capsys) -> None:
    runs.folder.path.mkdir(parents=True)
    with locked(runs.folder.path / ".coordinator.lock"):
        assert runs() == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {runs.folder.path}: another process")
    assert said.rstrip().endswith("is running this study")
    assert runs.counts == []
    assert not runs.folder.study_file.exists(), "nothing was written"


def test_workers_of_an_earlier_run_are_waited_for(runs: Runs, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.run, "_GRACE_SECONDS", 0.1)
    runs.folder.path.mkdir(parents=True)
    with locked(worker_lock(runs.folder.path, 0)):
        assert runs() == 1
    assert "workers of an earlier run are still alive" in capsys.readouterr().err
    assert runs.counts == []
    assert runs() == 0


def test_what_belongs_to_a_flow_is_refused(runs: Runs, capsys) -> None:
    assert runs("--go-on") == 2
    assert "--go-on: expected a flow file with it, got a study file" in capsys.readouterr().err


def test_of_a_flow_there_is_no_dry_run(runs: Runs, capsys) -> None:
    runs.file.with_name("flow.yaml").write_text(f"flow: [{runs.file.name}]\n")
    assert search.run.main([str(runs.file.with_name("flow.yaml")), "--dry-run"]) == 2
    assert "--dry-run: expected a study file with it, got a flow file" in capsys.readouterr().err


def test_a_setting_that_changes_what_trials_are_is_refused_by_name(runs: Runs, capsys) -> None:
    assert runs() == 0
    before = runs.folder.study_file.read_bytes()
    assert runs("--set", "train.batch_size=2") == 2
    assert "train.batch_size" in capsys.readouterr().err
    assert runs.folder.study_file.read_bytes() == before


def test_the_schema_needs_no_study(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        search.run.main(["--schema"])
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out) == study_schema()
