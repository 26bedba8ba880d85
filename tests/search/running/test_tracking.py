"""Trials in TensorBoard: what its files hold, read back by TensorBoard, killed and resumed studies included."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from metrics.trajectory.trajectory import Trajectory
from search.errors import StudyError
from search.record.clock import Clock
from search.record.events import Checkpointed, save_readings
from search.record.json_files import write_json
from search.record.record import PROBE_FILE, StudyFolder, TrialRecord
from search.run import work
from search.running.tracking import Tracking, _end, _Kept, _rows, _settings, _steps, _values, tracked
from search.study.study import Study, load_study
from tests.search.conftest import StudyWriter
from tests.search.finished_studies import Plan, planted
from tests.search.one_process import OneProcess

BOARD = {"log_with": "tensorboard", "logging_dir": "logs"}


def runs_of(folder: Path) -> dict[str, EventAccumulator]:
    """Trial to what TensorBoard reads of it."""
    found = {}
    for run in sorted(folder.glob("*/trial-*")):
        found[run.name[:10]] = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    return found


def steps_of(run: EventAccumulator) -> dict[str, list[int]]:
    return {tag: [event.step for event in run.Scalars(tag)] for tag in run.Tags()["scalars"]}


class Trial:
    """A trial on its way, as a worker and the coordinator leave it."""

    def __init__(self, study: Study, number: int = 0, epochs: int = 8) -> None:
        self.study, self.folder = study, StudyFolder(study.file.parent / "runs" / study.name)
        self.home, self.told = self.folder.trial(number), list[str]()
        config = study.config({"rank": 4, "learning_rate_scale": 2.0, "epochs": epochs})
        self.record = TrialRecord(number, "running", config, {"rank": 4, "learning_rate_scale": 2.0}, epochs)
        self.trajectory = planted(Plan({}), epochs, 3)
        save_readings(Checkpointed.file(self.home, 0), self.trajectory.readings[0])
        self.tracking = self.sitting()

    def sitting(self) -> Tracking:
        return Tracking(self.study, self.folder, self.told.append)

    def measured(self, epoch: int) -> None:
        """The worker has come to this checkpoint."""
        readings = next(r for r in self.trajectory.readings if r.epoch == epoch)
        Checkpointed(self.record.number, epoch, readings, {}, {}, loss=1 / epoch).save(self.home)

    def decided(self, epoch: int, **changes: Any) -> None:
        """The coordinator has decided on it."""
        self.record = replace(self.record, epochs_trained=epoch, **changes)
        self.tracking.seen(self.record)


@pytest.fixture
def trial(write_study: StudyWriter) -> Trial:
    return Trial(load_study(write_study(track=BOARD)))


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def test_each_checkpoint_is_there_with_loss_readings_score_and_the_settings(trial: Trial, logs: Path) -> None:
    for epoch in (2, 4, 6):
        trial.measured(epoch)
        trial.decided(min(epoch, 4))  # the worker is ahead
    trial.decided(6, state="complete", score=0.61, epoch_shipped=4)
    run = runs_of(logs)["trial-0000"]
    steps = steps_of(run)
    assert steps["score"] == steps["readings/fidelity"] == steps["readings/heldout_loss"] == [0, 2, 4, 6]
    assert steps["loss"] == [2, 4, 6]
    rows = {row.epoch: row for row in trial.trajectory.readings}
    for event in run.Scalars("score"):
        assert event.value == pytest.approx(rows[event.step].score)
    assert [event.value for event in run.Scalars("loss")] == pytest.approx([1 / 2, 1 / 4, 1 / 6])
    assert [run.Scalars(f"final/{name}")[0].value for name in ("score", "epoch_shipped")] == pytest.approx([0.61, 4])
    start = run.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    given = plugin_data_pb2.HParamsPluginData.FromString(start).session_start_info.hparams
    assert (given["rank"].number_value, given["learning_rate_scale"].number_value) == (4, 2.0)
    assert not any(str(trial.home.parents[2]) in str(value) for value in given.values()), "no path of this machine"
    assert trial.told == []


def test_a_sitting_after_another_adds_no_step_twice_and_leaves_none_out(trial: Trial, logs: Path) -> None:
    for epoch in (2, 4):
        trial.measured(epoch)
        trial.decided(epoch)
    kept = (trial.home / "tracked.json").read_bytes()
    trial.measured(6)
    trial.decided(6)
    (trial.home / "tracked.json").write_bytes(kept)  # killed after the log was written, before that was noted
    trial.tracking = trial.sitting()
    trial.measured(8)
    trial.decided(8)
    trial.decided(8, state="complete", score=0.5, epoch_shipped=8)
    trial.sitting().seen(trial.record)
    (run,) = runs_of(logs).values()
    for tag, steps in steps_of(run).items():
        assert max(Counter(steps).values()) == 1, tag
    assert steps_of(run)["score"] == [0, 2, 4, 6, 8]


def test_a_log_that_was_cut_off_goes_on(trial: Trial, logs: Path) -> None:
    for epoch in (2, 4):
        trial.measured(epoch)
        trial.decided(epoch)
    (newest, *_) = sorted(logs.glob("*/trial-*/events.*"), key=lambda path: path.stat().st_size, reverse=True)
    newest.write_bytes(newest.read_bytes()[:-20])
    (trial.home / "tracked.json").unlink()
    trial.tracking = trial.sitting()
    trial.decided(4)
    assert trial.told == []
    assert {0, 2, 4} <= set(steps_of(list(runs_of(logs).values())[-1])["score"])


def test_trials_that_ended_untracked_are_caught_up_with_from_their_tables(trial: Trial, logs: Path) -> None:
    trial.trajectory.save(trial.home)
    (trial.home / "readings" / "0000.npz").unlink()
    trial.decided(8, state="pruned")
    steps = steps_of(runs_of(logs)["trial-0000"])
    assert steps["score"] == [0, 2, 4, 6, 8]
    assert "loss" not in steps


def test_a_tracker_in_trouble_is_told_once_and_ends_nothing(trial: Trial, logs: Path) -> None:
    logs.write_text("a file where the folder should be")
    for epoch in (2, 4):
        trial.measured(epoch)
        trial.decided(epoch)
    (line,) = trial.told
    assert line.startswith("track.log_with: tensorboard cannot go on, so the study does without it (")
    assert "\n" not in line


def test_off_by_default_nothing_is_written_or_loaded(write_study: StudyWriter, tmp_path: Path) -> None:
    trial = Trial(load_study(write_study()))
    trial.measured(2)
    trial.decided(2)
    assert not list(tmp_path.rglob("*tfevents*"))
    assert not (trial.home / "tracked.json").exists()


def test_a_whole_search_is_there_trial_by_trial(write_study: StudyWriter) -> None:
    file = write_study(
        train={"resolution": 64, "save_every_n_epochs": 2, "epochs": 6},
        budget={"trials": 3},
        finalists={"trials": 0},
        track={"log_with": "tensorboard", "log_tracker_name": "mine"},
    )
    study = load_study(file)
    folder = StudyFolder(file.parent / "runs" / study.name)
    probe = {"prompts": ["a toy"], "sets": ["C"], "seeds": [11, 12], "size": [64, 64], "trained": ["a"]}
    write_json(folder.path / PROBE_FILE, probe)
    work(study, folder, OneProcess(2, folder), Clock(folder))
    runs = runs_of(folder.path / "logs")
    assert sorted(runs) == [f"trial-{record.number:04d}" for record in folder.records()]
    for record in folder.records():
        trajectory: Trajectory = folder.trajectory(record.number)
        scores = {event.step: event.value for event in runs[f"trial-{record.number:04d}"].Scalars("score")}
        assert scores == pytest.approx(dict(zip(trajectory.epochs.tolist(), trajectory.scores.tolist(), strict=True)))
    assert next((folder.path / "logs").iterdir()).name == "mine"


@pytest.mark.parametrize(
    ("track", "told"),
    [
        ({"log_with": "mlflow"}, "track.log_with: expected"),
        ({"log_with": "tensorboard", "logging_dir": "study.yaml"}, "track.logging_dir: expected a folder"),
        ({"log_tracker_name": "../up"}, "track.log_tracker_name: expected"),
        ({"with": "tensorboard"}, "track.with: expected"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(write_study: StudyWriter, track: dict[str, str], told: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write_study(track=track))
    (line,) = caught.value.problems
    assert told in line


def test_a_tracker_that_is_not_installed_is_told_before_anything_is_loaded(
    write_study: StudyWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.study.checks.importlib.util.find_spec", lambda name: None)
    with pytest.raises(StudyError, match=r"a tracker that is installed, got 'wandb': pip inst"):
        load_study(write_study(track={"log_with": "wandb"}))


def test_it_may_change_while_a_study_goes_on(write_study: StudyWriter) -> None:
    plain, tracked = (load_study(write_study(track=track)) for track in ({}, BOARD))
    assert (plain.digest, plain.probe_digest) == (tracked.digest, tracked.probe_digest)
    assert math.isnan(Checkpointed(0, 2, planted(Plan({}), 2, 0).readings[0]).loss)


def test_what_is_known_of_a_run_counts_in_its_place_only_and_as_long_as_it_can_be_read(tmp_path: Path) -> None:
    new = _Kept.load(tmp_path, "tensorboard here")
    assert (new.place, new.epoch, new.ended, len(new.run)) == ("tensorboard here", -1, False, 8)
    assert _Kept.load(tmp_path, "tensorboard here").run != new.run, "nothing was kept"
    kept = _Kept("tensorboard here", "abc", 4, True)
    kept.save(tmp_path)
    assert _Kept.load(tmp_path, "tensorboard here") == kept
    assert _Kept.load(tmp_path, "wandb here").epoch == -1
    for damage in (
        '{"place": "tensorboard here"}',
        "half",
        '{"place": "tensorboard here", "run": "a", "more": 1}',
        "[]",
    ):
        (tmp_path / "tracked.json").write_text(damage)
        assert _Kept.load(tmp_path, "tensorboard here").epoch == -1


def test_epochs_are_logged_once_from_the_base_on_as_far_as_they_were_decided(trial: Trial) -> None:
    for epoch in (2, 4, 6):
        trial.measured(epoch)
    record = replace(trial.record, epochs_trained=4)
    assert [epoch for epoch, _ in _rows(trial.home, record, -1)] == [0, 2, 4]
    assert [epoch for epoch, _ in _rows(trial.home, record, 0)] == [2, 4]
    assert [epoch for epoch, _ in _rows(trial.home, record, 4)] == []
    (_, base), (_, second), _ = _rows(trial.home, record, -1)
    assert "loss" not in base
    assert second["loss"] == 1 / 2
    for file in (trial.home / "readings").iterdir():
        file.unlink()
    assert list(_rows(trial.home, record, -1)) == []
    trial.trajectory.save(trial.home)
    assert [epoch for epoch, _ in _rows(trial.home, record, 2)] == [4, 6, 8], "of a trial that ended its table"


def test_only_numbers_are_logged(trial: Trial) -> None:
    readings = trial.trajectory.readings[1]
    found = _values(readings)
    assert found == {
        "score": readings.score,
        **{f"readings/{name}": reading.value for name, reading in readings.channels.items()},
    }
    assert "score" not in _values(replace(readings, score=math.nan))
    ended = replace(trial.record, state="complete", score=0.5, epoch_shipped=4)
    assert _end(ended) == {"final/score": 0.5, "final/epoch_shipped": 4.0}
    assert _end(replace(ended, score=math.nan)) == {"final/epoch_shipped": 4.0}
    assert _end(trial.record) == {}


def test_settings_are_what_is_not_as_usual_and_what_was_searched_in_plain_values(trial: Trial) -> None:
    given = _settings(replace(trial.record, params={"rank": 4, "targets": ["a", "b"], "nothing": None}))
    assert given["rank"] == 4
    assert given["targets"] == '["a", "b"]'
    assert "nothing" not in given
    assert given["resolution"] == 64
    config, fields = trial.record.config, type(trial.record.config).model_fields
    usual = {name for name, field in fields.items() if getattr(config, name) == field.default}
    assert "optimizer" in usual or "lr_scheduler" in usual
    assert not given.keys() & usual - {"rank", "targets"}


def test_before_optuna_is_told_a_trial_is_logged_and_then_uploaded(trial: Trial, logs: Path) -> None:
    done: list[tuple[Any, Path, bool]] = []

    def upload(one: Any, home: Path) -> None:
        done.append((one, home, (trial.home / "tracked.json").is_file()))

    board: Any = SimpleNamespace(note=trial.told.append, track=None)
    before_tell = tracked(trial.study, trial.folder, board, upload)
    trial.measured(2)
    ended = replace(trial.record, epochs_trained=2, state="complete", score=0.5, epoch_shipped=2)
    one: Any = "the trial"
    before_tell(one, ended)
    assert done == [("the trial", trial.home, True)]
    assert steps_of(runs_of(logs)["trial-0000"])["score"] == [0, 2]
    assert _Kept.load(trial.home, trial.tracking._place).ended
    board.track(replace(ended, number=7, state="running", epochs_trained=0))
    assert trial.told == []
    assert _steps(logs / "nowhere") == {}


def test_weights_and_biases_is_told_each_step_once_under_one_name(
    write_study: StudyWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own part is played: it needs an account."""
    opened: list[Any] = []

    class Tracker:
        def __init__(self, project: str, **about: Any) -> None:
            self.project, self.about, self.logged, self.finished = project, about, list[Any](), 0
            self.tracker = SimpleNamespace(step=3 if opened else 0)
            opened.append(self)

        def log(self, values: Any, step: int) -> None:
            self.logged.append((step, values.get("score")))

        def finish(self) -> None:
            self.finished += 1

    monkeypatch.setattr("accelerate.tracking.WandBTracker", Tracker)
    study = load_study(write_study(track=BOARD))
    track = study.track.model_copy(update={"log_with": "wandb", "log_tracker_name": "dogs"})
    trial = Trial(replace(study, track=track))
    scores = {reading.epoch: reading.score for reading in trial.trajectory.readings}
    for epoch in (2, 4):
        trial.measured(epoch)
    trial.decided(2)
    (run,) = opened
    assert (run.project, run.logged, run.finished) == ("dogs", [(0, scores[0]), (2, scores[2])], 0)
    assert (run.about["name"], run.about["group"], run.about["resume"]) == ("small-trial-0000", "small", "allow")
    assert run.about["config"]["learning_rate_scale"] == 2.0
    assert Path(run.about["dir"]).is_dir()
    trial.tracking = trial.sitting()
    trial.decided(4, state="complete", score=0.5, epoch_shipped=4)
    assert trial.told == []
    _, again = opened
    assert again.about["id"] == run.about["id"]
    assert again.finished == 1
    assert again.logged == [(4, scores[4]), (4, None)], "it takes no step that lies behind, and the end comes last"


def test_a_run_that_has_nothing_new_is_not_opened(trial: Trial, logs: Path) -> None:
    trial.decided(0, state="running")
    assert trial.tracking._runs.keys() == {0}, "the base is something"
    again = trial.sitting()
    again.seen(trial.record)
    assert not again._runs
    again.seen(replace(trial.record, state="failed"))
    assert not again._runs, "closed at its end"
    assert _Kept.load(trial.home, again._place).ended
