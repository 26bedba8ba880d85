"""The end of a study: what a verdict is made of, what is written with it, in which order, and what is kept."""

from dataclasses import replace
from pathlib import Path

import pytest

from search.errors import DamagedError
from search.record.json_files import read_json, write_json
from search.record.record import StudyFolder, TrialRecord
from search.study.server import Kept
from search.study.settings import KeepSection
from search.verdict import best_files
from search.verdict.decision import Decision
from search.verdict.verdict import Verdict, before_twins, belongs, finish, known_verdict, make_verdict
from tests.search.finished_studies import Plan, make_study

PLANS = (
    Plan({"optimizer": "AdamW", "lr_scheduler": "constant", "rank": 8}, quality=0.5, trained=6),
    Plan({"optimizer": "AdamW", "lr_scheduler": "constant", "rank": 4}, quality=0.8, trained=6),
    Plan({"optimizer": "Lion", "lr_scheduler": "constant", "rank": 4}, state="failed", stopped="failed", trained=2,
         error="Traceback:\nOSError: /home/me/photos/a.png is gone"),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, tiny_photos: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    """A study of three short trials without pictures, with a file for a LoRA at each epoch of the best."""
    monkeypatch.setattr(best_files, "PICTURES", ())
    (tmp_path / "base").mkdir()
    made = make_study(tmp_path, tmp_path / "base", tiny_photos, PLANS)
    for epoch in (2, 4, 6):
        lora = made.checkpoint(1, epoch) / "lora.safetensors"
        lora.parent.mkdir(parents=True)
        lora.write_bytes(b"x" * 7)
    return made


def test_a_verdict_is_made_of_the_records_and_written_last(folder: StudyFolder) -> None:
    there: list[bool] = []
    looked = make_verdict(folder, wall_seconds=9.0)
    assert not folder.best_folder.exists()
    assert not folder.report.exists()

    def publish(verdict: Verdict) -> None:
        there.append(folder.report.is_file() and folder.best_folder.is_dir() and not folder.verdict_file.is_file())

    verdict = finish(folder.path, wall_seconds=9.0, publish=publish)
    assert there == [True], "told once all is written but the verdict"
    assert Verdict.load(folder.verdict_file) == verdict == known_verdict(folder)
    assert replace(verdict, files=looked.files) == looked
    assert (looked.trial, looked.epochs, looked.epochs_trained, looked.lora_bytes) == (1, 40, 6, 7)
    assert looked.params == PLANS[1].config
    assert looked.trials == {"0": "complete", "1": "complete", "2": "failed"}
    assert (looked.cost.wall_seconds, looked.cost.complete, looked.cost.failed) == (9.0, 2, 1)
    assert looked.photos == (6, 2)
    assert looked.ties == ()
    assert looked.noise >= 0
    assert {looked.finalists, looked.twins, looked.final, looked.finished_run} == {None}
    assert looked.files == {"trials": "trials", "database": "study.db"}
    (failed,) = [sentence for sentence in looked.said.sure if "failed" in sentence]
    assert failed.endswith("The last error: OSError: …/a.png is gone"), "no folder of this disk"
    assert read_json(folder.verdict_file)["headline"].startswith(f"Ship epoch {looked.epoch} of trial 1")
    assert before_twins(folder) == looked.decision
    assert not any("Kept in trials/" in sentence for sentence in verdict.said.took)


def test_what_stays_is_tidied_and_said_where_the_study_says_what(folder: StudyFolder) -> None:
    verdict = finish(folder, keep=KeepSection(checkpoints="none"))
    assert verdict.said.took[-1] == "Kept in trials/: the epoch to ship of trials 1, 0; 1 LoRA file, 0 kB."
    assert [path.name for path in (folder.trial(1) / "checkpoints").iterdir()] == [f"{verdict.epoch:04d}"]
    assert Verdict.load(folder.verdict_file).said == verdict.said
    assert verdict.said.took[-1] in folder.report.read_text(encoding="utf-8")


def test_on_a_server_no_database_is_promised(folder: StudyFolder) -> None:
    Kept("1", "postgresql://host/name").save(folder)
    assert make_verdict(folder).files == {"trials": "trials"}


def test_a_verdict_belongs_to_the_trials_that_it_was_made_of(folder: StudyFolder) -> None:
    verdict, records = make_verdict(folder), list(folder.records())
    assert belongs(verdict, records)
    assert not belongs(verdict, records[:2])
    assert not belongs(verdict, [*records[:2], replace(records[2], state="complete")])
    running = [*records[:2], replace(records[2], state="running")]
    assert not belongs(replace(verdict, trials={**verdict.trials, "2": "running"}), running), "it has not ended"
    assert belongs(Verdict("s"), [])


def test_a_verdict_of_a_version_that_kept_no_decision_is_drawn_anew(folder: StudyFolder) -> None:
    write_json(folder.verdict_file, {"study": "toy", "status": "found", "files": {"LoRA": "best/a.safetensors"}})
    found = Verdict.load(folder.verdict_file)
    assert found == replace(make_verdict(folder), files={"LoRA": "best/a.safetensors"})
    for damaged in ({"status": "found", "decision": 3}, [], "x"):
        write_json(folder.verdict_file, damaged)
        with pytest.raises(DamagedError, match=r"search\.run writes it again"):
            Verdict.load(folder.verdict_file)
        assert known_verdict(folder) is None
    folder.verdict_file.unlink()
    assert known_verdict(folder) is None


def test_without_a_probe_or_a_trial_there_is_still_a_verdict(folder: StudyFolder) -> None:
    (folder.cache / "probe" / "probe.json").unlink()
    verdict = make_verdict(folder)
    assert (verdict.photos, verdict.on_all_photos, verdict.trial) == (None, None, 1)
    empty = StudyFolder(folder.path.parent / "empty")
    empty.path.mkdir()
    assert make_verdict(empty).decision == before_twins(empty) == Decision("nothing")
    (folder.checkpoint(1, verdict.epoch or 0) / "lora.safetensors").unlink()
    assert make_verdict(folder).lora_bytes is None


def test_one_run_alone_is_told_as_one(folder: StudyFolder) -> None:
    whole = make_verdict(folder)
    assert whole.is_one_run is False
    alone = replace(whole, params={}, cost=replace(whole.cost, complete=1, failed=0, pruned=0))
    assert alone.is_one_run is True
    assert replace(alone, decision=Decision("nothing")).is_one_run is False
    assert replace(alone, params={"rank": 4}).is_one_run is False
    assert whole.sentences == (*whole.said.do, *whole.said.why, *whole.said.sure, *whole.said.took)
    shipped, trained, held = whole.epoch or 0, 6, 2
    assert whole.on_all_photos == (max(1, round(shipped * (trained / (trained + held)) ** 0.5)), shipped)
    assert TrialRecord.load(folder.trial(1)).epoch_shipped == shipped
