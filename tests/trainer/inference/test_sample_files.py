"""What a sample's file is called, what stands inside, and which files of an epoch are there afterwards."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.inference.sample_files import (
    SampleNote,
    SheetNote,
    sample_name,
    sheet_png,
    write_figure,
    write_image,
    write_samples,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), np.uint8)
DRAWN = SampleNote(3, "snow, at night", 7, "blurry", 20, 6.5, "euler_a")


def _read(file: Path | io.BytesIO) -> tuple[np.ndarray, dict[str, str]]:
    with Image.open(file) as image:
        image.load()
        return np.asarray(image), {str(key): str(value) for key, value in image.info.items()}


def test_an_epochs_samples_and_their_strip_are_what_was_drawn(tmp_path: Path) -> None:
    notes = [DRAWN, SampleNote(3, "sun", 8, scheduler="heun", guidance=7.0, steps=5)]
    write_samples(tmp_path, IMAGES[:2], notes)
    names = ["0003_00_snow-at-night_seed7.png", "0003_01_sun_seed8.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "strip_0003.png"]
    parameters = (
        "snow, at night\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 6.5, Seed: 7, Size: 4x5",
        "sun\nSteps: 5, Sampler: heun, CFG scale: 7, Seed: 8, Size: 4x5",
    )
    for name, image, note, said in zip(names, IMAGES, notes, parameters, strict=False):
        pixels, info = _read(tmp_path / name)
        assert np.array_equal(pixels, image)
        assert SampleNote(**json.loads(info["onset"])) == note
        assert info["parameters"] == said
    pixels, info = _read(tmp_path / "strip_0003.png")
    assert np.array_equal(pixels, np.hstack(list(IMAGES[:2])))
    assert json.loads(info["onset"]) == {
        "epoch": 3,
        "rows": 1,
        "columns": 2,
        "prompts": ["snow, at night", "sun"],
        "seeds": [7, 8],
        "kind": "strip",
    }
    assert "parameters" not in info


def test_what_was_drawn_for_an_epoch_before_goes_and_nothing_else(tmp_path: Path) -> None:
    write_samples(tmp_path, IMAGES[:1], [SampleNote(4, "snow", 7)])
    write_samples(tmp_path, IMAGES[:1], [SampleNote(3, "sun", 7)])
    (tmp_path / "0003_mine.png").write_bytes(b"")
    write_samples(tmp_path, IMAGES[:1], [DRAWN])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0003_00_snow-at-night_seed7.png",
        "0003_mine.png",
        "0004_00_snow_seed7.png",
        "strip_0003.png",
        "strip_0004.png",
    ]


def test_an_image_by_itself_says_how_it_was_drawn_and_a_figure_that_it_is_none(tmp_path: Path) -> None:
    write_image(tmp_path / "image.png", IMAGES[0], DRAWN)
    pixels, info = _read(tmp_path / "image.png")
    assert np.array_equal(pixels, IMAGES[0])
    assert "onset" not in info
    assert info["parameters"].startswith("snow, at night\n")
    write_figure(tmp_path / "figure.png", Image.fromarray(IMAGES[1]))
    pixels, info = _read(tmp_path / "figure.png")
    assert np.array_equal(pixels, IMAGES[1])
    assert json.loads(info["onset"]) == {"kind": "figure"}


def test_a_sheet_has_its_images_row_by_row() -> None:
    note = SheetNote(2, rows=2, columns=3, prompts=("a",) * 6, seeds=(1, 2, 3, 4, 5, 6))
    pixels, info = _read(io.BytesIO(sheet_png(IMAGES, note)))
    assert np.array_equal(pixels, np.vstack([np.hstack(list(IMAGES[:3])), np.hstack(list(IMAGES[3:]))]))
    assert json.loads(info["onset"])["kind"] == "sheet"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("A photo, of_sks  Dog!", "a-photo-of-sks-dog"),
        ("", "empty"),
        ("?!", "empty"),
        ("x" * 70, "x" * 60),
        ("雪" * 70, "雪" * 40),  # three bytes each: 120 of them
        ("é" * 70, "é" * 60),
    ],
)
def test_a_name_has_the_prompts_first_words(prompt: str, words: str) -> None:
    assert sample_name(12, SampleNote(10, prompt, 99)) == f"0010_12_{words}_seed99.png"


def test_a_prompt_that_no_file_can_hold_is_written_as_near_as_can_be(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", IMAGES[0], SampleNote(0, "a\udc80b", 1))
    assert _read(tmp_path / "a.png")[1]["parameters"].startswith("a?b\n")
