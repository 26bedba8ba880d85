"""What ships at other strengths: which columns and rows, and that none is drawn twice."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metrics.checkpoint.calibration import ProbeLabels
from search.probe.drawing import precision_of
from search.record.finalists import STRENGTHS_SHEET, StrengthsShown
from search.record.record import StudyFolder
from search.running import strength_look
from search.running.strength_look import _Cell, _kept, _rows, cells_of, show_strengths
from search.study.study import Study, load_study
from tests.search.finished_studies import make_lora
from trainer.base_model.load import load_base
from trainer.inference.picture_grid import INK, MUTED, Column
from trainer.lora.kohya_file import load_lora


@pytest.mark.parametrize(
    ("cell", "heading"),
    [
        (_Cell(8, 1.0), Column("epoch 8", "ships", ink=INK, bold=True)),
        (_Cell(8, 0.8), Column("epoch 8", "at 0.8", ink=MUTED)),
        (_Cell(6, 1.0), Column("epoch 6", "at 1", ink=MUTED)),
        (_Cell(8, 1.0, "/bases/fourteenletter.safetensors"), Column("other base", "fourteenletter")),
        (_Cell(8, 1.0, "/bases/fifteen-letters.safetensors"), Column("other base", "fifteen-lette…")),
    ],
)
def test_a_column_says_which_epoch_how_strong_or_which_base(cell: _Cell, heading: Column) -> None:
    assert cell.heading(8) == heading


def labelled(prompts: str, sets: str) -> Any:
    images = range(len(prompts))
    labels = ProbeLabels(
        tuple(prompts), tuple(prompts), tuple(sets), tuple(-1 for _ in images), tuple(100 + n for n in images)
    )
    return SimpleNamespace(prompts=SimpleNamespace(labels=labels), asked="a")


@pytest.mark.parametrize(
    ("prompts", "sets", "rows"),
    [
        ("aabbccddee", "AACCCCCCCC", [0, 2, 4, 6]),
        ("aabbccdd", "AAAABBCC", [0, 2, 4, 6]),
        ("aabbccddee", "AAAABBBBCC", [0, 2, 4, 8]),
        ("aabbccdd", "CCCCAAAA", [4, 6, 0, 2]),
        ("abcdef", "CCCCCA", [5, 0, 1, 2]),
        ("aabb", "AACC", [0, 2]),
        ("abab", "ACAC", [0, 1]),
        ("abcde", "CCCCC", [0, 1, 2, 3]),
    ],
)
def test_rows_are_one_captions_and_new_contexts_each_under_its_first_seed(prompts, sets, rows) -> None:
    assert _rows(labelled(prompts, sets)) == rows


def test_a_column_is_drawn_once_and_again_where_it_is_damaged(tmp_path: Path) -> None:
    drawn, file = [], tmp_path / "strengths" / "0.npz"

    def draw() -> np.ndarray:
        drawn.append(len(drawn))
        return np.full((2, 4, 4, 3), len(drawn), np.uint8)

    for times, damage in ((1, None), (1, b"torn"), (2, b""), (3, None)):
        images = _kept(file, draw)
        assert len(drawn) == times
        assert (images.dtype, images.shape, images.max(), images.min()) == (np.uint8, (2, 4, 4, 3), times, times)
        if damage is not None:
            file.write_bytes(damage)


@pytest.fixture
def study(write_study) -> Study:
    return load_study(write_study(finalists={"strengths": [0.5, 1.0], "transfer_bases": ["base"]}))


def test_workers_draw_their_columns_and_the_picture_is_made_of_all_of_them(
    study: Study, tmp_path: Path, monkeypatch
) -> None:
    folder, drawn, said = StudyFolder(tmp_path / "small"), [], []
    fresh = labelled("aabbcc", "AACCCC")
    folder.path.mkdir()

    def planted(study, folder, fresh, trial, cell, prompts, seeds) -> np.ndarray:
        assert (trial, prompts, seeds) == (3, ["a", "b", "c"], [100, 102, 104])
        drawn.append((cell.epoch, cell.strength, cell.base))
        return np.full((3, 32, 32, 3), 20 * len(drawn), np.uint8)

    monkeypatch.setattr(strength_look, "_drawn", planted)
    show_strengths(study, folder, fresh, 3, 8, said.append, slice(0, 1))
    show_strengths(study, folder, fresh, 3, 8, said.append, slice(2, None))
    other = (8, 1.0, study.transfer_bases[0])
    assert drawn == [(8, 0.5, None), other]
    assert not (folder.path / STRENGTHS_SHEET).exists()
    assert StrengthsShown.load(folder) is None
    show_strengths(study, folder, fresh, 3, 8, said.append)
    assert drawn == [(8, 0.5, None), other, (8, 1.0, None)]
    assert (folder.path / STRENGTHS_SHEET).is_file()
    shown = StrengthsShown.load(folder)
    assert shown is not None
    assert (shown.trial, shown.epoch) == (3, 8)
    assert list(folder.cache.iterdir()) == [], "the columns have served"
    assert said == ["drawing at other strengths"] * 3
    show_strengths(study, folder, fresh, 3, 8, said.append)
    assert len(drawn) == len(said) == 3, "it is there as it would be drawn"
    (folder.path / STRENGTHS_SHEET).unlink()
    show_strengths(study, folder, fresh, 3, 8, said.append)
    assert len(drawn) == 6
    fresh.asked = "drawn otherwise"
    show_strengths(study, folder, fresh, 3, 8, said.append)
    assert len(drawn) == 9


@pytest.mark.parametrize("other", [None, "another.safetensors"])
def test_a_column_is_drawn_as_a_checkpoint_is_with_its_strength_on_its_base(
    study: Study, tmp_path: Path, tiny_sd15: Path, monkeypatch, other: str | None
) -> None:
    folder, base, elsewhere = StudyFolder(tmp_path / "small"), load_base(tiny_sd15), load_base(tiny_sd15)
    make_lora(folder.checkpoint(3, 8) / "lora.safetensors", tiny_sd15)
    fresh = labelled("ab", "AC")
    config = study.config(next(study.space.combinations()))
    fresh.probe = SimpleNamespace(base=base, score=study.score, config=config, precision="own", cache="the cache")
    drawn: list[Any] = []
    asked: list[tuple[Any, ...]] = []

    def sample(*arguments: Any, **named: Any) -> str:
        drawn.append((arguments, named))
        return "images"

    def load(source: str, **named: Any) -> Any:
        asked.append((source, named))
        return elsewhere

    monkeypatch.setattr(strength_look, "sample", sample)
    monkeypatch.setattr(strength_look, "load_base", load)
    cell = _Cell(8, 0.6, other)
    found: Any = strength_look._drawn(study, folder, fresh, 3, cell, ["a", "b"], [100, 101])
    assert found == "images"
    (((given, lora, prompts, seeds), named),) = drawn
    assert given is (base if other is None else elsewhere)
    assert lora.modules.keys() == load_lora(folder.checkpoint(3, 8) / "lora.safetensors", family="sd15").modules.keys()
    assert (prompts, seeds, named["strength"]) == (["a", "b"], [100, 101], 0.6)
    assert named["cache"] == ("the cache" if other is None else None)
    assert named["precision"] == ("own" if other is None else precision_of(study.score, elsewhere))
    about = {"family": "sd15", "device": base.device, "precision": config.precision, "quantize": config.quantize}
    assert asked == ([] if other is None else [(other, about)])


def test_columns_are_the_epochs_around_what_ships_then_other_bases(study: Study, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "small")
    for epoch in (2, 4, 6, 8, 10, 12):
        file = folder.checkpoint(3, epoch) / "lora.safetensors"
        file.parent.mkdir(parents=True)
        file.touch()
    (folder.checkpoint(3, 7)).mkdir()  # a state alone

    def epochs(shipped: int) -> list[int]:
        cells = list(cells_of(study, folder, 3, shipped))
        assert cells[-1] == _Cell(shipped, 1.0, study.transfer_bases[0])
        assert [cell.strength for cell in cells[:-1]] == [0.5, 1.0] * ((len(cells) - 1) // 2)
        return [cell.epoch for cell in cells[:-1:2]]

    assert [epochs(shipped) for shipped in (2, 6, 12, 9)] == [[2, 4], [4, 6, 8], [10, 12], [8, 9, 10]]


def test_strengths_are_shown_of_the_kept_checkpoints_around_the_one_to_ship(write_study: Any, tmp_path: Path) -> None:
    study, folder = load_study(write_study()), StudyFolder(tmp_path)
    for epoch in (2, 4, 10, 12):
        (folder.checkpoint(3, epoch)).mkdir(parents=True)
        (folder.checkpoint(3, epoch) / "lora.safetensors").touch()
    (folder.checkpoint(3, 8)).mkdir()  # its LoRA was not kept
    changed = load_study(study.file, ["finalists.strengths=[0.5, 1]", f"finalists.transfer_bases=[{study.base}]"])
    other = (10, 1.0, changed.transfer_bases[0])
    assert [(cell.epoch, cell.strength, cell.base) for cell in cells_of(changed, folder, 3, 10)] == [
        *((epoch, strength, None) for epoch in (4, 10, 12) for strength in (0.5, 1)), other
    ]  # fmt: skip
    assert {cell.epoch for cell in cells_of(changed, folder, 3, 2)} == {2, 4}
