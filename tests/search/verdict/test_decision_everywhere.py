"""One decision, told by all: whatever comes of a study, everything that it leaves behind says the same."""

import io
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from metrics.onset.sentences import choice_sentences, interval_text
from search.record.json_files import checked, write_bytes
from search.record.record import StudyFolder, TrialRecord
from search.running.progress import said
from search.status import main as status
from search.verdict import best_files
from search.verdict.artifacts import _trial_note
from search.verdict.decision import Decision, decide
from search.verdict.sentences import headline
from search.verdict.sheet import SHIP_PAPER
from search.verdict.terminal import render
from search.verdict.verdict import Verdict, finish
from tests.search.finished_studies import PLANS, Plan, make_study, make_trial

ONE = Plan({"optimizer": "AdamW", "lr_scheduler": "cosine", "learning_rate_scale": 4.0, "rank": 8}, quality=0.8)
PRUNED = {"state": "pruned", "stopped": "pruned", "trained": 10}
OUTCOMES: dict[str, tuple[str, tuple[Plan, ...]]] = {
    "a valley": ("ship", (replace(ONE, turn=18),)),
    "no onset within the run": ("ship", (ONE,)),
    "an onset right at the start": ("ship", (replace(ONE, turn=1.0, learned_at=0.2),)),
    "images that hardly show it": ("ship", (replace(ONE, quality=0.3, likeness=0.05, turn=18),)),
    "moved subjects that contradict": ("ship", (replace(ONE, turn=12.0, real_contexts=-0.8),)),
    "overfits before it learns": ("not_learned", (replace(ONE, turn=3.0, learned_at=12.0),)),
    "losses fall, images show nothing": ("not_learned", (replace(ONE, quality=0.0, likeness=0.0),)),
    "a score of nothing": ("poor", (replace(ONE, quality=0.01, turn=12),)),
    "only pruned": ("unfinished", (replace(ONE, **PRUNED),)),
    "only failed": ("nothing", (PLANS[4],)),
    "many": ("ship", (PLANS[1], PLANS[2], PLANS[4])),
}
RARER = (
    "no onset within the run", "images that hardly show it", "overfits before it learns", "a score of nothing", "many",
)  # fmt: skip
_SHIP = re.compile(r"\b[Ss]hip (?:epoch )?(\d+)\b")
_LEARNED = re.compile(r"show the subject from epoch (\d+)")
_INTERVAL = re.compile(r"(\d+(?:\.\d)?–(?:\d+(?:\.\d)?|open))(?![\w–])")


@pytest.fixture(
    scope="module",
    # of many trials tell test_verdict.py and test_report.py each day
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name in RARER)) for name in OUTCOMES],
    ids=[name.replace(" ", "-") for name in OUTCOMES],
)
def left(request, tmp_path_factory: pytest.TempPathFactory, tiny_photos: Path) -> SimpleNamespace:
    """A finished study of each outcome, and all that it tells, as text by where it stands."""
    outcome, plans = OUTCOMES[request.param]
    root = tmp_path_factory.mktemp("told")
    folder = make_study(root, root, tiny_photos, plans)
    for record in folder.records():
        for epoch in range(2, record.epochs_trained + 1, 2):
            write_bytes(folder.checkpoint(record.number, epoch) / "lora.safetensors", b"weights")
    verdict = finish(folder)
    told = _everything(folder, verdict)
    return SimpleNamespace(outcome=outcome, folder=folder, verdict=verdict, found=verdict.decision, told=told)


def _everything(folder: StudyFolder, verdict: Verdict) -> dict[str, str]:
    out = io.StringIO()
    Console(file=out, width=400).print(render(Verdict.load(folder.verdict_file), folder.path))
    page = re.sub(r"<(style|script)>.*?</\1>|data:[^\"]+", "", folder.report.read_text(encoding="utf-8"), flags=re.S)
    told = {"terminal": out.getvalue(), "verdict.json": folder.verdict_file.read_text(), "report": page}
    for path in folder.best_folder.iterdir():
        if path.suffix in (".yaml", ".txt"):
            told[path.name] = path.read_text(encoding="utf-8")
    for record in folder.records():
        told[f"note {record.number}"], told[f"line {record.number}"] = _trial_note(record), said(record)
        path = folder.path / "plot.svg"  # as text, from the same code that draws the picture in best/
        if record.number == verdict.trial and best_files._draw_plot(folder, record, path, shipping=headline(verdict)):
            told["plot"] = path.read_text(encoding="utf-8")
            path.unlink()
    return told


def test_the_outcome_is_the_planted_one_and_reads_back_from_the_file(left):
    assert left.found.outcome == left.outcome
    assert Verdict.load(left.folder.verdict_file) == left.verdict
    written = json.loads(left.folder.verdict_file.read_text())["decision"]
    assert written["ship"] is left.found.ships
    assert checked(Decision, written) == left.found


def test_nothing_names_another_epoch_to_ship(left):
    named = {where: set(_SHIP.findall(text)) for where, text in left.told.items()}
    allowed = {str(left.found.epoch)} if left.found.ships else set()
    assert {where: epochs for where, epochs in named.items() if epochs - allowed} == {}
    if left.found.ships:
        assert all(named[where] for where in ("terminal", "verdict.json", "report", "train.yaml"))
    else:
        assert not any("ship this" in text or "epoch to ship is" in text for text in left.told.values())
        assert "ship nothing" in left.told["terminal"].lower()
        assert "ship nothing" in left.told["SHIP-NOTHING-YET.txt"].lower()


def test_best_holds_a_lora_only_when_it_ships(left):
    assert (left.folder.best_folder / "toy.safetensors").is_file() == left.found.ships
    assert ("LoRA" in left.verdict.files) == left.found.ships
    assert (left.verdict.lora_bytes is not None) == left.found.ships
    for path in left.verdict.files.values():
        assert (left.folder.path / path).exists(), path


def test_sheets_mark_an_epoch_only_when_it_ships(left):
    sheets = left.folder.best_folder / "sheet.png", left.folder.trial(left.found.trial or 0) / "sheet.png"
    drawn = [sheet for sheet in sheets if sheet.is_file()]
    assert drawn or left.outcome == "nothing"
    for sheet in drawn:
        marked = (np.asarray(Image.open(sheet).convert("RGB")) == np.array(SHIP_PAPER)).all(axis=-1).any()
        assert marked == left.found.ships, sheet


def test_nobody_says_learned_but_the_images(left):
    learned = {str(decide(r).learned) for r in left.folder.records() if decide(r).learned is not None}
    for where, text in left.told.items():
        assert set(_LEARNED.findall(text)) <= learned, where
    onsets = [decide(r) for r in left.folder.records()]
    assert all(d.score >= 0.05 for d in onsets if d.learned is not None)
    said = set(_LEARNED.findall(left.told["terminal"]))
    assert said == (set() if left.found.learned is None else {str(left.found.learned)})


def test_the_safe_and_the_most_alike_epoch_are_told_alike_and_only_of_what_ships(left):
    found = left.found
    assert (found.safe is not None) == found.ships
    said = choice_sentences(found, found.unit)
    for where in ("terminal", "report"):
        for sentence in said:
            assert " ".join(sentence.split()) in " ".join(unescape(left.told[where]).replace("│", " ").split()), where
    if not said:
        assert "Most alike:" not in left.told["terminal"]


def test_intervals_have_one_form_and_one_word_for_an_open_end(left, capsys):
    assert status([str(left.folder.path), "--runs", str(left.folder.path.parent)]) == 0
    told = {**left.told, "status": capsys.readouterr().out}
    decisions = [decide(record) for record in left.folder.records()]
    known = {
        interval_text(dated.low, dated.high)
        for found in decisions
        for dated in (found.context, found.memory, found.safe, found.alike)
        if dated is not None and dated.epoch is not None
    }
    for where, text in told.items():
        if where != "verdict.json":
            assert set(_INTERVAL.findall(text)) <= known, where
        if left.found.ships and where in ("terminal", "report"):
            own = [o for o in (left.found.context, left.found.memory) if o.epoch is not None]
            assert {interval_text(o.low, o.high) for o in own} <= set(_INTERVAL.findall(text)), where
        assert "behind the last" not in text
        assert "…)" not in text


def test_the_verdict_speaks_of_the_interval_as_its_numbers_do(left):
    found, inside = left.found, "lies inside the interval" in left.told["terminal"]
    lows = [o.low for o in (found.context, found.memory) if o.status == "found" and o.low is not None]
    assert inside == (found.ships and bool(lows) and found.epoch > min(lows))


def test_a_contradiction_is_told_wherever_the_onset_is(left):
    expected = left.found.disagreement is not None
    assert ("contradict" in left.told["terminal"] or "disagree" in left.told["terminal"]) == expected
    assert ("disagree" in left.told["report"]) == expected


def test_no_trial_is_said_to_be_worth_an_epoch_that_its_study_denies(left):
    if not left.found.ships:
        assert not any(decide(record).ships for record in left.folder.records())


def test_what_is_passed_on_names_no_folder_of_this_disk(left):
    for where in ("report", "verdict.json"):
        assert str(left.folder.path.parents[1]) not in left.told[where]
        assert str(Path.home()) + "/" not in left.told[where]


def test_a_trial_that_ships_wins_over_a_better_score_that_shows_nothing(tmp_path, tiny_photos):
    folder = make_study(tmp_path, tmp_path, tiny_photos, (replace(ONE, turn=3.0, learned_at=12.0), ONE))
    record = TrialRecord.load(folder.trial(0))
    replace(record, value=0.99, score=0.99).save(folder.trial(0))
    verdict = finish(folder)
    assert (verdict.trial, verdict.decision.ships) == (1, True)


def test_records_of_an_earlier_version_are_decided_on_as_well(tmp_path, tiny_photos):
    folder = StudyFolder(tmp_path / "old")
    make_trial(folder, 0, replace(ONE, turn=18), tmp_path, tiny_photos)
    record = TrialRecord.load(folder.trial(0))
    path = folder.trial(0) / "record.json"
    written = json.loads(path.read_text())
    for newer in ("learned_by", "disagreement", "likeness", "copying"):
        del written["onset"][newer]
    path.write_text(json.dumps(written))
    now, then = decide(record), decide(TrialRecord.load(folder.trial(0)))
    assert replace(now, likeness=None) == then


def test_a_verdict_of_an_earlier_version_is_drawn_anew_from_the_records(tmp_path, tiny_photos):
    folder = make_study(tmp_path, tmp_path, tiny_photos, (replace(ONE, turn=18),))
    verdict = finish(folder)
    folder.verdict_file.write_text(json.dumps({"study": "toy", "status": "found", "trial": 0, "sentences": []}))
    again = Verdict.load(folder.verdict_file)
    assert again.decision == verdict.decision
    assert again.said.why == verdict.said.why


def test_a_study_that_has_gone_on_shows_no_verdict_from_before_as_todays(tmp_path, tiny_photos, capsys):
    folder = make_study(tmp_path, tmp_path, tiny_photos, (replace(ONE, turn=18),))
    verdict = finish(folder)
    assert status([str(folder.path)]) == 0
    assert verdict.sentences[0].split()[0] in capsys.readouterr().out
    make_trial(folder, 1, ONE, tmp_path, tiny_photos)
    assert status([str(folder.path)]) == 0
    said = capsys.readouterr().out
    assert f"the study has gone on since its verdict of 1 trials: {headline(verdict)}" in said
    assert "best so far: trial" in said
    assert "report.html" not in said
