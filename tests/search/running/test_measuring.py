"""A worker's checkpoint: what is saved, looked at, kept and told, and in which order."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from metrics.trajectory.readings import Readings
from search.record.events import Checkpointed, TrialSpec, load_readings
from search.record.record import StudyFolder
from search.running import measuring
from search.running.measuring import Measuring
from search.running.trial_at_work import TrialAtWork
from tests.search.any_config import CONFIG
from trainer.checkpoint import checkpoint_path
from trainer.errors import TrainerError


class Work:
    """A trial at epoch 2 of 4, its twin where it has one, and the order of all that is done."""

    def __init__(self, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.done, self.sent = folder, list[str](), list[Any]()
        self.study: Any = SimpleNamespace(keep=SimpleNamespace(samples=True), score=SimpleNamespace(ship="balanced"))
        base = SimpleNamespace(device=torch.device("cpu"))
        self.probe: Any = SimpleNamespace(base=base, base_readings=self.readings(0))
        self.probe.read = self.read
        self.spec = TrialSpec(3, folder.trial(3), CONFIG.model_copy(update={"epochs": 4, "save_every_n_epochs": 2}))
        self.spec.folder.mkdir(parents=True)
        self.trial: Any = TrialAtWork(self.spec)
        self.asked: dict[str, Any] = {}
        for name in ("write_probe_samples", "write_base_samples"):
            monkeypatch.setattr(measuring, name, self.noting(name))
        monkeypatch.setattr(measuring, "make_average", self.noting("make_average"))
        monkeypatch.setattr(measuring, "lora_damage", lambda path: None if (path / "lora").is_file() else "not there")
        monkeypatch.setattr(measuring, "state_damage", lambda path: None if (path / "state").is_file() else "not there")

    def noting(self, name: str) -> Callable[..., None]:
        def note(*arguments: Any, **named: Any) -> None:
            self.done.append(name)
            self.asked[name] = (arguments, named)

        return note

    @staticmethod
    def readings(epoch: int) -> Readings:
        return Readings(epoch, 1.5 * epoch, {}, {}, 0.4)

    def read(self, weights: Any, *, epoch: int, effort: float, twin: Any, say: Callable[[str], None]) -> Any:
        say("drawing")
        self.done.append("read")
        self.asked["read"] = (weights, epoch, effort, twin)
        return self.readings(epoch), np.zeros((2, 8, 8, 3), np.uint8), {"sample": 3.0, "score": 1.0}

    def run(self, name: str, epoch: int) -> Any:
        home = self.spec.folder if name == "run" else self.spec.folder / "twin"

        def save() -> None:
            self.done.append(f"save {name}")
            for part in ("lora", "state"):
                file = checkpoint_path(home / "checkpoints", epoch) / part
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()

        return SimpleNamespace(
            run_dir=home, epoch=epoch, effort=7.5, last_loss=0.25, finished=epoch == 4, save=save,
            lora_weights=lambda: f"weights of the {name}",
        )  # fmt: skip

    def at(self, epoch: int, *, twin: bool = False) -> "Work":
        names = ["run", "twin"] if twin else ["run"]
        self.trial.seats = [(None, self.run(name, epoch)) for name in names]
        self.trial.trained = 12.0
        return self

    def checkpoint(self, data: Any = None) -> None:
        def say(what: str, number: int | None = None, epoch: float = 0) -> None:
            assert (number, epoch) == (3, self.trial.run.epoch)
            self.done.append(what)

        line: Any = SimpleNamespace(send=self.sent.append, say=say)
        Measuring(self.study, self.folder, self.probe, data, line).checkpoint(self.trial)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(StudyFolder(tmp_path / "toy"), monkeypatch)


def test_it_is_saved_drawn_kept_and_told_in_that_order(work: Work) -> None:
    work.at(2).checkpoint()
    assert work.done == ["save run", "drawing", "read", "write_probe_samples"]
    assert work.asked["read"] == ("weights of the run", 2, 7.5, None)
    assert work.asked["write_probe_samples"][0][0] == work.folder.samples_file(3, 2)
    (event,) = work.sent
    kept = Checkpointed.load(work.spec.folder, 3, 2)
    assert (event.number, event.epoch, event.readings.score, event.loss) == (3, 2, 0.4, 0.25)
    assert (event.timings["train"], event.timings["sample"], event.timings["score"]) == (12.0, 3.0, 1.0)
    assert 0 < event.timings["save"] < 60
    assert event.memory.keys() == {"rss_gib"}
    assert kept.timings == event.timings
    assert (work.trial.told, work.trial.trained) == (2, 0.0)


def test_a_checkpoint_that_is_whole_is_not_saved_again_and_one_in_part_is(work: Work) -> None:
    work.at(2).checkpoint()
    work.done.clear()
    work.trial.told = 0
    work.at(2).checkpoint()
    assert work.done == [], "its readings are there, too"
    assert [event.epoch for event in work.sent] == [2, 2]
    for part in ("lora", "state"):
        (checkpoint_path(work.spec.folder / "checkpoints", 2) / part).unlink()
        work.done.clear()
        work.at(2).checkpoint()
        assert work.done == ["save run"]
    assert len(work.sent) == 2, "told already"


@pytest.mark.parametrize("told", [2, 4])
def test_what_was_told_is_only_saved(work: Work, told: int) -> None:
    work.trial.told = told
    work.at(2).checkpoint()
    assert (work.done, work.sent, work.trial.told) == (["save run"], [], told)
    assert work.trial.trained == 0.0


def test_images_are_kept_where_the_study_keeps_them(work: Work) -> None:
    work.study.keep.samples = False
    work.at(2).checkpoint()
    assert "write_probe_samples" not in work.done
    assert len(work.sent) == 1


@pytest.mark.parametrize(("epoch", "averaged"), [(2, False), (4, True)])
def test_a_twin_is_saved_first_its_losses_count_and_at_the_end_there_is_an_average(
    work: Work, epoch: int, averaged: bool
) -> None:
    work.at(epoch, twin=True).checkpoint()
    assert work.done[:4] == ["save twin", "save run", "drawing", "read"]
    assert work.asked["read"][3] == "weights of the twin"
    assert ("make_average" in work.done) == averaged
    if averaged:
        (spec, probe, ship), named = work.asked["make_average"]
        assert (spec, probe, ship, named["keep_samples"]) == (work.spec, work.probe, "balanced", True)
    work.at(4).checkpoint()
    assert work.done.count("make_average") == averaged, "a run without a twin has none"


def test_a_data_check_looks_at_the_run_besides(work: Work) -> None:
    looked: list[tuple[Any, ...]] = []

    def look(read: Callable[..., Any], run: Any, spec: TrialSpec, *, say: Callable[[str], None]) -> Any:
        looked.append((run, spec))
        return read(say=say)

    work.at(2).checkpoint(SimpleNamespace(look=look))
    assert looked == [(work.trial.run, work.spec)]
    assert len(work.sent) == 1


def test_in_a_folder_that_is_gone_nothing_is_made(work: Work) -> None:
    work.at(2)
    work.spec.folder.rename(work.spec.folder.with_name("away"))
    with pytest.raises(TrainerError, match="is gone"):
        work.checkpoint()
    assert (work.done, work.sent, work.spec.folder.exists()) == ([], [], False)


def test_the_base_is_epoch_0_of_each_trial_once(work: Work) -> None:
    line: Any = None
    measured = Measuring(work.study, work.folder, work.probe, None, line)
    measured.base(work.spec)
    assert Checkpointed.epochs(work.spec.folder) == [0]
    assert work.asked["write_base_samples"][0] == (work.folder.samples_file(3, 0), work.probe)
    work.probe.base_readings = replace(work.readings(0), score=0.9)
    measured.base(work.spec)
    assert work.done == ["write_base_samples"]
    assert load_readings(Checkpointed.file(work.spec.folder, 0))[0].score == 0.4
