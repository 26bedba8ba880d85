"""The end of a delivery study: the file to pass on, the prompt that draws the same, the report."""

import base64
import re
from dataclasses import replace
from pathlib import Path

import pytest

from metrics.onset.onset import find_onset
from metrics.trajectory.readings import Reading
from metrics.trajectory.trajectory import Trajectory
from search.record.finished_run import FinishedRun
from search.record.judgement import SHEET_FILE, Judgement
from search.record.record import StudyFolder, TrialRecord
from search.verdict.delivery_report import write_delivery_report
from search.verdict.delivery_verdict import finish_delivery
from search.verdict.verdict import Verdict
from tests.search.finished_studies import PLANS, make_lora, make_study
from trainer.delivery.blocks import lbw
from trainer.lora.kohya_file import load_lora

WEIGHTS = {"M00": 0.0}


@pytest.fixture
def looked_at(tiny_sd15: Path, tiny_photos: Path, tmp_path: Path) -> tuple[StudyFolder, Path]:
    """A study that has looked at a LoRA under other weights, and the LoRA."""
    lora = tmp_path / "dog.safetensors"
    make_lora(lora, tiny_sd15)
    folder = make_study(tmp_path, tiny_sd15, tiny_photos, PLANS[:2])
    for number, params in enumerate((WEIGHTS, {"M00": 1.0})):
        record, home = TrialRecord.load(folder.trial(number)), folder.trial(number)
        base, look, *_ = folder.trajectory(number).readings
        curve = Trajectory((base, replace(look, epoch=1)))
        curve.save(home)
        seen = {"epochs": 1, "epochs_trained": 1, "epoch_shipped": 1, "score": look.score, "onset": find_onset(curve)}
        replace(record, **seen, state="complete", params=params, finished_run=FinishedRun({1: str(lora)})).save(home)
    return folder, lora


def test_weights_that_win_are_merged_and_the_prompt_for_the_old_file_is_kept(looked_at, tiny_sd15: Path) -> None:
    folder, file = looked_at
    lora = load_lora(file)
    wins = {"wins": ("background",), "images": 8, "prompts": 4}
    found = Judgement(0, WEIGHTS, weights=WEIGHTS, lbw=lbw(WEIGHTS, lora), **wins)
    sheet = folder.path / SHEET_FILE
    sheet.write_bytes(folder.samples_file(0, 0).read_bytes())
    published: list[Verdict] = []
    verdict = finish_delivery(folder, found, base=str(tiny_sd15), wall_seconds=3.0, keep=None, publish=published.append)
    merged = load_lora(folder.best_folder / "toy.safetensors")
    gone = lora.modules.keys() - merged.modules.keys()
    assert gone
    assert all("mid_block" in path for _, path in gone)
    assert (folder.best_folder / "prompt.txt").read_text() == f"<lora:dog:1:lbw={found.lbw}>\n"
    assert published == [verdict]
    assert verdict.decision is not None
    assert (verdict.decision.trial, verdict.decision.shipped) == (0, 1)
    assert all((folder.path / path).exists() for path in verdict.files.values())
    assert "Turn down M00 to 0." in folder.report.read_text()
    assert (folder.path / verdict.files["before and after"]).read_bytes() == sheet.read_bytes()
    assert base64.b64encode(sheet.read_bytes()).decode() in folder.report.read_text()
    sheet.unlink()  # by somebody who tidied up
    again = finish_delivery(folder, found, base=str(tiny_sd15), wall_seconds=3.0, keep=None)
    assert "before and after" not in again.files
    assert "data:image/png" not in folder.report.read_text()
    assert Verdict.load(folder.verdict_file).lora_bytes == (folder.best_folder / "toy.safetensors").stat().st_size


def test_where_nothing_wins_the_file_is_passed_on_byte_for_byte(looked_at, tiny_sd15: Path) -> None:
    folder, file = looked_at
    found = Judgement(1, {"M00": 1.0}, why_not="nothing is surely better")
    verdict = finish_delivery(folder, found, base=str(tiny_sd15), wall_seconds=3.0, keep=None)
    assert (folder.best_folder / "toy.safetensors").read_bytes() == file.read_bytes()
    assert not (folder.best_folder / "prompt.txt").exists()
    assert "prompt for the old file" not in verdict.files
    assert "Nothing to win" in verdict.said.headline


def test_the_report_has_a_row_for_each_set_of_weights_the_best_first(looked_at, tiny_sd15: Path) -> None:
    folder, _ = looked_at
    records = {record.number: record for record in folder.records()}
    base, look = folder.trajectory(0).readings
    read = {"subject": 0.871, "background": 0.126, "prompt": 0.304}
    channels = {**look.channels, **{name: Reading(value, value, value) for name, value in read.items()}}
    channels.pop("copying", None)
    Trajectory((base, replace(look, channels=channels))).save(folder.trial(0))
    (folder.trial(1) / "trajectory.csv").write_text("damaged")
    replace(records[0], score=0.5).save(folder.trial(0))
    replace(records[1], score=0.7).save(folder.trial(1))
    unscored = replace(records[1], number=2, score=None)
    unscored.save(folder.trial(2))
    found = Judgement(0, WEIGHTS, why_not="nothing is surely better")
    verdict = finish_delivery(folder, found, base=str(tiny_sd15), wall_seconds=3.0, keep=None)
    write_delivery_report(folder, verdict, found, list(folder.records()))
    text = folder.report.read_text()
    cells = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in re.findall(r"<tr.*?</tr>", text, re.S)]
    head = ["trial", "worth", "M00", "likeness", "background", "obedience", "copying"]
    first = ["1", "0.700", "1", "–", "–", "–", "–"]
    second = ["0", "0.500", "0", "0.87", "0.13", "0.30", "–"]
    assert [row for row in cells if row[:1] in (["trial"], ["0"], ["1"], ["2"])] == [head, first, second]
    assert verdict.files["LoRA"] == "best/toy.safetensors"
    assert verdict.files["report"] == "report.html"
