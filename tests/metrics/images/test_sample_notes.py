"""What an image says of itself: samples, sheets, strips and figures, of ours and of WebUIs."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from metrics.images.sample_notes import FIGURE_NOTE, Drawn, Figure, Sheet, note_of


def said(tmp_path: Path, *, name: str = "a.png", **texts: Any) -> Drawn | Sheet | Figure:
    image = Image.new("RGB", (8, 8))
    image.info.update({key: text if isinstance(text, str) else json.dumps(text) for key, text in texts.items()})
    return note_of(image, tmp_path / name)


SHEET = {"kind": "sheet", "epoch": 4, "rows": 1, "columns": 2, "prompts": ["a", "b"], "seeds": [1, None]}


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ({"kind": "sample", "epoch": 4, "prompt": "a toy", "seed": 7}, Drawn("a toy", 7, 4)),
        ({"kind": "figure"}, Figure()),
        (json.loads(FIGURE_NOTE["onset"]), Figure()),
        (SHEET, Sheet(1, 2, (Drawn("a", 1, 4), Drawn("b", None, 4)))),
        ({**SHEET, "kind": "strip"}, Sheet(1, 2, (Drawn("a", 1, 4), Drawn("b", None, 4)), extra=True)),
        ({**SHEET, "prompts": ["a"]}, Sheet(1, 2, (Drawn("", None, 4), Drawn("", None, 4)))),
        ({**SHEET, "seeds": []}, Sheet(1, 2, (Drawn("", None, 4), Drawn("", None, 4)))),
        ({**SHEET, "rows": 0}, Drawn()),
        ({**SHEET, "columns": 0}, Drawn()),
        ({**SHEET, "rows": 101, "columns": 100}, Drawn()),
        ({"kind": "sample", "epoch": 4, "prompt": "a toy"}, Drawn()),
        ({"kind": "sample", "epoch": "x", "prompt": "a", "seed": 1}, Drawn()),
        ("not json", Drawn()),
        ([1], Drawn()),
    ],
)
def test_ours_say_what_they_are_and_what_is_damaged_says_nothing(
    tmp_path: Path, note: Any, expected: Drawn | Sheet | Figure
) -> None:
    assert said(tmp_path, onset=note) == expected


def test_the_largest_sheet_has_ten_thousand_images(tmp_path: Path) -> None:
    found = said(tmp_path, onset={**SHEET, "rows": 100, "columns": 100})
    assert isinstance(found, Sheet)
    assert len(found.images) == 10_000


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("a toy, red\nNegative prompt: blue\nSteps: 20, Seed: 77, Size: 512x512", Drawn("a toy, red", 77)),
        ("a toy\non grass\nSteps: 20, Seed: 5", Drawn("a toy\non grass", 5)),
        ("a toy\nSteps: 20", Drawn("a toy")),
        ("a toy, Seed: 3", Drawn("", 3)),
        ("", Drawn()),
    ],
)
def test_webuis_say_prompt_and_seed(tmp_path: Path, parameters: str, expected: Drawn) -> None:
    assert said(tmp_path, parameters=parameters) == expected
    assert said(tmp_path, onset={"kind": "figure"}, parameters=parameters) == Figure(), "ours goes first"


@pytest.mark.parametrize(
    ("drawn", "key"),
    [(Drawn("a", 1, 3), "1 a"), (Drawn("a", 0), "0 a"), (Drawn("a"), ""), (Drawn("", 1), ""), (Drawn(), "")],
)
def test_a_key_has_prompt_and_seed_and_no_epoch(drawn: Drawn, key: str) -> None:
    assert drawn.key == key


@pytest.mark.parametrize(
    ("name", "beside", "expected"),
    [
        ("samples/0010.png", "train.json", Sheet()),
        ("samples/0010.png", "record.json", Sheet()),
        ("samples/0010.png", "other.json", Drawn()),
        ("samples/010.png", "train.json", Drawn()),
        ("samples/0010.jpg", "train.json", Drawn()),
        ("samples/a010.png", "train.json", Drawn()),
        ("drawn/0010.png", "train.json", Drawn()),
        ("sheet.png", "record.json", Figure()),
        ("onset.png", "train.yaml", Figure()),
        ("onset.png", "train.json", Drawn()),
        ("dog.png", "train.yaml", Drawn()),
    ],
)
def test_what_an_earlier_version_wrote_is_known_by_its_place(
    tmp_path: Path, name: str, beside: str, expected: Drawn | Sheet | Figure
) -> None:
    (tmp_path / beside).write_text("{}")
    assert said(tmp_path, name=name) == expected


def test_the_images_of_a_sheet_lie_row_by_row() -> None:
    assert Sheet(2, 3).boxes(31, 20) == [
        (0, 0, 10, 10), (10, 0, 20, 10), (20, 0, 30, 10), (0, 10, 10, 20), (10, 10, 20, 20), (20, 10, 30, 20)
    ]  # fmt: skip
