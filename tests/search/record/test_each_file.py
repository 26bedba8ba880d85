"""Each small file of a study: where it lies, that it comes back as it was, and that a damaged one is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.errors import DamagedError
from search.record.data_check import DataCheck
from search.record.final_run import Average
from search.record.finalists import Finalist, Finalists, FreshLook, StrengthsShown
from search.record.handed_on import HandedOn
from search.record.judgement import Judgement
from search.record.pack_width import PackWidth
from search.record.person_pick import PersonPick
from search.record.record import StudyFolder, TrialRecord, write_config
from search.record.taken_run import RunMark, TakenRun
from search.record.twins import TwinLosses, Twins
from search.record.votes import Votes
from tests.search.any_config import CONFIG

FINALIST = Finalist(3, 8, searched=0.5, score=0.6, low=0.5, high=0.7, best=0.9)
FILES: dict[str, tuple[Any, Callable[[StudyFolder], Any]]] = {
    "votes.json": (Votes((((1, 4), (2, 6)), ((2, 6), (0, 8)))), Votes.load),
    "pick.json": (PersonPick(3, 8, "the eyes", "2026-11-27"), PersonPick.load),
    "pack-width.json": (PackWidth("auto", 4, 2), lambda folder: PackWidth.load(folder, "auto")),
    "handed_on.json": (HandedOn("dog", 8, 2, "Ship it", "/lora", CONFIG), HandedOn.load),
    "finalists.json": (Finalists({"trials": 4}, (FINALIST,), {5: "NaN"}, images=8, seconds=2.0), Finalists.load),
    "finalists/strengths.json": (StrengthsShown(3, 8, "asked"), StrengthsShown.load),
    "judgement.json": (Judgement(3, {"IN04": 0.5}, {"IN04": 0.5}, wins=("prompt",)), lambda f: Judgement.load(f.path)),
    "average/average.json": (Average((6, 8), 0.5, 0.4, 0.01, 0.1), lambda f: Average.load(f.path)),
    "run.json": (RunMark("digest", ("a", "b")), lambda f: RunMark.load(f.path)),
    "taken.json": (TakenRun("dog", 3, 8, 6, 1.5, 2.5), lambda f: TakenRun.load(f.path)),
    "twins.json": (Twins(3, 40, 18, count=3, photos=9, seconds=4.0), lambda f: Twins.load(f.path)),
    "data_check.json": (DataCheck("dog", "digest", 8, 7.5, unlooked=("a.png",)), lambda f: DataCheck.load(f.path)),
}


@pytest.mark.parametrize("name", FILES)
def test_it_comes_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    wanted, load = FILES[name]
    folder = StudyFolder(tmp_path)
    of_a_study = {"votes.json", "pick.json", "pack-width.json", "handed_on.json", "finalists.json"}
    wanted.save(folder if name in of_a_study or name.startswith("finalists/") else tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert load(folder) == wanted
    for damage in ("", "{", "[]", "3"):
        (tmp_path / name).write_text(damage)
        if name == "data_check.json":
            with pytest.raises(DamagedError, match=r"data_check\.json"):
                load(folder)
        else:
            assert load(folder) == (Votes() if name == "votes.json" else None)


def test_where_a_study_keeps_what(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert folder.trial(7) == tmp_path / "trials" / "0007"
    assert folder.checkpoint(7, 12) == tmp_path / "trials" / "0007" / "checkpoints" / "0012"
    assert folder.samples_file(7, 12) == tmp_path / "trials" / "0007" / "samples" / "0012.png"
    assert [folder.best_folder, folder.cache] == [tmp_path / "best", tmp_path / "cache"]
    assert [path.name for path in (folder.study_file, folder.database, folder.report, folder.workers_log)] == [
        "study.yaml", "study.db", "report.html", "workers.log",
    ]  # fmt: skip
    assert folder.verdict_file == tmp_path / "verdict.json"
    assert Average.lora(tmp_path) == tmp_path / "average" / "lora.safetensors"
    assert Average.samples(tmp_path) == tmp_path / "average" / "samples.png"
    assert FreshLook.file(folder, None, 0) == tmp_path / "finalists" / "base" / "0000.npz"
    assert FreshLook.file(folder, 3, 8) == tmp_path / "finalists" / "0003" / "0008.npz"
    assert FreshLook.picture(folder, 3, 8, retrained=True) == tmp_path / "finalists/0003/retrained/0008.png"
    assert TwinLosses.training(tmp_path, 3, 5, 1) == tmp_path / "0003" / "twins-5" / "1"


@pytest.mark.parametrize(
    ("made", "reached"),
    [
        ("trials/0000/record.json", False),
        ("trials/0000/readings/0000.npz", False),  # the base's
        ("trials/0000/readings/0002.npz", True),
        ("trials/0000/readings/0002.part.npz", False),
        ("trials/0000/checkpoints/0002/lora.safetensors", True),
        ("trials/0000/trajectory.csv", True),
        ("trials/0000/checkpoints/.0002.new/lora.safetensors", False),
    ],
)
def test_a_checkpoint_was_reached_where_its_files_are(tmp_path: Path, made: str, reached: bool) -> None:
    (tmp_path / made).parent.mkdir(parents=True)
    (tmp_path / made).touch()
    assert StudyFolder(tmp_path).has_checkpoints == reached


def test_what_twins_read_comes_back(tmp_path: Path) -> None:
    ratios = np.random.default_rng(0).normal(size=(2, 3, 4, 1))
    wanted = TwinLosses("asked", np.array([1, 4, 7]), np.array([0, 2]), ratios, 4.5)
    file = TwinLosses.file(tmp_path, 3, 5, 1)
    wanted.save(file)
    found = TwinLosses.load(file)
    assert found is not None
    assert (found.asked, found.seconds) == ("asked", 4.5)
    for name in ("rows", "epochs", "ratios"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name))
    file.write_bytes(file.read_bytes()[:100])
    assert TwinLosses.load(file) is None


def test_votes_between_those_that_are_shown(tmp_path: Path) -> None:
    one, two, three = (1, 4), (2, 6), (0, 8)
    votes = Votes(((one, two), (two, three), (three, one)))
    assert votes.among([one, two]) == Votes(((one, two),))
    assert votes.among([one]) == Votes()
    assert votes.among([three, two, one]) == votes


def test_a_person_is_named_with_the_reason_where_there_is_one() -> None:
    assert PersonPick(3, 8, "", "2026-11-27").sentence.endswith("trial 3, epoch 8")
    assert PersonPick(3, 8, "the eyes", "2026-11-27").sentence.endswith("trial 3, epoch 8: the eyes")


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        (RunMark("s", ("a", "b", "c")), 3), (RunMark("s", ("a", "b", "x")), 2), (RunMark("s", ("x", "b", "c")), 0),
        (RunMark("s", ("a", "b")), 2), (RunMark("s", ("a", "b", "c", "d")), 3), (RunMark("t", ("a", "b", "c")), 0),
    ],
)  # fmt: skip
def test_two_runs_are_one_as_far_as_their_courses_are(other: RunMark, shared: int) -> None:
    assert RunMark("s", ("a", "b", "c")).shared(other) == other.shared(RunMark("s", ("a", "b", "c"))) == shared


@pytest.mark.parametrize(("trained", "epochs", "looks"), [(4, 4, 2), (8, 8, 4), (10, 6, 4), (20, 6, 4)])
def test_a_run_that_is_taken_saves_its_epochs_and_looks(trained: int, epochs: int, looks: int) -> None:
    """Readings up to epoch 8, of every second epoch; beyond them it goes on from a checkpoint at 6."""
    taken = TakenRun("dog", 3, looked=8, trained=6, epoch_seconds=10.0, look_seconds=1.0)
    assert taken.saved_epochs(trained) == epochs
    assert taken.saved_seconds(trained, 2) == 10.0 * epochs + looks


def test_a_record_in_the_folder_of_another_trial_or_in_no_known_state_is_damaged(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    record = TrialRecord(3, "complete", CONFIG, {}, 8)
    for made, number in ((record, 4), (TrialRecord(4, "asleep", CONFIG, {}, 8), 4)):
        made.save(folder.trial(number))
        with pytest.raises(DamagedError, match="not the record of this trial"):
            TrialRecord.load(folder.trial(number))
        assert list(folder.records()) == []
    write_config(folder.trial(3), {"rank": 4, "base": "b"})
    assert (folder.trial(3) / "config.yaml").read_text() == "rank: 4\nbase: b\n"
    assert (record.saved_epochs, record.saved_seconds) == (0, 0.0)
