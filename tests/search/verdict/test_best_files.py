"""`best/` and a trial's pictures: what is written, of which trial, and what it says."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.images.sample_notes import Figure, note_of
from metrics.onset.turns import Choice, Onset, Turn
from search.record.final_run import FinalRun
from search.record.finalists import BY_TWINS_FILE, Finalists
from search.record.json_files import write_bytes
from search.record.record import StudyFolder, TrialRecord
from search.record.twins import TWINS_FILE, Twins
from search.verdict import best_files
from search.verdict.best_files import fitting, marks, novel_prompts, without_twins, write_best, write_pictures
from search.verdict.best_folder import replacing_best, restore_best
from search.verdict.decision import Decision, OnsetFound, decide
from search.verdict.sheet import Marks
from search.verdict.verdict import Verdict, make_verdict
from tests.search.any_config import CONFIG
from tests.search.finished_studies import PROMPTS, Plan, make_study
from trainer.config.config import load_train_config
from trainer.production.production_config import load_production

ONE = Plan({"optimizer": "AdamW", "lr_scheduler": "constant", "rank": 8}, quality=0.8, trained=6)
FOUND = Decision("ship", 3, 12, 0.5, 8, "images", last=40, safe=Choice(10, 8, 12), alike=Choice(20, 16, 24))


@pytest.fixture
def folder(tmp_path: Path, tiny_photos: Path) -> StudyFolder:
    """A study of one short trial, with a LoRA at each of its epochs."""
    (tmp_path / "base").mkdir()
    folder = make_study(tmp_path, tmp_path / "base", tiny_photos, (ONE,))
    for epoch in (2, 4, 6):
        write_bytes(folder.checkpoint(0, epoch) / "lora.safetensors", f"weights of {epoch}".encode())
    return folder


@pytest.fixture
def undrawn(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    """The same, in which there are no pictures to draw."""
    monkeypatch.setattr(best_files, "PICTURES", ())
    return folder


def test_best_has_the_lora_its_training_file_and_each_picture(folder: StudyFolder) -> None:
    verdict = make_verdict(folder)
    written = write_best(folder, verdict)
    assert written.files == {
        "LoRA": "best/toy.safetensors", "train.yaml": "best/train.yaml", "contact sheet": "best/sheet.png",
        "onset plot": "best/onset.png", "behaviour plot": "best/behaviour.png", "report": "report.html",
        **verdict.files,
    }  # fmt: skip
    names = {Path(path).name for path in written.files.values() if path.startswith("best/")}
    assert {path.name for path in folder.best_folder.iterdir()} == names, "and nothing beside"
    assert (folder.best_folder / "toy.safetensors").read_bytes() == f"weights of {verdict.epoch}".encode()
    for name in ("sheet.png", "onset.png", "behaviour.png"):
        with Image.open(folder.best_folder / name) as picture:
            assert min(picture.size) > 200


def test_the_training_file_is_for_all_photos_and_ends_with_what_ships(undrawn: StudyFolder) -> None:
    verdict = make_verdict(undrawn)
    write_best(undrawn, verdict)
    path = undrawn.best_folder / "train.yaml"
    config, output = load_production(path)
    assert config == TrialRecord.load(undrawn.trial(0)).config
    assert (output.name, output.ship_epoch) == ("toy", verdict.epoch)
    assert output.sample_prompts == tuple(prompt for prompt, kind in PROMPTS if kind == "C")
    assert path.read_text().startswith("# Onset, study toy, trial 0. Ship epoch")
    record = TrialRecord.load(undrawn.trial(0))
    steps = replace(record, config=record.config.model_copy(update={"steps_per_epoch": 60}))
    steps.save(undrawn.trial(0))
    write_best(undrawn, make_verdict(undrawn))
    assert load_train_config(path).steps_per_epoch == 80, "6 of 8 photos were trained on"
    replace(record, final=FinalRun(4)).save(undrawn.trial(0))
    write_best(undrawn, make_verdict(undrawn))
    config, output = load_production(path)
    assert (config.epochs, config.save_every_n_epochs) == (30, 2), "passes over all 8 photos"
    assert output.ship_epoch == max(1, round((verdict.epoch or 0) * 6 / 8))


def test_where_nothing_ships_it_says_why_and_has_no_lora(undrawn: StudyFolder) -> None:
    verdict = make_verdict(undrawn)
    poor = replace(verdict, decision=replace(verdict.decision, outcome="poor"))
    written = write_best(undrawn, poor)
    assert {path.name for path in undrawn.best_folder.iterdir()} == {"train.yaml", "SHIP-NOTHING-YET.txt"}
    assert written.files["why nothing"] == "best/SHIP-NOTHING-YET.txt"
    text = (undrawn.best_folder / "SHIP-NOTHING-YET.txt").read_text()
    assert text.split("\n\n") == [
        f"Ship nothing yet: the best score is {poor.score:.3f} (trial 0)." if not poor.is_one_run
        else f"Ship nothing: the best score is {poor.score:.3f}.",
        "\n".join([*poor.said.do, *poor.said.why, ""]),
    ]  # fmt: skip
    assert load_production(undrawn.best_folder / "train.yaml")[1].ship_epoch is None
    none = write_best(undrawn, Verdict("toy"))
    assert none.files == {"why nothing": "best/SHIP-NOTHING-YET.txt", "report": "report.html"}


def test_a_lora_that_was_deleted_since_is_taken_from_best_where_it_is_the_same(undrawn: StudyFolder) -> None:
    verdict = write_best(undrawn, make_verdict(undrawn))
    verdict.save(undrawn.verdict_file)
    lora = undrawn.checkpoint(0, verdict.epoch or 0) / "lora.safetensors"
    kept = lora.read_bytes()
    lora.unlink()
    again = write_best(undrawn, make_verdict(undrawn))
    assert (undrawn.path / again.files["LoRA"]).read_bytes() == kept
    replace(verdict, decision=replace(verdict.decision, trial=1)).save(undrawn.verdict_file)
    assert "LoRA" not in write_best(undrawn, make_verdict(undrawn)).files


def test_pictures_are_drawn_once_and_again_after_the_record(folder: StudyFolder) -> None:
    made = write_pictures(folder, 0)
    assert list(made) == ["sheet.png", "onset.png", "behaviour.png"]
    home = folder.trial(0)
    assert list(made.values()) == [home / name for name in made]
    assert not [path for path in home.iterdir() if path.name.startswith(".")]
    for path in made.values():
        path.write_bytes(b"old")
    assert write_pictures(folder, 0) == made
    assert {path.read_bytes() for path in made.values()} == {b"old"}
    later = (home / "sheet.png").stat().st_mtime + 5
    os.utime(home / "record.json", (later, later))
    write_pictures(folder, 0)
    assert b"old" not in {path.read_bytes() for path in made.values()}


def test_a_picture_of_the_record_s_own_time_is_fresh_and_what_cannot_be_drawn_is_not_there(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def draw(name: str, done: bool) -> tuple[str, str, object]:
        def drawing(of: StudyFolder, record: TrialRecord, path: Path) -> bool:
            drawn.append(name)
            path.write_bytes(b"x")
            return done

        return name, name, drawing

    monkeypatch.setattr(best_files, "PICTURES", (draw("a.png", True), draw("b.png", False)))
    assert write_pictures(folder, 0) == {"a.png": folder.trial(0) / "a.png"}
    (folder.trial(0) / "b.png").unlink()
    written = (folder.trial(0) / "record.json").stat().st_mtime
    for off, again in ((0.0, ["b.png"]), (1.0, ["b.png"]), (-1.0, ["a.png", "b.png"])):
        drawn.clear()
        (folder.trial(0) / "b.png").unlink(missing_ok=True)
        os.utime(folder.trial(0) / "a.png", (written + off, written + off))
        write_pictures(folder, 0)
        assert drawn == again


def test_a_trial_without_an_onset_has_no_plots_and_its_sheet_is_marked_as_a_picture(folder: StudyFolder) -> None:
    made = write_pictures(folder, 0)
    assert set(made) == {"sheet.png", "onset.png", "behaviour.png"}
    with Image.open(made["sheet.png"]) as sheet:
        assert note_of(sheet, made["sheet.png"]) == Figure()
        assert note_of(sheet, Path("elsewhere/copied.png")) == Figure(), "it says so itself"
    record = TrialRecord.load(folder.trial(0))
    replace(record, onset=None).save(folder.trial(0))
    for path in made.values():
        path.unlink()
    assert set(write_pictures(folder, 0)) == {"sheet.png"}


def test_what_twins_said_is_forgotten_with_its_pictures_but_for_one_trial(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    onset = Onset("beyond", Turn("beyond"), Turn("beyond"), learned=2, best=4)
    names = [TWINS_FILE, "sheet.png", "onset.png", "behaviour.png"]

    def lay() -> None:
        for number in (0, 1):
            Twins(2, 6, 4, count=2, onset=onset).save(folder.trial(number))
        for number in (0, 1, 2):
            TrialRecord(number, "complete", CONFIG, {}, 6).save(folder.trial(number))
            for name in names[1:]:
                (folder.trial(number) / name).write_bytes(b"x")
        Finalists({}, ()).save(folder, by_twins=True)

    def there(number: int) -> list[str]:
        return [name for name in names if (folder.trial(number) / name).exists()]

    lay()
    without_twins(folder, but=1)
    assert [there(number) for number in (0, 1, 2)] == [[], names, names[1:]]
    assert (tmp_path / BY_TWINS_FILE).exists()
    lay()
    without_twins(folder)
    assert [there(number) for number in (0, 1, 2)] == [[], [], names[1:]]
    assert not (tmp_path / BY_TWINS_FILE).exists()
    without_twins(folder)


def test_a_sheet_points_out_what_was_decided() -> None:
    shown = Marks(shipped=12, shipped_name="its best", unit="epoch", safe=10, alike=20)
    assert marks(FOUND) == shown
    assert marks(FOUND, shipping=True) == replace(shown, shipped_name="ship this")
    memory = OnsetFound("found", 18.0, 14.0, 22.0)
    assert marks(replace(FOUND, memory=memory)) == replace(
        shown, onset=18.0, low=14.0, high=22.0, onset_name="memory onset"
    )
    nothing = marks(replace(FOUND, outcome="poor", unit="step", safe=None, alike=None))
    assert nothing == Marks(shipped=None, shipped_name="its best", unit="step", safe=None, alike=None)


def test_prompts_of_new_contexts_are_drawn_four_at_most(folder: StudyFolder, tmp_path: Path) -> None:
    new = [prompt for prompt, kind in PROMPTS if kind == "C"]
    assert novel_prompts(folder) == new
    assert novel_prompts(folder, 1) == new[:1]
    assert novel_prompts(StudyFolder(tmp_path / "gone")) == []


def test_small_pictures_are_shown_twice_as_large_and_high_sheets_smaller() -> None:
    assert [fitting(2, 1, size, size) for size in (64, 96, 97, 192, 512)] == [
        (128, 1), (192, 1), (97, 1), (192, 1), (192, 1),
    ]  # fmt: skip
    heights = {prompts: fitting(prompts, 4, 512, 512) for prompts in (1, 8, 24, 60)}
    widths = [width for width, _ in heights.values()]
    assert widths == sorted(widths, reverse=True)
    assert [seeds for _, seeds in heights.values()] == sorted((seeds for _, seeds in heights.values()), reverse=True)
    assert fitting(200, 4, 512, 512) == (16, 1)


def test_best_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)

    def there() -> dict[str, list[str]]:
        return {path.name: sorted(each.name for each in path.iterdir()) for path in tmp_path.iterdir()}

    with replacing_best(folder) as aside:
        (aside / "a").write_bytes(b"1")
        assert there() == {aside.name: ["a"]}
    assert there() == {"best": ["a"]}

    def fails() -> None:
        with replacing_best(folder) as aside:
            (aside / "b").write_bytes(b"2")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fails()
    assert there() == {"best": ["a"]}
    folder.best_folder.rename(tmp_path / ".best-old")
    restore_best(folder)
    assert there() == {"best": ["a"]}
    restore_best(folder)
    (tmp_path / ".best-old").mkdir()
    (tmp_path / ".best-new").mkdir()
    (tmp_path / ".best-new" / "half").write_bytes(b"3")
    with replacing_best(folder) as aside:
        (aside / "c").write_bytes(b"4")
    assert there() == {"best": ["c"]}


def test_a_sheet_has_a_column_for_each_epoch_and_a_row_for_each_prompt_and_seed(folder: StudyFolder) -> None:
    record = TrialRecord.load(folder.trial(0))
    write_pictures(folder, 0)
    with Image.open(folder.trial(0) / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    cell, seeds = fitting(len(PROMPTS), 2, 64, 64)
    columns, rows = len(folder.sampled_epochs(0)), len(PROMPTS) * seeds
    assert pixels.shape[1] > columns * cell
    assert pixels.shape[0] > rows * cell
    assert decide(record).ships
