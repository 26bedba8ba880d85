"""A final run and its twin: brought to the same epoch, and the average of the checkpoints around the best."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from metrics.images.sample_notes import Sheet, note_of
from metrics.onset.onset import find_onset
from metrics.trajectory.readings import Readings
from search.record.events import Checkpointed, TrialSpec, load_readings, save_readings
from search.record.final_run import TWIN, Average
from search.running.final_run import _to_average, align, make_average
from search.verdict.plateau import jitter
from tests.search.any_config import CONFIG
from tests.search.finished_studies import Plan, make_lora, planted
from trainer.checkpoint import LORA_FILE, checkpoint_path, checkpoints, save_state, write_checkpoint
from trainer.lora.kohya_file import load_lora, read_metadata, save_lora


def left(home: Path) -> list[int]:
    return [int(path.name) for path in checkpoints(home / "checkpoints")]


def write(home: Path, epoch: int, *, whole: bool = True) -> None:
    def fill(aside: Path) -> None:
        (aside / LORA_FILE).write_bytes(b"x")
        if whole:
            save_state(aside, {"epoch": epoch})

    write_checkpoint(home / "checkpoints", epoch, fill)


@pytest.mark.parametrize(
    ("run", "twin", "kept"),
    [
        ({1, 2, 3}, {1, 2, 3}, 3),
        ({1, 2, 3}, {1, 2}, 2),
        ({1, 2}, {1, 2, 3}, 2),
        ({2, 3}, {1, 2}, 2),
        ({3}, {2}, 0),
        (set(), {1}, 0),
    ],
)
def test_both_go_on_from_the_newest_epoch_that_both_can(tmp_path: Path, run, twin, kept) -> None:
    """Of earlier checkpoints only the LoRA is there, which stays."""
    for home, whole in ((tmp_path, run), (tmp_path / TWIN, twin)):
        for epoch in range(1, max(whole, default=0) + 1):
            write(home, epoch, whole=epoch in whole)
    align(tmp_path)
    assert left(tmp_path) == [*range(1, min(kept, max(run, default=0)) + 1)]
    assert left(tmp_path / TWIN) == [*range(1, min(kept, max(twin, default=0)) + 1)]


def onset(best: int, *, learned: int | None = None, context: float | None = None, memory: float | None = None) -> Any:
    return SimpleNamespace(
        best=best, learned=learned, context=SimpleNamespace(epoch=context), memory=SimpleNamespace(epoch=memory)
    )


@pytest.mark.parametrize(
    ("around", "found", "epochs"),
    [
        ((6, 12), onset(8), [6, 8, 10, 12]),
        ((8, 12), onset(8), [8, 10, 12]),
        ((8, 10), onset(8), [6, 8, 10, 12]),  # few: their neighbours, too
        ((8, 8), onset(8), [6, 8, 10]),
        ((2, 2), onset(2), [2, 4]),
        ((16, 16), onset(16), [14, 16]),
        ((6, 12), onset(8, memory=10), [6, 8, 10]),
        ((6, 12), onset(8, memory=9, context=14), [6, 8]),
        ((6, 12), onset(8, memory=14, context=9), [6, 8]),
        ((6, 12), onset(10, memory=7), [6, 8, 10]),  # the best one itself, though behind
        ((6, 12), onset(8, learned=8), [8, 10, 12]),
        ((8, 8), onset(8, learned=8), [8, 10]),
    ],
)
def test_which_checkpoints_are_averaged(around: tuple[int, int], found: Any, epochs: list[int]) -> None:
    assert _to_average([*range(2, 18, 2)], around, found) == epochs


@pytest.fixture
def spec(tmp_path: Path) -> TrialSpec:
    """A trial whose score has a plateau from epoch 8 on, without onset; its twin's."""
    config = CONFIG.model_copy(update={"epochs": 20, "save_every_n_epochs": 2})
    found = TrialSpec(0, tmp_path / "0000", config, 0)
    scores = [0.0, 0.1, 0.2, 0.3, *[0.5] * 7]
    trajectory = planted(Plan({}, quality=0.5), 20, 0)
    for reading, score in zip(trajectory.readings, scores, strict=True):
        reading = replace(reading, score=score)
        if reading.epoch:
            Checkpointed(0, reading.epoch, reading).save(found.folder)
        else:
            save_readings(Checkpointed.file(found.folder, 0), reading)
    return found


class Looked:
    """A probe that notes what it is to read."""

    num_seeds, labels = 2, SimpleNamespace(prompts=("a toy", "a toy"), seeds=(3, 4))

    def __init__(self, score: float) -> None:
        self.base = SimpleNamespace(family=SimpleNamespace(name="sd15"))
        self.score, self.seen = score, list[Any]()

    def read(self, lora: Any, *, epoch: int, effort: float, twin: Any, say: Any) -> Any:
        self.seen.append((lora, twin, epoch, effort))
        return Readings(epoch, effort, {}, {}, self.score), np.full((2, 8, 8, 3), 77, np.uint8), {}


def test_the_average_is_that_of_the_plateau_beside_its_twins(spec: TrialSpec, tiny_sd15: Path, tmp_path: Path) -> None:
    """LoRAs whose `up` grows by 1 with each epoch: the mean of the products is that of the epochs."""
    make_lora(tmp_path / "one.safetensors", tiny_sd15, rank=2)
    one = load_lora(tmp_path / "one.safetensors", family="sd15")
    for home, sign in ((spec.folder, 1.0), (spec.folder / TWIN, -1.0)):
        for epoch in range(2, 22, 2):
            modules = {site: replace(m, up=m.up * 0.1 * epoch * sign) for site, m in one.modules.items()}
            path = checkpoint_path(home / "checkpoints", epoch) / LORA_FILE
            path.parent.mkdir(parents=True)
            save_lora(path, replace(one, modules=modules), {"ss_output_name": f"{epoch}"})
    trajectory = replace(planted(Plan({}), 20, 0), readings=tuple(_read(spec)))
    onset = find_onset(trajectory)
    assert onset.learned == 10
    probe: Any = Looked(0.6)
    said: list[str] = []
    make_average(spec, probe, "balanced", keep_samples=False, say=said.append)
    found = Average.load(spec.folder)
    assert found is not None
    assert (found.score, found.best, found.noise) == (0.6, 0.5, jitter([trajectory]))
    assert found.epochs == tuple(range(10, 22, 2)), "of the plateau from 8 on"
    ((lora, twin, epoch, effort),) = probe.seen
    assert (epoch, effort) == (onset.best, 0.0), "no training alone leads to it"
    assert len(said) == 1
    mean = 0.1 * np.mean(found.epochs)
    for site, module in one.modules.items():
        expected = (module.up.flatten(1) @ module.down.flatten(1)) * mean
        for weights, sign in ((lora, 1.0), (twin, -1.0)):
            got = weights.modules[site]
            product = got.up.flatten(1) @ got.down.flatten(1) * (got.alpha / got.rank) / (module.alpha / module.rank)
            assert torch.allclose(product, expected * sign, atol=2e-2 * float(expected.abs().max()))
    assert Average.lora(spec.folder).is_file()
    assert not Average.samples(spec.folder).exists()
    make_average(spec, probe, "balanced", keep_samples=False)
    assert len(probe.seen) == 1, "it is there"
    assert read_metadata(Average.lora(spec.folder))["ss_output_name"] == f"{onset.best}"
    shutil.rmtree(Average.lora(spec.folder).parent)
    make_average(spec, probe, "balanced", keep_samples=True)
    with Image.open(Average.samples(spec.folder)) as sheet:
        assert (np.asarray(sheet.convert("RGB")) == 77).any()
        note = note_of(sheet, Average.samples(spec.folder))
    assert isinstance(note, Sheet)
    assert [(one.prompt, one.seed) for one in note.images] == [("a toy", 3), ("a toy", 4)]
    probe.score = float("nan")
    shutil.rmtree(Average.lora(spec.folder).parent)
    make_average(spec, probe, "balanced", keep_samples=False)
    assert (Average.load(spec.folder), Average.lora(spec.folder).is_file()) == (None, True), (
        "nobody says how good it is"
    )


def test_no_average_of_a_dora_or_of_a_score_that_is_no_number(spec: TrialSpec) -> None:
    probe: Any = Looked(0.6)
    dora = replace(spec, config=spec.config.model_copy(update={"dora": True}))
    make_average(dora, probe, "balanced", keep_samples=False)
    assert not probe.seen
    assert Average.load(spec.folder) is None


def _read(spec: TrialSpec) -> list[Readings]:
    return [load_readings(Checkpointed.file(spec.folder, epoch))[0] for epoch in Checkpointed.epochs(spec.folder)]
