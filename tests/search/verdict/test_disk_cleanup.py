"""What is left of trials' folders: by name, of every kind of file that a worker writes."""

from dataclasses import replace
from pathlib import Path

import pytest

from search.record.final_run import TWIN
from search.record.finalists import LOOKS_FOLDER
from search.record.person_pick import PersonPick
from search.record.record import StudyFolder, TrialRecord
from search.study.settings import KeepSection
from search.verdict.decision import Decision
from search.verdict.disk_cleanup import Tidier, delete, drop_after, sweep, sweep_study, tidy_study, tidy_trial
from search.verdict.ranking import kept_bytes
from search.verdict.verdict import Verdict
from tests.search.any_config import CONFIG

RECORD = TrialRecord(0, "complete", CONFIG, {}, 8, 8, 4, stopped="onset", score=0.5, value=0.5)


def fill(home: Path, *epochs: int, size: int = 5) -> Path:
    """A trial's folder with all that a worker leaves at these epochs."""
    for epoch in epochs:
        for checkpoint in (home / "checkpoints" / f"{epoch:04d}", home / TWIN / "checkpoints" / f"{epoch:04d}"):
            checkpoint.mkdir(parents=True)
            for name in ("lora.safetensors", "state.json", "state.safetensors"):
                (checkpoint / name).write_bytes(b"x" * size)
        for path in (home / "readings" / f"{epoch:04d}.npz", home / "samples" / f"{epoch:04d}.png"):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
    return home


def left(home: Path) -> list[str]:
    return sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())


def test_beyond_the_end_nothing_is_left_and_before_it_everything(tmp_path: Path) -> None:
    home, same = fill(tmp_path / "0000", 2, 4, 10), fill(tmp_path / "0001", 2, 4)
    drop_after(home, 4)
    assert left(home) == left(same)
    drop_after(home, 2)
    assert {path.split("/")[-1][:4] for path in left(home) if "samples" in path or "readings" in path} == {"0002"}


def test_a_trial_that_has_ended_keeps_what_its_settings_say(tmp_path: Path) -> None:
    def tidied(name: str, record: TrialRecord = RECORD, pick: PersonPick | None = None, **keep) -> list[str]:
        home = fill(tmp_path / name, 2, 4, 6, 8)
        tidy_trial(home, record, KeepSection(**keep), in_detail=False, pick=pick)
        before = left(home)
        tidy_trial(home, record, KeepSection(**keep), in_detail=False, pick=pick)
        assert left(home) == before, "again"
        return before

    samples = [f"samples/{epoch:04d}.png" for epoch in (2, 4, 6, 8)]
    ships, picked = "checkpoints/0004/lora.safetensors", "checkpoints/0006/lora.safetensors"
    assert tidied("plain") == [ships, *samples]
    assert tidied("bare", samples=False) == [ships]
    assert tidied("picked", pick=PersonPick(0, 6)) == [ships, picked, *samples]
    assert tidied("another's", pick=PersonPick(1, 6)) == [ships, *samples]
    to_the_end = replace(RECORD, stopped="horizon")
    whole = [f"checkpoints/0008/{name}" for name in ("lora.safetensors", "state.json", "state.safetensors")]
    assert tidied("state", to_the_end, states=True) == [ships, *whole, *samples]
    for name, record in (("pruned", replace(to_the_end, state="pruned")), ("onset", RECORD)):
        assert not any("state" in path for path in tidied(name, record, states=True))
    last = fill(tmp_path / "lost", 4, 8)
    for state in (last / "checkpoints" / "0008").glob("state.*"):
        state.unlink()
    tidy_trial(last, to_the_end, KeepSection(states=True), in_detail=False)
    assert not any("0008/lora" in path for path in left(last)), "without a state it is a checkpoint like others"
    shorter = fill(tmp_path / "shorter", 2, 4, 8)
    tidy_trial(shorter, replace(RECORD, epochs_trained=4), KeepSection(checkpoints="all"), in_detail=False)
    assert {path.split("/")[1][:4] for path in left(shorter)} == {"0002", "0004"}


def test_what_may_win_is_whole_until_it_is_out_where_twins_are_asked_for(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    tidier = Tidier(folder, KeepSection(), 1, whole=True)

    def ended(number: int, score: float) -> list[int]:
        fill(folder.trial(number), 2, 4, 6, 8)
        tidier.ended(replace(RECORD, number=number, score=score, value=score))
        return [len(list((folder.trial(n) / "checkpoints").iterdir())) for n in range(number + 1)]

    assert ended(0, 0.5) == [4]
    assert ended(1, 0.6) == [1, 4]
    assert [record.number for record in tidier.contenders] == [1]
    assert ended(2, 0.59) == [1, 4, 4], "within the noise"
    assert ended(3, 0.3) == [1, 4, 4, 1]
    assert {record.number for record in tidier.contenders} == {1, 2}


@pytest.mark.parametrize(
    ("checkpoints", "size", "said"),
    [
        ("all", 5, "Kept in trials/: every checkpoint; 4 LoRA files, 0 kB."),
        ("none", 99_000, "Kept in trials/: the epoch to ship of trial 0; 1 LoRA file, 99 kB."),
        ("none", 100_000, "Kept in trials/: the epoch to ship of trial 0; 1 LoRA file, 0.1 MB."),
    ],
)
def test_what_was_kept_is_said_with_its_weight(tmp_path: Path, checkpoints: str, size: int, said: str) -> None:
    folder = StudyFolder(tmp_path)
    fill(folder.trial(0), 2, 4, 6, 8, size=size)
    RECORD.save(folder.trial(0))
    verdict = Verdict("s", Decision("ship", 0, 4))
    assert tidy_study(folder, KeepSection(checkpoints=checkpoints), verdict) == [said]
    files = list((folder.trial(0) / "checkpoints").rglob("lora.safetensors"))
    assert kept_bytes(folder) == (len(files), len(files) * size)


def test_a_study_without_checkpoints_says_nothing(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    replace(RECORD, state="failed").save(folder.trial(0))
    assert tidy_study(folder, KeepSection(), Verdict("s")) == []


def test_only_what_kills_left_half_written_is_swept(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    whole = ["verdict.json", ".hidden", ".best.old", f"{LOOKS_FOLDER}/base/0000.npz"]
    parts = [".verdict.json.0123456789ab", f"{LOOKS_FOLDER}/base/.0000.npz.0123456789ab"]
    for name in [*whole, *parts]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".0123.part" / "deep").mkdir(parents=True)
    sweep_study(folder)
    assert left(tmp_path) == sorted(whole)
    assert not (tmp_path / ".0123.part").exists()
    home = fill(tmp_path / "trial", 2)
    before = left(home)
    for name in (".record.json.0123456789ab", "checkpoints/.0002.part"):
        (home / name).write_bytes(b"x")
    sweep(home)
    assert left(home) == before


def test_what_is_not_there_may_be_deleted(tmp_path: Path) -> None:
    delete(tmp_path / "nothing")
    (tmp_path / "file").write_bytes(b"x")
    delete(tmp_path / "file")
    delete(fill(tmp_path / "folder", 2))
    assert list(tmp_path.iterdir()) == []
