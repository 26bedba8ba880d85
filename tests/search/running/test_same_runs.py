"""A run that another trial has had is taken, however it was written, as far as the two are one, and to the last bit."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from metrics.checkpoint.objective import scored_by
from metrics.onset.onset import find_onset
from metrics.trajectory.readings import OWN_SCORE
from metrics.trajectory.trajectory import Trajectory
from search.record.events import Checkpointed, TrialSpec
from search.record.record import StudyFolder, TrialRecord
from search.record.taken_run import RunMark, TakenRun
from search.record.trial_progress import measured_in_a_row
from search.running.same_runs import SameRuns
from search.study.study import Study, load_study
from search.verdict.verdict import Verdict, make_verdict
from tests.search.conftest import study_writer
from tests.search.finished_studies import Plan, planted
from tests.search.recovery.real_studies import outcome, run_here
from trainer.checkpoint import LORA_FILE, STATE_FILE, checkpoint_path, save_state, write_checkpoint
from trainer.config.config import TrainConfig

COMMON = {"base": "the same"}
STEPS = 7


class Runs:
    """Trials that ended, planted; and the next one, which looks for its like."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.study: Study = load_study(study_writer(home)(train={"resolution": 64, "save_every_n_epochs": 2}))

    def config(self, **fields: Any) -> TrainConfig:
        return self.study.config({"rank": 4, "learning_rate_scale": 2.0, "epochs": 8, **fields})

    def same(self, name: str, common: dict[str, Any] | None = None) -> SameRuns:
        return SameRuns(self.study, StudyFolder(self.home / "runs" / name), common or COMMON)

    def ended(
        self, name: str, number: int, *, state: str = "complete", upto: int = 8, has_state: bool = False, **fields: Any
    ) -> Trajectory:
        """A trial that has ended, with its LoRAs; `has_state`: and what it takes to go on."""
        folder = StudyFolder(self.home / "runs" / name).trial(number)
        config = self.config(**fields)
        trajectory = planted(Plan({}), upto, 5)
        trajectory.save(folder)
        self.same(name).mark(config, STEPS, (None, None)).save(folder)
        for epoch in range(2, upto + 1, 2):

            def fill(aside: Path, epoch: int = epoch) -> None:
                save_file({"weights": np.full(4, epoch, np.float32)}, aside / LORA_FILE)
                if has_state:
                    save_state(aside, {"epoch": epoch})

            write_checkpoint(folder / "checkpoints", epoch, fill)
        record = TrialRecord(
            number, state, config, {}, config.epochs, epochs_trained=upto, onset=find_onset(trajectory)
        )
        replace(record, timings={"train": 16.0, "save": 0.0, "sample": 8.0, "score": 4.0}).save(folder)
        return trajectory

    def take(self, name: str = "mine", number: int = 0, common: dict[str, Any] | None = None, **fields: Any) -> Any:
        """What the next trial takes, and its folder."""
        folder, config = StudyFolder(self.home / "runs" / name).trial(number), self.config(**fields)
        folder.mkdir(parents=True, exist_ok=True)
        same = self.same(name, common)
        return same.take(TrialSpec(number, folder, config), same.mark(config, STEPS, (None, None))), folder


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_its_readings_are_taken_bit_for_bit_with_what_they_saved(runs: Runs) -> None:
    trajectory = runs.ended("theirs", 3)
    taken, folder = runs.take()
    assert taken == TakenRun("theirs", 3, looked=8, trained=0, epoch_seconds=2.0, look_seconds=3.0)
    for reading in trajectory.readings[1:]:
        event = Checkpointed.load(folder, 0, reading.epoch)
        assert event.readings.score == reading.score
        assert event.readings.channels == reading.channels
        assert event.readings.items.keys() == reading.items.keys()
        assert all(np.array_equal(values, event.readings.items[name]) for name, values in reading.items.items())
        assert (event.timings, event.readings.effort) == ({}, reading.effort)
        assert (checkpoint_path(folder / "checkpoints", reading.epoch) / LORA_FILE).is_file()
    assert (taken.saved_epochs(8), taken.saved_epochs(4), taken.saved_seconds(8, 2)) == (8, 4, 28.0)
    assert taken.saved_epochs(10) == 0  # what comes after the readings needs all of the training
    assert TakenRun.load(folder) == taken


def test_what_is_taken_is_scored_as_this_study_scores(runs: Runs, tmp_path: Path) -> None:
    trajectory = runs.ended("theirs", 3)
    (tmp_path / "taste.py").write_text("def losses(readings):\n    return -readings['heldout_loss']\n")
    plain = runs.study
    runs.study = load_study(plain.file, ["score.objective=taste:losses"])
    assert runs.study.objective is not None
    taken, folder = runs.take()
    assert taken.looked == 8
    for reading in trajectory.readings[1:]:
        found = Checkpointed.load(folder, 0, reading.epoch).readings
        assert found.score == -reading.channels["heldout_loss"].value
        assert found.channels[OWN_SCORE].value == reading.score
    theirs = Trajectory(tuple(scored_by(runs.study.objective, reading) for reading in trajectory.readings))
    theirs.save(StudyFolder(tmp_path / "runs" / "theirs").trial(3))
    runs.study = plain
    _, folder = runs.take("plain")
    assert Checkpointed.load(folder, 0, 8).readings.score == trajectory.scores[-1]


@pytest.mark.parametrize(
    ("written", "again"),
    [
        ({"learning_rate_scale": 2.0}, {"learning_rate_scale": 1.0, "learning_rate": 2e-4}),
        ({"alpha_ratio": 0.5}, {"alpha": 2.0}),
        ({}, {"weight_decay": 0.01}),
        ({"lr_scheduler": "cosine"}, {"lr_scheduler": "cosine_with_restarts", "num_cycles": 1}),
    ],
)
def test_what_is_trained_counts_and_not_how_it_is_written(runs: Runs, written: dict, again: dict) -> None:
    marks = []
    for fields in (written, again):
        given = {"rank": 4, "epochs": 8, **fields}
        config = runs.study.config({"learning_rate_scale": 2.0, **given} if "learning_rate" not in given else given)
        marks.append(runs.same("mine").mark(config, STEPS, (None, None)))
    assert marks[0] == marks[1]


@pytest.mark.parametrize(
    ("theirs", "mine", "upto"),
    [
        ({"epochs": 8}, {"epochs": 12}, 8),  # constant, prolonged
        ({"epochs": 8}, {"epochs": 4}, 4),
        (
            {"lr_scheduler": "cosine_with_restarts", "cycle_epochs": 4, "epochs": 8},
            {"lr_scheduler": "cosine_with_restarts", "num_cycles": 3, "epochs": 12},
            8,
        ),
        (
            {"lr_scheduler": "constant_with_warmup", "warmup_steps": 5},
            {"lr_scheduler": "constant_with_warmup", "warmup_steps": 5, "epochs": 10},
            8,
        ),
        ({"lr_scheduler": "cosine", "epochs": 8}, {"lr_scheduler": "cosine", "epochs": 12}, 0),
    ],
)
def test_as_far_as_the_learning_rates_are_the_same(runs: Runs, theirs: dict, mine: dict, upto: int) -> None:
    runs.ended("theirs", 0, **theirs)
    taken, folder = runs.take(**mine)
    assert (taken.looked if taken else 0) == upto
    assert measured_in_a_row(folder, runs.config(**mine)) == list(range(2, upto + 1, 2))


@pytest.mark.parametrize("fields", [{"rank": 8}, {"optimizer": "Lion"}, {"seed": 1}, {"learning_rate_scale": 3.0}])
def test_another_run_gives_nothing(runs: Runs, fields: dict) -> None:
    runs.ended("theirs", 0)
    config = TrainConfig.model_validate({**runs.config().model_dump(), **fields})
    same = runs.same("mine")
    mark = same.mark(config, STEPS, (None, None))
    folder = StudyFolder(runs.home / "runs" / "mine").trial(0)
    assert same.take(TrialSpec(0, folder, config), mark) is None
    assert same.mark(runs.config(), STEPS + 1, (None, None)).shared(same.mark(runs.config(), STEPS, (None, None))) == 0


def test_nothing_is_taken_of_other_bases_wider_packs_failed_trials_or_where_it_is_not_wanted(runs: Runs) -> None:
    runs.ended("theirs", 0)
    assert runs.take(common={"base": "another"})[0] is None
    same = runs.same("mine")
    assert same.mark(runs.config(), STEPS, (4, 8)).shared(same.mark(runs.config(), STEPS, (None, None))) == 0
    runs.study = replace(runs.study, budget=runs.study.budget.model_copy(update={"reuse": False}))
    assert runs.take()[0] is None
    shutil.rmtree(runs.home / "runs")
    runs.study = replace(runs.study, budget=runs.study.budget.model_copy(update={"reuse": True}))
    runs.ended("theirs", 0, state="failed")
    assert runs.take()[0] is None


def test_a_lora_that_would_be_shipped_has_to_be_there(runs: Runs) -> None:
    trajectory = runs.ended("theirs", 0)
    best = find_onset(trajectory, ship=runs.study.score.ship).best
    shutil.rmtree(runs.home / "runs" / "theirs" / "trials" / "0000" / "checkpoints" / f"{best:04d}")
    assert runs.take()[0] is None
    assert runs.take(number=1, epochs=12)[0].looked == 8  # this one trains on, and so has it again


def test_it_goes_on_from_the_shared_checkpoint_where_that_was_kept(runs: Runs) -> None:
    runs.ended("theirs", 0, has_state=True)
    taken, folder = runs.take(epochs=12)
    assert (taken.looked, taken.trained, taken.saved_epochs(12)) == (8, 8, 8)
    assert (checkpoint_path(folder / "checkpoints", 8) / STATE_FILE).is_file()


def test_taken_twice_or_cut_off_it_is_taken_once(runs: Runs) -> None:
    runs.ended("theirs", 0)
    taken, folder = runs.take()
    TakenRun.file(folder).unlink()
    Checkpointed.file(folder, 6).unlink()
    shutil.rmtree(folder / "checkpoints" / "0004")
    again, _ = runs.take()
    assert again == taken
    assert measured_in_a_row(folder, runs.config()) == [2, 4, 6, 8]
    shutil.rmtree(runs.home / "runs" / "theirs")
    assert runs.take()[0] == taken
    assert runs.take(number=5)[0] is None  # the trial itself has not ended, so nothing is had of it


def test_pictures_are_taken_as_far_as_the_readings_are(runs: Runs) -> None:
    runs.ended("theirs", 3)
    theirs = StudyFolder(runs.home / "runs" / "theirs")
    for epoch in (0, 2, 6, 8):
        theirs.samples_file(3, epoch).parent.mkdir(exist_ok=True)
        theirs.samples_file(3, epoch).write_text(f"of epoch {epoch}")
    taken, folder = runs.take(epochs=6)
    assert taken.looked == 6
    pictures = {path.name: path.read_text() for path in (folder / "samples").iterdir()}
    assert pictures == {"0002.png": "of epoch 2", "0006.png": "of epoch 6"}  # the base's is the study's own
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["0002", "0004", "0006"]


@pytest.mark.parametrize("kept", [None, (0,), (2, 4)])
def test_without_the_base_or_a_checkpoint_nothing_is_taken(runs: Runs, kept: tuple[int, ...] | None) -> None:
    trajectory = runs.ended("theirs", 3)
    folder = StudyFolder(runs.home / "runs" / "theirs").trial(3)
    if kept is None:
        (folder / "trajectory.csv").write_text("torn")
    else:
        Trajectory(tuple(one for one in trajectory.readings if one.epoch in kept)).save(folder)
    assert runs.take()[0] is None


@pytest.mark.parametrize("damage", ["record", "trajectory", "marked", "failed", "running"])
def test_where_the_first_run_gives_nothing_the_next_one_is_asked(runs: Runs, damage: str) -> None:
    for number in (0, 1):
        runs.ended("theirs", number, state=damage if damage in ("failed", "running") and not number else "complete")
    folder = StudyFolder(runs.home / "runs" / "theirs").trial(0)
    if damage == "marked":
        replace(TrialRecord.load(folder), lost="items.npz").save(folder)
    elif damage in ("record", "trajectory"):
        (folder / {"record": "record.json", "trajectory": "trajectory.csv"}[damage]).write_text("torn")
    assert runs.take()[0].trial == 1


def test_a_run_that_shares_more_goes_first_and_a_pruned_one_counts(runs: Runs) -> None:
    runs.ended("a", 5, upto=4, epochs=4)
    runs.ended("b", 2, epochs=8, state="pruned")
    runs.ended("b", 1, epochs=8)
    assert (runs.take()[0].study, runs.take(number=1)[0].trial) == ("b", 1)
    shutil.rmtree(runs.home / "runs" / "b" / "trials" / "0001")
    assert runs.take(number=2, epochs=12)[0].trial == 2


def test_what_an_earlier_run_had_taken_itself_is_counted_as_it_was_measured(runs: Runs) -> None:
    runs.ended("theirs", 0)
    folder = StudyFolder(runs.home / "runs" / "theirs").trial(0)
    TakenRun("first", 7, looked=8, epoch_seconds=5.0, look_seconds=7.0).save(folder)
    replace(TrialRecord.load(folder).with_taken(folder), timings={}).save(folder)
    taken, _ = runs.take()
    assert (taken.study, taken.trial, taken.epoch_seconds, taken.look_seconds) == ("theirs", 0, 5.0, 7.0)


def test_a_trial_that_has_a_checkpoint_of_its_own_takes_nothing(runs: Runs) -> None:
    runs.ended("theirs", 0)
    folder = StudyFolder(runs.home / "runs" / "mine").trial(0)
    path = checkpoint_path(folder / "checkpoints", 2)
    path.mkdir(parents=True)
    save_state(path, {"epoch": 2})
    assert runs.take()[0] is None
    assert runs.take(number=1)[0] is not None


def test_a_folder_of_trials_is_listed_once_until_it_changes(runs: Runs, monkeypatch) -> None:
    runs.ended("theirs", 3)
    runs.ended("others", 0)
    listed, clock, glob = [], [100.0], Path.glob
    monkeypatch.setattr("search.running.same_runs.time.monotonic", lambda: clock[0])

    def counted(path: Path, pattern: str) -> Any:
        listed.extend([path.parent.name] * (path.name == "trials"))
        return glob(path, pattern)

    monkeypatch.setattr(Path, "glob", counted)
    same = runs.same("mine")

    def known() -> list[tuple[str, str]]:
        listed.clear()
        return [(trial.parent.parent.name, trial.name) for trial, _ in same._known()]

    before = [("others", "0000"), ("theirs", "0003")]
    for seconds, again in (
        (0, 2),
        (1, 2),
        (3, 2),
        (1, 2),
        (1, 0),
        (1000, 0),
    ):  # while a change might bear the same time
        clock[0] += seconds
        assert (known(), len(listed)) == (before, again)
    runs.ended("theirs", 4)
    assert (known(), listed) == ([*before, ("theirs", "0004")], ["theirs"])
    shutil.rmtree(runs.home / "runs" / "others" / "trials" / "0000")
    assert known() == [("theirs", "0003"), ("theirs", "0004")]
    shutil.rmtree(runs.home / "runs" / "others")
    runs.ended("new", 1)
    assert known() == [("new", "0001"), ("theirs", "0003"), ("theirs", "0004")]
    assert same._trials(runs.home / "runs" / "gone" / "trials") == ()


def test_the_study_says_what_that_saved(runs: Runs) -> None:
    runs.ended("mine", 0)
    runs.ended("mine", 1)
    folder = StudyFolder(runs.home / "runs" / "mine")
    record = TrialRecord.load(folder.trial(1))
    taken = TakenRun("theirs", 3, looked=8, epoch_seconds=2.0, look_seconds=3.0)
    replace(record, taken=taken, timings={}).save(folder.trial(1))
    verdict = make_verdict(folder)
    assert (verdict.cost.epochs, verdict.cost.taken, verdict.cost.saved_epochs) == (8, 1, 8)
    assert "that saved 8 trained epochs and 28 s" in verdict.said.took[0]
    assert TrialRecord.load(folder.trial(1)).taken == taken


@pytest.mark.parametrize(
    ("timings", "epoch", "look"),
    [
        ({}, 0.0, 0.0),
        ({"train": 16.0}, 2.0, 0.0),
        ({"save": 4.0}, 0.5, 0.0),
        ({"sample": 8.0}, 0.0, 2.0),
        ({"score": 6.0}, 0.0, 1.5),
    ],
)
def test_what_an_epoch_and_a_look_took_follows_from_what_is_noted(
    runs: Runs, timings: Any, epoch: float, look: float
) -> None:
    """Eight epochs were trained, and looked at four times."""
    runs.ended("theirs", 3)
    home = StudyFolder(runs.home / "runs" / "theirs").trial(3)
    replace(TrialRecord.load(home), timings=timings).save(home)
    taken, _ = runs.take()
    assert (taken.epoch_seconds, taken.look_seconds) == (epoch, look)


def test_marks_that_differ_later_share_their_beginning() -> None:
    one, other = RunMark("s", ("a", "b", "c")), RunMark("s", ("a", "b", "x", "y"))
    assert one.shared(other) == other.shared(one) == 2
    assert one.shared(one) == 3
    assert one.shared(replace(one, settings="t")) == 0


@pytest.mark.slow
def test_a_second_study_takes_what_the_first_has_trained_and_comes_to_its_own_numbers(
    tmp_path: Path, tiny_sd15: Path, tiny_clip: Path, tiny_photos: Path
) -> None:
    probe = {"seeds": 1, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class}, snow"]}
    values = {
        "base": str(tiny_sd15), "data": str(tiny_photos),
        "train": {"resolution": 64, "epochs": 4, "save_every_n_epochs": 1, "batch_size": 4},
        "search": {"rank": {"values": [4, 8]}, "learning_rate_scale": {"min": 1, "max": 8, "log": True}},
        "score": {"encoder": str(tiny_clip), "holdout": 2, "probe": probe, "losses": {"levels": 1, "draws": 1},
                  "shifted": {"composites": 0}},
        "stop": {"onset": False, "prune": False},
        "workers": {"count": 1, "threads": 1, "device": "cpu"},
    }  # fmt: skip

    def study(name: str, runs: Path, **changes: Any) -> tuple[StudyFolder, str]:
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**values, **changes, "study": name}))
        code, said = run_here(file, runs)
        assert code == 0, said
        return StudyFolder(runs / name), said

    study("first", tmp_path / "runs", budget={"trials": 2})
    longer = {"train": values["train"] | {"epochs": 6}, "budget": {"trials": 3}, "keep": {"states": True}}
    second, said = study("second", tmp_path / "runs", **longer)
    alone, _ = study("second", tmp_path / "alone", **longer)
    assert outcome(second) == outcome(alone)
    for number in range(3):
        curves = [(each.trial(number) / "trajectory.csv").read_bytes() for each in (second, alone)]
        assert curves[0] == curves[1]
    assert said.count("its readings up to epoch 4 are taken") == 2
    assert [record.saved_epochs for record in second.records()] == [0, 0, 0]  # LoRAs alone cannot be trained on
    assert [record.taken is not None for record in second.records()] == [True, True, False]
    longest = {"train": values["train"] | {"epochs": 8}, "budget": {"trials": 3}}
    fourth, _ = study("fourth", tmp_path / "runs", **longest)
    assert [record.saved_epochs for record in fourth.records()] == [6, 6, 6]  # goes on where the second study ended
    assert outcome(fourth) == outcome(study("fourth", tmp_path / "alone", **longest)[0])
    third, _ = study("third", tmp_path / "runs", budget={"trials": 2})
    assert [record.saved_epochs for record in third.records()] == [4, 4]
    assert Verdict.load(third.verdict_file).cost.train == 0
    first = StudyFolder(tmp_path / "runs" / "first")
    assert outcome(third) == outcome(first)
