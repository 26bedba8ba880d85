"""What the words and sizes of a drawn comparison come to, and the files of its images."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.base_model.load import load_base
from trainer.inference import drawing
from trainer.inference.checkpoint_choice import Chosen
from trainer.inference.drawing import Drawing, native_size


def test_a_base_draws_at_the_size_that_it_was_made_for(tiny_sd15: Path) -> None:
    pixels = json.loads((tiny_sd15 / "unet" / "config.json").read_text())["sample_size"]
    blocks = len(json.loads((tiny_sd15 / "vae" / "config.json").read_text())["block_out_channels"])
    side = pixels * 2 ** (blocks - 1)
    assert native_size(load_base(tiny_sd15)) == (side, side)


@pytest.mark.parametrize(
    ("of", "strength", "strengths", "label"),
    [
        ("", 1.0, (1.0,), ""),
        ("trial 3", 1.0, (1.0,), "trial 3"),
        ("", 0.5, (0.5,), "× 0.5"),
        ("", 1.0, (1.0, 0.5), "× 1"),
        ("trial 3", 0.25, (1.0, 0.25), "trial 3 × 0.25"),
    ],
)
def test_a_column_says_its_trial_and_any_strength_but_the_plain_one(of, strength, strengths, label) -> None:
    assert drawing._label(Chosen(Path("a"), "a", of), strength, strengths) == label


def test_cells_share_the_widest_picture_within_their_bounds() -> None:
    least, most = drawing._CELLS
    widths = [drawing._cell([None] * number) for number in range(1, 200)]
    assert (widths[0], widths[-1]) == (most, least)
    assert widths == sorted(widths, reverse=True)
    for number, width in enumerate(widths, 1):
        assert width in (least, most) or width * number <= drawing._WIDEST < (width + 1) * number


def test_numbers_are_told_in_words() -> None:
    assert (drawing._count(1, "row"), drawing._count(2, "row")) == ("1 row", "2 rows")
    assert (drawing._seeds([4]), drawing._seeds([4, 5, 6])) == ("seed 4", "seeds 4 to 6")


def test_a_picture_takes_a_name_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert drawing._new_name() == Path("drawn-1.png")
    for number in (1, 3):
        Path(f"drawn-{number}.png").touch()
    assert drawing._new_name() == Path("drawn-2.png")


def test_each_image_lies_in_its_columns_folder_and_says_how_it_was_drawn(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), np.uint8)
    asked = Drawing("b", ("snow", "sun"), negative="grey", steps=3, guidance=2.5, scheduler="ddim")
    rows = [("snow", 1), ("sun", 2)]
    drawing._write_each(tmp_path, pictures, rows, Chosen(Path("a"), "epoch 4", "trial 3"), 0.5, asked)
    drawing._write_each(tmp_path, pictures, rows, Chosen(Path("a"), "dog"), 1.0, asked)
    drawing._write_each(tmp_path, pictures, rows, None, 0.0, asked)
    names = [f"{folder}/{name}" for folder in ("base", "dog_1", "trial_3_epoch_4_0.5")
             for name in ("00_snow_seed1.png", "01_sun_seed2.png")]  # fmt: skip
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")) == names
    with Image.open(tmp_path / names[-1]) as image:
        assert np.array_equal(np.asarray(image), pictures[1])
        assert image.info["parameters"] == (
            "sun\nNegative prompt: grey\nSteps: 3, Sampler: DDIM, CFG scale: 2.5, Seed: 2, Size: 6x8"
        )
