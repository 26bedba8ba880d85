"""`search.pick`: a person's choice stands beside the verdict, and is what an export takes."""

import re
import shutil
from pathlib import Path

import pytest

from search import export, pick, status
from search.record.person_pick import PersonPick
from search.record.record import StudyFolder, TrialRecord
from search.study.settings import KeepSection
from search.verdict.disk_cleanup import tidy_trial
from search.verdict.verdict import Verdict
from tests.messages import refusal


@pytest.fixture
def folder(finished_study: StudyFolder, tmp_path: Path) -> StudyFolder:
    """A finished study of one's own to change."""
    shutil.copytree(finished_study.path, tmp_path / "toy")
    return StudyFolder(tmp_path / "toy")


def other_checkpoint(folder: StudyFolder) -> tuple[int, int]:
    """The verdict's trial and an epoch of it that is kept, too, and is not the one to ship."""
    verdict = Verdict.load(folder.verdict_file)
    assert verdict.trial is not None
    assert verdict.epoch is not None
    epochs = [int(epoch) for epoch in folder.trajectory(verdict.trial).epochs]
    epoch = next(epoch for epoch in epochs if epoch not in (0, verdict.epoch))
    shipped = folder.checkpoint(verdict.trial, verdict.epoch)
    shutil.copytree(shipped, folder.checkpoint(verdict.trial, epoch), dirs_exist_ok=True)
    return verdict.trial, epoch


def test_a_pick_is_told_by_status_and_report_and_exported(folder: StudyFolder, tmp_path: Path, capsys) -> None:
    trial, epoch = other_checkpoint(folder)
    before = folder.verdict_file.read_bytes()
    command = [str(folder.path), "--trial", str(trial), "--epoch", str(epoch), "--why", "the <eyes>\nare right"]
    assert pick.main(command) == 0
    assert folder.verdict_file.read_bytes() == before
    said = f"trial {trial}, epoch {epoch}: the <eyes> are right"
    assert said.replace("<", "&lt;").replace(">", "&gt;") in folder.report.read_text()
    capsys.readouterr()
    assert status.main([str(folder.path)]) == 0
    assert said in " ".join(capsys.readouterr().out.split())
    assert export.main([str(folder.path), "--to", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert f"trial {trial}, epoch {epoch}." in out
    assert "Picked by a person" in out
    assert f"the LoRA of epoch {epoch}" in out
    assert pick.main([str(folder.path), "--clear"]) == 0
    assert PersonPick.load(folder) is None
    assert "Picked by a person" not in folder.report.read_text()


def test_what_was_picked_is_kept_when_the_rest_goes(folder: StudyFolder) -> None:
    trial, epoch = other_checkpoint(folder)
    chosen = pick.pick_checkpoint(folder, trial, epoch)
    record, home = TrialRecord.load(folder.trial(trial)), folder.trial(trial)
    keep = KeepSection(checkpoints="none")
    tidy_trial(home, record, keep, in_detail=False, pick=chosen)
    assert [path.parent.name for path in home.glob("checkpoints/*/lora.safetensors")] == [f"{epoch:04d}"]
    tidy_trial(home, record, keep, in_detail=False)
    assert not list(home.glob("checkpoints/*/lora.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "key", "given"),
    [
        (["--trial", "99", "--epoch", "2"], "--trial", 99),
        (["--trial", "2", "--epoch", "3"], "--epoch", 3),
        (["--epoch", "2"], "--trial", "nothing"),
        (["--trial", "2"], "--epoch", "nothing"),
    ],
)
def test_what_is_not_there_cannot_be_picked(folder: StudyFolder, arguments, key, given, capsys) -> None:
    assert pick.main([str(folder.path), *arguments]) == 2
    said = capsys.readouterr().err
    assert re.search(refusal(key, given, ""), said), said
    assert PersonPick.load(folder) is None
