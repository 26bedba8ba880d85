"""A verdict by somebody's own score: of any scale, with ours beside it, ties in its own units."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metrics.checkpoint.objective import Objective, scored_by
from metrics.trajectory.readings import OWN_SCORE
from metrics.trajectory.trajectory import Trajectory
from search.record.curve import Curve
from search.record.finalists import Finalist, Finalists
from search.record.record import StudyFolder, TrialRecord
from search.record.trial_progress import Course
from search.verdict.attributes import study_attributes, trial_attributes
from search.verdict.charts import score_chart
from search.verdict.decision import LEAST_SCORE, decide
from search.verdict.plateau import jitter
from search.verdict.ranking import contenders
from search.verdict.report import write_report
from search.verdict.trial_sentences import trial_sentences
from search.verdict.verdict import make_verdict

NAME = "taste:upside_down"


@pytest.fixture
def folder(finished_study: StudyFolder, tmp_path: Path) -> StudyFolder:
    shutil.copytree(finished_study.path, tmp_path / "toy", ignore=shutil.ignore_patterns("samples", "artifacts"))
    return StudyFolder(tmp_path / "toy")


def rescored(folder: StudyFolder, objective: Objective) -> None:
    """The study as if it had been scored so from the start."""
    for record in list(folder.records()):
        if record.state == "failed":
            continue
        read = folder.trajectory(record.number).readings
        trajectory = Trajectory(tuple(scored_by(objective, readings) for readings in read))
        trajectory.save(folder.trial(record.number))
        ended = Course(replace(record, objective=NAME), trajectory=trajectory)
        ended.ended(record.state, record.stopped, record.onset).save(folder.trial(record.number))


def upside_down(values) -> float:
    return -1000 * values[OWN_SCORE]


def test_the_highest_of_it_wins_below_0_too_and_ours_says_whether_it_is_worth_shipping(folder: StudyFolder) -> None:
    before = make_verdict(folder)
    rescored(folder, upside_down)
    verdict, records = make_verdict(folder), list(folder.records())
    worst = min((r for r in records if r.state == "complete" and decide(r).ships), key=lambda r: r.own_score)
    assert (verdict.trial, verdict.decision.ships) == (worst.number, True)
    assert verdict.trial != before.trial
    assert verdict.score == pytest.approx(-1000 * worst.own_score)
    assert verdict.decision.own_score == worst.own_score
    assert f"The score is what {NAME} makes of the readings. Onset's own score there is {worst.own_score:.3f}." in (
        verdict.said.why
    )
    poor = replace(worst, own_score=LEAST_SCORE / 2)
    assert decide(poor).outcome == "poor"
    assert decide(replace(worst, own_score=None)).ships, "without ours, an objective's word is taken"


def test_onsets_and_epochs_to_ship_are_the_same(folder: StudyFolder) -> None:
    before = {record.number: decide(record) for record in folder.records()}
    rescored(folder, upside_down)
    for record in folder.records():
        now = replace(decide(record), objective="", own_score=None, score=before[record.number].score)
        assert now == before[record.number]


def test_its_noise_is_measured_on_its_own_scale_and_the_highest_of_a_tie_wins(folder: StudyFolder) -> None:
    curves = [curve for record in folder.records() if (curve := Curve.load(folder.trial(record.number)))]
    for factor in (1e-4, 1.0, 1e4):
        scaled = [Curve(curve.epochs, factor * curve.scores) for curve in curves]
        assert jitter(scaled, bounded=False) == pytest.approx(factor * jitter(curves, bounded=False))
    assert jitter(curves[:0], bounded=False) == 0
    rescored(folder, lambda values: 1e4 * values[OWN_SCORE])
    verdict = make_verdict(folder)
    assert verdict.noise == pytest.approx(1e4 * jitter(curves, bounded=False))
    values = {r.number: r.value for r in folder.records() if r.state == "complete"}
    first, second = sorted(values, key=lambda number: -values[number])[:2]
    assert verdict.trial == first
    near = TrialRecord.load(folder.trial(second))
    value = values[first] - verdict.noise / 2
    config = near.config.model_copy(update={"rank": 1})  # the smaller LoRA
    replace(near, score=value, value=value, config=config).save(folder.trial(second))
    tied = make_verdict(folder)
    assert (tied.trial, tied.ties) == (first, (second,))
    assert f"(±{tied.noise:.3f}). The highest wins." in " ".join(tied.said.sure)


def test_no_trial_is_kept_for_a_tie_that_our_scale_would_make(folder: StudyFolder) -> None:
    rescored(folder, lambda values: 1e-3 * values[OWN_SCORE])
    records = [record for record in folder.records() if record.state == "complete"]
    assert len(contenders(records, 2)) == 2


def test_fresh_images_are_ranked_by_it_with_ours_beside(folder: StudyFolder) -> None:
    rescored(folder, upside_down)
    best = sorted((r for r in folder.records() if decide(r).ships), key=lambda r: -(r.score or 0))[:2]
    drawn = tuple(
        Finalist(r.number, r.epoch_shipped or 0, r.score or 0, -500.0 - place, -600, -400, 0.5, own=0.5 + place / 10)
        for place, r in enumerate(reversed(best))
    )
    Finalists({"trials": 2}, drawn).save(folder)
    verdict = make_verdict(folder)
    assert (verdict.trial, verdict.score, verdict.decision.own_score) == (best[1].number, -500.0, 0.5)


def test_report_and_attributes_show_both(folder: StudyFolder) -> None:
    rescored(folder, upside_down)
    verdict = make_verdict(folder)
    text = re.sub(r"\s+", " ", write_report(folder, verdict).read_text(encoding="utf-8"))
    assert f"by {NAME}" in text
    assert "Onset&#39;s own score there (0 to 1)" in text
    record = TrialRecord.load(folder.trial(verdict.trial or 0))
    assert trial_attributes(record)["onset_score"] == record.own_score
    assert trial_attributes(record)["objective"] == NAME
    assert study_attributes(verdict)["onset_score"] == record.own_score
    assert NAME in " ".join(trial_sentences(decide(record)))


def test_the_chart_reaches_from_the_lowest_to_the_highest() -> None:
    chart = str(
        score_chart([(0, [0, 1, 2], [-999.0, 20.0, 60.0]), (1, [0, 1, 2], [-999.0, 30.0, 40.0])], 0, scale=None)
    )
    heights = [float(y) for points in re.findall(r'points="([^"]+)"', chart) for y in re.findall(r",([\d.]+)", points)]
    assert (min(heights), max(heights)) == (18.0, 270.0)
    assert re.findall(r'text-anchor="end">([-\d.]+)<', chart) == ["20", "30", "40", "50", "60"]
    levels = score_chart([(0, [0, 1, 2], [0.1, 0.2, 0.3])], 0)
    assert re.findall(r'text-anchor="end">([-\d.]+)<', str(levels)) == ["0", "0.25", "0.5", "0.75", "1"]
    assert np.isfinite(heights).all()
