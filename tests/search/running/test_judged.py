"""The last look of a delivery study: what is looked at in which order, and which of several sets of weights is told."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metrics.checkpoint.calibration import Calibration
from metrics.checkpoint.score import calibrate
from metrics.checkpoint.weighting import LEAK, SUBJECT
from metrics.trajectory.readings import Readings
from search.record.judgement import SHEET_FILE, Judgement
from search.record.record import StudyFolder
from search.running import judging
from search.running.judging import judge, with_fresh_seeds
from search.study.study import Study
from tests.metrics.photo_sets import OTHERS, crops, probe_labels
from tests.search.running.test_judging import look, moved, trial
from tests.search.study.test_delivery import lora, study_of
from trainer.delivery.blocks import lbw
from trainer.lora.kohya_file import load_lora

LABELS = probe_labels()
AS_IT_IS = {"BASE": 1.0, "IN04": 1.0, "M00": 1.0}


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(crops(24, 1), [True] * 24, crops(len(LABELS), 2, OTHERS), LABELS, None)


class Looked:
    """Stands where `BlockLooks` does; `by`: weights to what every image reads more than under the LoRA as it is."""

    def __init__(self, file: str, by: Mapping[tuple[float, ...], Mapping[str, float]]) -> None:
        self.lora, self.by = load_lora(file, family="sd15"), by
        self.before = look(np.random.default_rng(0))
        self.seen: list[dict[str, float]] = []

    def read(self, weights: Mapping[str, float]) -> tuple[Readings, np.ndarray, dict[str, float]]:
        self.seen.append(dict(weights))
        images = np.full((len(LABELS) + 3, 32, 32, 3), 10 * len(self.seen), np.uint8)  # more than are shown
        key = tuple(weights.get(block, 1.0) for block in AS_IT_IS)
        return moved(self.before, **self.by[key]), images, {}


def judged(
    home: Path, monkeypatch: pytest.MonkeyPatch, calibration: Calibration, scores: Mapping[tuple[float, ...], float],
    by: Mapping[tuple[float, ...], Mapping[str, float]], step: float = 0.25,
) -> tuple[Study, Judgement, Looked, list[str]]:  # fmt: skip
    """The judgement of a study with one trial for each set of weights."""
    file = lora(home / "dog.safetensors", *AS_IT_IS)
    study, folder = study_of(home, {"step": step}), StudyFolder(home / "runs")
    for number, (weights, score) in enumerate(scores.items()):
        trial(number, score, **dict(zip(AS_IT_IS, weights, strict=True))).save(folder.trial(number))
    found = Looked(str(file), {(1.0, 1.0, 1.0): {}, **by})
    models = SimpleNamespace(base="base", encoder="encoder", identity="identity")

    def open_probe(fresh: Study, *given: Any) -> Any:
        assert fresh.score == with_fresh_seeds(study).score
        assert given == ("base", folder.cache / "judgement", "encoder", "identity")
        base = np.zeros((len(LABELS), 32, 32, 3), np.uint8)
        return SimpleNamespace(calibration=calibration, labels=LABELS, num_seeds=2, base_images=base)

    def looks(delivery: Any, probe: Any, there: Path) -> Looked:
        assert (delivery, there) == (study.kind, folder.cache / "judgement" / "probe")
        return found

    monkeypatch.setattr(judging, "load_models", lambda *given: models if given == (study, folder, 0) else None)
    monkeypatch.setattr(judging, "open_probe", open_probe)
    monkeypatch.setattr(judging, "BlockLooks", looks)
    said: list[str] = []
    return study, judge(study, folder, said.append), found, said


def test_what_wins_by_most_is_told_with_the_whole_lora_turned_down_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calibration: Calibration
) -> None:
    """Trial 1 did best in the search and nothing wins there; of 2 and 3, which both win, 3 is worth more."""
    half = {LEAK: -0.3, SUBJECT: -0.5}
    scores = {(1.0, 1.0, 1.0): 0.4, (1.0, 0.5, 1.0): 0.9, (1.0, 0.0, 0.5): 0.7, (1.0, 0.0, 0.0): 0.6}
    by = {
        (1.0, 0.5, 1.0): {}, (1.0, 0.0, 0.5): {LEAK: -0.1}, (1.0, 0.0, 0.0): {LEAK: -0.2, SUBJECT: -0.03},
        (0.75, 0.75, 0.75): {LEAK: -0.1, SUBJECT: -0.06}, (0.5, 0.5, 0.5): half,
    }  # fmt: skip
    _, found, looked, said = judged(tmp_path, monkeypatch, calibration, scores, by)
    weights = {"BASE": 1.0, "IN04": 0.0, "M00": 0.0}
    assert (found.trial, found.params, found.weights) == (3, weights, weights)
    assert (found.wins, found.why_not, found.among) == ((LEAK,), "", (1, 2, 3))
    assert found.lbw == lbw(weights, looked.lora)
    assert (found.images, found.prompts) == (len(LABELS), len(LABELS) // 2)
    assert found.plain == pytest.approx(0.875)
    assert found.plain_values[LEAK] == pytest.approx(looked.before.channels[LEAK].value - 0.05)
    everything = [dict.fromkeys(AS_IT_IS, strength) for strength in (0.75, 0.5)]
    tried = [dict(zip(AS_IT_IS, each, strict=True)) for each in [*scores][1:]]
    assert looked.seen == [{}, *everything, *tried]
    assert said == ["the best weights are looked at on fresh seeds"]
    with Image.open(tmp_path / "runs" / SHEET_FILE) as sheet:
        shades = {shade for shade in np.unique(np.asarray(sheet.convert("L"))).tolist() if not shade % 10}
    assert {0, 10, 60} <= shades, "the base, the LoRA as it is, and under the weights that are told"
    assert not {20, 30, 40, 50} <= shades


@pytest.mark.parametrize(("step", "strengths"), [(0.25, {0.75, 0.5}), (0.5, {0.5}), (1.0, set())])
def test_where_nothing_wins_the_best_of_the_search_is_told_beside_the_strengths_that_its_step_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calibration: Calibration, step: float, strengths: set[float]
) -> None:
    scores = {(1.0, 1.0, 1.0): 0.4, (1.0, 1.0, 0.0): 0.9, (0.0, 1.0, 0.0): 0.7}
    by = {weights: {LEAK: 0.1} for weights in [*scores][1:]} | {(s, s, s): {SUBJECT: s - 1} for s in strengths}
    _, found, looked, _ = judged(tmp_path, monkeypatch, calibration, scores, by, step)
    assert (found.trial, found.among, found.turns_down, found.costs) == (1, (1, 2), False, (LEAK,))
    assert {each["M00"] for each in looked.seen[1 : 1 + len(strengths)]} == strengths
    assert found.plain == (1.0 if strengths else None)
