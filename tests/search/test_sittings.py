"""A study goes on when its budget grows, and is finished only when its verdict is of the trials that are there."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

import search.recovery.continuing
import search.run
import search.running.placing
from search.record.clock import Clock, noted_seconds
from search.record.events import DrawAgain, StopTrial
from search.record.json_files import write_json
from search.record.record import PROBE_FILE, StudyFolder
from search.study.input_digests import Inputs
from search.study.study import Study, load_study
from search.verdict.verdict import Verdict
from tests.messages import refusal
from tests.search.conftest import study_writer
from tests.search.one_process import OneProcess

SPACE: dict[str, Any] = {"rank": {"values": [2, 4, 8, 12]}, "learning_rate_scale": {"min": 0.5, "max": 16, "log": True}}
PROBE = {"prompts": ["a photo of sks toy"], "sets": ["C"], "seeds": [11, 12], "size": [64, 64]}


class Sittings:
    """One study, run again and again with changed settings."""

    def __init__(self, home: Path) -> None:
        self.write, self.runs = study_writer(home), home / "runs"
        self.folder = StudyFolder(self.runs / "small")

    def study(self, **changes: Any) -> Study:
        values = {"train": {"resolution": 64, "save_every_n_epochs": 2, "epochs": 8}, "search": SPACE}
        return load_study(self.write(**values | changes))

    def sit(self, trials: int, **changes: Any) -> Verdict:
        study = self.study(budget={"trials": trials, "startup_trials": 2}, **changes)
        write_json(self.folder.path / PROBE_FILE, PROBE)
        search.run.work(study, self.folder, OneProcess(1, self.folder), Clock(self.folder))
        return Verdict.load(self.folder.verdict_file)

    def finished(self, trials: int, **changes: Any) -> str | None:
        budget = {"trials": trials, "startup_trials": 2, **changes.pop("budget", {})}
        return search.run.why_finished(self.study(budget=budget, **changes), self.folder)


@pytest.fixture(scope="module")
def two_trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sittings")
    Sittings(home).sit(2)
    return home


@pytest.fixture
def sittings(two_trials: Path, tmp_path: Path) -> Sittings:
    """A study of two trials that has its verdict."""
    found = Sittings(tmp_path)
    shutil.copytree(two_trials / "runs", found.runs)
    return found


def test_a_finished_study_says_so_until_its_budget_grows(sittings) -> None:
    assert sittings.finished(2) == "2 trials"
    assert sittings.finished(1) == "2 trials"
    assert sittings.finished(3) is None


def test_a_verdict_that_is_not_of_all_trials_is_not_believed(sittings) -> None:
    before = sittings.folder.verdict_file.read_bytes()
    sittings.sit(3)
    assert sittings.finished(3) == "3 trials"
    sittings.folder.verdict_file.write_bytes(before)  # killed after the last trial, before the new verdict
    assert sittings.finished(3) is None
    assert sittings.finished(2) is None
    assert set(sittings.sit(3).trials) == {"0", "1", "2"}


def test_who_waits_for_the_last_trial_draws_the_finals_meanwhile(tmp_path: Path) -> None:
    class Told(OneProcess):
        def send(self, slot: int, message: Any) -> None:
            told.append(message)
            super().send(slot, message)

    told: list[Any] = []
    sittings = Sittings(tmp_path)
    study = sittings.study(budget={"trials": 3, "startup_trials": 2})
    write_json(sittings.folder.path / PROBE_FILE, PROBE)
    search.run.work(study, sittings.folder, Told(2, sittings.folder), Clock(sittings.folder))
    looks = [at for at, message in enumerate(told) if isinstance(message, DrawAgain)]
    last = max(at for at, message in enumerate(told) if isinstance(message, StopTrial))
    assert told[looks[0]].number is None, "the base first"
    assert looks[1] < last, "a finalist, too"
    assert len(Verdict.load(sittings.folder.verdict_file).finalists.drawn) == 3


def test_a_study_file_may_lie_in_its_own_folder(sittings, monkeypatch) -> None:
    monkeypatch.setattr(search.running.placing, "Team", lambda target, setup, count, **_: OneProcess(count, setup[1]))
    monkeypatch.setattr(search.recovery.continuing, "check_base", lambda *_: None)  # this base has no weights
    file = sittings.study().file
    values = yaml.safe_load(file.read_text()) | {"budget": {"trials": 3, "startup_trials": 2}}
    values |= {key: str(file.parent / values[key]) for key in ("base", "data")}
    values["score"]["encoder"] = str(file.parent / "clip")
    own = sittings.folder.study_file
    own.write_text(yaml.safe_dump(values))
    assert search.run.main([str(own), "--runs", str(sittings.runs)]) == 0
    assert len(Verdict.load(sittings.folder.verdict_file).trials) == 3
    assert yaml.safe_load(own.read_text()) == values


def test_folders_in_the_place_of_files_are_set_aside_before_those_are_written(sittings, monkeypatch) -> None:
    monkeypatch.setattr(search.running.placing, "Team", lambda target, setup, count, **_: OneProcess(count, setup[1]))
    monkeypatch.setattr(search.recovery.continuing, "check_base", lambda *_: None)  # this base has no weights
    places = [sittings.folder.path / name for name in ("study.yaml", "study.json", "clock.json")]
    for place in places:
        place.unlink(missing_ok=True)
        place.mkdir()
    study = sittings.study(budget={"trials": 2, "startup_trials": 2})
    sittings.folder.verdict_file.unlink()
    assert search.run.main([str(study.file), "--runs", str(sittings.runs)]) == 0
    assert [place for place in places if not place.is_file()] == []
    assert [place for place in places if not place.with_name(f"{place.name}.damaged").is_dir()] == []


def test_an_encoder_that_another_has_taken_the_place_of_is_refused_before_anything_is_trained(
    sittings, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(search.running.placing, "Team", lambda target, setup, count, **_: OneProcess(count, setup[1]))
    monkeypatch.setattr(search.recovery.continuing, "check_base", lambda *_: None)  # this base has no weights
    study = sittings.study(budget={"trials": 3, "startup_trials": 2})
    write_json(Inputs.file(sittings.folder), asdict(Inputs(study.photos, encoders={"encoder": "another's"})))
    assert search.run.main([str(study.file), "--runs", str(sittings.runs)]) == 2
    assert re.search(refusal("score.encoder", "clip", "the study 'small' was begun with"), capsys.readouterr().err)
    assert len(list(sittings.folder.records())) == 2


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1, 2]", b'{"study": "s"'])
def test_a_verdict_that_cannot_be_read_is_made_again(sittings, damage: bytes) -> None:
    sittings.folder.verdict_file.write_bytes(damage)
    assert sittings.finished(2) is None


def test_a_study_that_ran_out_of_time_is_finished_until_it_gets_more(sittings) -> None:
    write_json(sittings.folder.path / "clock.json", {"seconds": 7200})
    assert sittings.finished(9, budget={"hours": 1.5}) == "2 trials in 1.5 hours"
    assert sittings.finished(9, budget={"hours": 2.5}) is None


def test_nothing_that_was_shipped_is_lost_when_a_study_that_keeps_nothing_goes_on(tmp_path: Path) -> None:
    sittings = Sittings(tmp_path)
    first = sittings.sit(2, keep={"checkpoints": "none"})
    shipped = (sittings.folder.path / first.files["LoRA"]).read_bytes()
    second = sittings.sit(3, keep={"checkpoints": "none"})
    lora = sittings.folder.checkpoint(int(second.trial or 0), int(second.epoch or 0)) / "lora.safetensors"
    assert (sittings.folder.path / second.files["LoRA"]).read_bytes() == lora.read_bytes()
    assert second.trial == first.trial, "the third trial must not win here"
    assert lora.read_bytes() == shipped


def test_a_lora_that_only_best_still_holds_is_carried_over(sittings) -> None:
    verdict = Verdict.load(sittings.folder.verdict_file)
    shipped = (sittings.folder.path / verdict.files["LoRA"]).read_bytes()
    shutil.rmtree(sittings.folder.trial(int(verdict.trial or 0)) / "checkpoints")
    search.run.work(
        sittings.study(budget={"trials": 2}), sittings.folder, OneProcess(1, sittings.folder), Clock(sittings.folder)
    )
    assert (sittings.folder.path / verdict.files["LoRA"]).read_bytes() == shipped


def test_best_is_the_old_one_or_the_new_one(sittings, monkeypatch) -> None:
    import search.verdict.best_files

    before = {p.name: p.read_bytes() for p in sittings.folder.best_folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(search.verdict.best_files, "novel_prompts", full)
        with pytest.raises(OSError, match="No space"):
            sittings.sit(3)
    assert {p.name: p.read_bytes() for p in sittings.folder.best_folder.iterdir()} == before
    sittings.folder.best_folder.rename(sittings.folder.path / ".best-old")  # killed between the two renames
    search.verdict.best_folder.restore_best(sittings.folder)
    assert {p.name: p.read_bytes() for p in sittings.folder.best_folder.iterdir()} == before


def test_a_study_with_nothing_to_search_trains_once(tmp_path: Path) -> None:
    sittings = Sittings(tmp_path)
    verdict = sittings.sit(5, search={})
    assert list(verdict.trials.values()) == ["complete"]
    assert sittings.finished(5, search={}) == "1 trials, and every combination is tried (1)"


def test_a_small_space_ends_when_every_configuration_was_tried(tmp_path: Path) -> None:
    sittings = Sittings(tmp_path)
    verdict = sittings.sit(30, search={"rank": {"values": [2, 4]}})
    ranks = [record.params["rank"] for record in sittings.folder.records()]
    assert set(ranks) == {2, 4}
    assert set(ranks[:-1]) != {2, 4}
    assert len(verdict.trials) == len(ranks) < 30


def test_the_clock_goes_on_where_the_last_sitting_stopped(tmp_path: Path, monkeypatch) -> None:
    folder = StudyFolder(tmp_path)
    now = [1000.0]
    monkeypatch.setattr("search.record.clock.time.monotonic", lambda: now[0])
    clock = Clock(folder)
    for _ in range(120):  # ten minutes, and then a kill without a word
        now[0] += 5.0
        clock.tick()
    assert noted_seconds(folder) == pytest.approx(600, abs=6)
    now[0] = 5.0  # another boot
    again = Clock(folder)
    now[0] += 60.0
    assert again.seconds == pytest.approx(660, abs=6)


@pytest.mark.parametrize("noted", ["", "{", "[]", '{"seconds": "many"}', '{"seconds": null}'])
def test_a_clock_that_cannot_be_read_starts_anew(tmp_path: Path, noted: str) -> None:
    (tmp_path / "clock.json").write_text(noted)
    assert noted_seconds(StudyFolder(tmp_path)) == 0.0
    (tmp_path / "study.json").write_text(json.dumps({"seconds": 12.5}))  # where 0.1 had it
    assert noted_seconds(StudyFolder(tmp_path)) == 12.5
