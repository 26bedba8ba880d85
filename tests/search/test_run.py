"""`search.run` from its command line to a verdict, with workers in its own process: what it says, keeps and refuses."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import search.run
from search.record.json_files import write_json
from search.record.learned_from import LearnedFrom
from search.record.lock import locked, worker_lock
from search.record.record import PROBE_FILE, StudyFolder, TrialRecord
from search.recovery.study_json import About
from search.running.finals_cost import FinalsCost
from search.study.json_schema import study_schema
from search.study.study import Study, load_study
from search.tuning import learned
from search.verdict import best_folder
from search.verdict.verdict import Verdict
from tests.search.one_process import OneProcess

PROBE = {"prompts": ["a photo of sks toy"], "sets": ["C"], "seeds": [11, 12], "size": [64, 64]}


class Runs:
    """A study file, and where it runs."""

    def __init__(self, file: Path, counts: list[int]) -> None:
        self.file, self.home, self.counts = file, file.parent / "runs", counts
        self.folder = StudyFolder(self.home / "small")

    def __call__(self, *options: str) -> int:
        return search.run.main([str(self.file), "--runs", str(self.home), *options])


@pytest.fixture
def runs(write_study: Callable[..., Path], tiny_sd15: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    counts: list[int] = []

    @contextlib.contextmanager
    def here(study: Study) -> Iterator[Any]:
        class Place:
            def team(self, study: Study, folder: StudyFolder) -> OneProcess:
                counts.append(study.workers.count)
                write_json(folder.path / PROBE_FILE, PROBE)
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


def test_what_a_study_learns_from_is_kept_with_it_and_told(runs: Runs, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    study, other = load_study(runs.file), StudyFolder(runs.home / "earlier")
    for number in range(learned._LEAST):
        params = {"rank": 4, "learning_rate_scale": 1.0 + number}
        config = study.config(params)
        TrialRecord(number, "complete", config, params, 6, value=0.1 * number).save(other.trial(number))
    with monkeypatch.context() as patch:
        patch.setattr(OneProcess, "receive", lambda *given: 1 / 0)
        assert runs("--set", "sampler.learn_from=[earlier]") == 1
    kept = LearnedFrom.load(runs.folder)
    assert kept is not None
    assert (kept.studies, len(kept.examples)) == (("earlier",), learned._LEAST)
    count = learned._LEAST
    told = f"note: sampler.learn_from: earlier: {count} of its {count} complete trials fit this search"
    assert capsys.readouterr().out.count(told) == 1


def test_settings_that_change_before_anything_was_trained_begin_the_study_anew(
    runs: Runs, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(OneProcess, "receive", lambda *given: 1 / 0)
        assert runs() == 1
    assert not (runs.folder.trial(0) / "trajectory.csv").exists()
    capsys.readouterr()
    assert runs("--set", "train.batch_size=2") == 0
    said = capsys.readouterr().out
    assert said.count("note: nothing has been trained with the earlier settings: the study begins anew with these") == 1
    records = list(runs.folder.records())
    assert [record.config.batch_size for record in records] == [2, 2]
    assert runs("--set", "train.batch_size=2") == 0
    assert "begins anew" not in capsys.readouterr().out


class Seen(Exception):
    pass


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((), {"slots": 2, "seconds": None, "prunes": True, "stops": True}),
        (("budget.hours=2", "stop.prune=false"), {"slots": 2, "seconds": 7200 - 50.0, "prunes": False, "stops": True}),
        (("workers.count=1", "stop.onset=false"), {"slots": 1, "seconds": None, "prunes": True, "stops": False}),
        (("workers.count=1", "workers.pack=2"), {"slots": 2, "seconds": None, "prunes": True, "stops": True}),
        (("workers.count=1", "workers.pack=auto"), {"slots": 1, "seconds": None, "prunes": True, "stops": True}),
    ],
)
def test_the_board_is_told_what_is_to_come(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], expected: dict[str, Any]
) -> None:
    """In a sitting after one of 50 s."""
    boards: list[tuple[Any, ...]] = []

    def board(name: str, trials: int, slots: int, **more: Any) -> None:
        boards.append((name, trials, {"slots": slots, **more}))
        raise Seen

    write_json(runs.folder.path / "clock.json", {"seconds": 50.0})
    monkeypatch.setattr("search.running.progress.Board", board)
    assert runs(*(part for each in settings for part in ("--set", each))) == 1
    ((name, trials, told),) = boards
    assert (name, trials) == ("small", 2)
    assert told["spent_seconds"] == pytest.approx(50.0, abs=30.0)
    assert set(told["horizons"]) == {6}
    assert told["finals"] == FinalsCost.of(load_study(runs.file, settings))
    if expected["seconds"] is not None:
        expected["seconds"] = pytest.approx(expected["seconds"], abs=30.0)
    assert {key: told[key] for key in expected} == expected


def test_a_dry_run_tells_its_bill_and_trains_nothing(runs: Runs, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def measure(study: Study, folder: StudyFolder) -> Any:
        measured.append(study.name)
        assert folder == runs.folder
        return SimpleNamespace(notices=("of the photos",), lines=lambda: ["line one", "line two"])

    monkeypatch.setattr("search.running.bill.measure", measure)
    assert runs("--dry-run", "--set", "score.holdout=0") == 0
    said = capsys.readouterr().out.splitlines()
    assert measured == ["small"]
    assert said[-4:-1] == ["note: of the photos", "line one", "line two"]
    assert said[-1].startswith("No trial was trained.")
    notices = load_study(runs.file, ["score.holdout=0"]).notices
    assert said[:-4] == [f"note: {notice}" for notice in notices]
    assert not runs.folder.study_file.exists()


def test_interrupted_it_says_that_what_is_finished_is_kept(runs: Runs, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    receive = OneProcess.receive
    turns = [4]

    def interrupted(team: OneProcess, timeout: float) -> Any:
        turns[0] -= 1
        if not turns[0]:
            raise KeyboardInterrupt
        return receive(team, timeout)

    monkeypatch.setattr(OneProcess, "receive", interrupted)
    monkeypatch.setattr(OneProcess, "close", lambda team, grace_seconds=3.0: closed.append(team.count))
    assert runs() == 130
    assert "interrupted; everything finished so far is kept: the same command goes on" in capsys.readouterr().err
    assert closed == [2]
    monkeypatch.undo()


def test_block_weights_are_judged_and_then_told(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, done = StudyFolder(tmp_path), list[Any]()
    study: Any = SimpleNamespace(base="the base", keep="what to keep")
    clock: Any = SimpleNamespace(seconds=77.0, tick=lambda: done.append("ticked"))

    def judge(given: Any, home: StudyFolder, say: Callable[[str], None]) -> str:
        assert (given, home) == (study, folder)
        say("looking")
        done.append("judged")
        return "the judgement"

    def finish(home: StudyFolder, judgement: str, **more: Any) -> None:
        done.append((home, judgement, more))

    monkeypatch.setattr("search.running.judging.judge", judge)
    monkeypatch.setattr("search.verdict.delivery_verdict.finish_delivery", finish)
    publish: Any = object()
    search.run._deliver(study, folder, clock, publish)
    told = {"base": "the base", "wall_seconds": 77.0, "keep": "what to keep", "publish": publish}
    assert done == ["judged", "ticked", (folder, "the judgement", told)]
    assert capsys.readouterr().out == "note: looking\n"


def test_what_a_kill_left_is_put_right_before_anything_is_trained(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs() == 0
    shipped = sorted(path.name for path in runs.folder.best_folder.iterdir())
    runs.folder.best_folder.rename(runs.folder.path / best_folder._OLD)
    leftover = runs.folder.path / ".verdict.json.a1b2c3.part"
    leftover.touch()
    with monkeypatch.context() as patch:
        patch.setattr(OneProcess, "receive", lambda *given: 1 / 0)
        assert runs("--set", "budget.trials=3") == 1
    assert sorted(path.name for path in runs.folder.best_folder.iterdir()) == shipped
    assert not leftover.exists()
    assert not (runs.folder.path / best_folder._OLD).exists()
