"""A picture of own prompts as a whole: which columns it has, how each is drawn, and what is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainer.lora.made_loras import random_lora
from trainer.base_model.load import load_base
from trainer.errors import ModelError
from trainer.families.family import Base
from trainer.inference import picture_grid, sample
from trainer.inference.checkpoint_choice import Chosen
from trainer.inference.drawing import Drawing, draw, native_size
from trainer.inference.picture_grid import Column, cell_width
from trainer.lora.kohya_file import save_lora


@pytest.fixture
def base(tiny_sd15: Path) -> Base:
    return load_base(tiny_sd15)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def noted(base, lora, prompts, seeds, **options) -> np.ndarray:
        calls.append({"base": base, "lora": lora, "prompts": prompts, "seeds": seeds, **options})
        return np.full((len(prompts), 8, 8, 3), len(calls), np.uint8)

    monkeypatch.setattr(sample, "sample", noted)
    return calls


def _files(base: Base, folder: Path) -> list[Chosen]:
    found = []
    for name in ("one", "two"):
        save_lora(folder / f"{name}.safetensors", random_lora(base, text=False), {})
        found.append(Chosen(folder / f"{name}.safetensors", name, "trial 3" if name == "two" else ""))
    return found


def test_each_file_and_strength_has_a_column_behind_the_bases(base, drawn, tiny_sd15, tmp_path, monkeypatch) -> None:
    laid: list[Any] = []

    def grid(images, columns, captions, **options) -> Image.Image:
        laid.append((images, columns, captions, options))
        return Image.new("RGB", (4, 4))

    monkeypatch.setattr(picture_grid, "picture_grid", grid)
    files, said = _files(base, tmp_path), []
    asked = Drawing(
        str(tiny_sd15), ("a", "b"), (1.0, 0.5), (7, 8), size=(64, 32), steps=3, guidance=2.0, scheduler="ddim",
        negative="n", clip_skip=2,
    )  # fmt: skip
    target = draw(files, asked, device="cpu", to=tmp_path / "out.png", images=tmp_path / "each", say=said.append)
    assert target == tmp_path / "out.png"
    assert target.is_file()
    shared = {
        "prompts": ["a", "a", "b", "b"], "seeds": [7, 8, 7, 8], "size": (64, 32), "steps": 3, "guidance": 2.0,
        "scheduler": "ddim", "negative": "n", "clip_skip": 2,
    }  # fmt: skip
    assert all(call.items() >= shared.items() for call in drawn)
    assert [call["strength"] for call in drawn] == [0.0, 1.0, 0.5, 1.0, 0.5]
    assert [call["lora"] is None for call in drawn] == [True, False, False, False, False]
    ((images, columns, captions, options),) = laid
    assert [(column.name, column.label) for column in columns] == [
        ("base", ""), ("one", "× 1"), ("one", "× 0.5"), ("two", "trial 3 × 1"), ("two", "trial 3 × 0.5"),
    ]  # fmt: skip
    assert [len(column) for column in images] == [4] * 5
    assert [int(column[0][0, 0, 0]) for column in images] == [1, 2, 3, 4, 5]
    assert (captions, options) == (["a", "a", "b", "b"], {"cell": 256})
    assert said == [
        "base: 4 drawn", "one · × 1: 4 drawn", "one · × 0.5: 4 drawn", "two · trial 3 × 1: 4 drawn",
        "two · trial 3 × 0.5: 4 drawn", f"{target}: 5 columns, 4 rows; seeds 7 to 8",
    ]  # fmt: skip
    assert len(list((tmp_path / "each").rglob("*.png"))) == 20


def test_without_the_base_and_a_size_its_own_is_drawn_in_full_precision(
    base, drawn, tiny_sd15, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    asked = Drawing(str(tiny_sd15), ("a",), with_base=False)
    assert draw(_files(base, tmp_path)[:1], asked, device="cpu", say=said.append) == Path("drawn-1.png")
    (call,) = drawn
    assert call["size"] == native_size(base)
    assert str(call["base"].dtype) == "torch.float32"
    assert said == ["one: 1 drawn", "drawn-1.png: 1 column, 1 row; seed 0"]
    assert [path.name for path in tmp_path.rglob("*.png")] == ["drawn-1.png"]
    draw([], Drawing(str(tiny_sd15), ("a",), precision="bf16"), device="cpu", say=said.append)
    assert str(drawn[1]["base"].dtype) == "torch.bfloat16"


def test_a_file_that_does_not_fit_is_told_before_anything_is_drawn(base, drawn, tiny_sd15, tmp_path) -> None:
    files = _files(base, tmp_path)
    files[1].path.write_bytes(b"no")
    with pytest.raises(ModelError, match=r"two\.safetensors") as told:
        draw(files, Drawing(str(tiny_sd15), ("a",)), device="cpu", to=tmp_path / "out.png")
    assert str(told.value).count("two.safetensors") == 1
    assert drawn == []
    assert not (tmp_path / "out.png").exists()


# the paper


def test_cells_are_as_wide_as_images_within_bounds() -> None:
    assert [cell_width(pixels) for pixels in (8, 95, 96, 97, 191, 192, 193, 512)] == [
        96,
        96,
        96,
        97,
        191,
        192,
        192,
        192,
    ]


def _grid(columns: int, captions: list[str], **options: Any) -> np.ndarray:
    image = np.full((32, 64, 3), (255, 0, 0), np.uint8)
    heads = [Column("8")] * columns
    return np.asarray(picture_grid.picture_grid([[image] * len(captions)] * columns, heads, captions, **options))


def test_images_stand_at_even_distances_and_the_paper_ends_behind_them() -> None:
    grid = _grid(4, ["a", "a", "b"], cell=100)
    red = (grid == (255, 0, 0)).all(axis=2)
    rows, columns = (np.flatnonzero(red.any(axis=axis)) for axis in (1, 0))
    starts = columns[np.flatnonzero(np.diff(columns, prepend=-9) > 1)]
    assert starts.tolist() == [28 + 290 + number * 106 for number in range(4)]
    assert red.sum() == 3 * 4 * 100 * 50
    tops = rows[np.flatnonzero(np.diff(rows, prepend=-9) > 1)]
    assert (tops - tops[0]).tolist() == [0, 56, 118]
    assert grid.shape[1] == 28 + 290 + 4 * 106 + 28
    assert grid.shape[0] == rows[-1] + 1 + 6 + 28
    assert _grid(1, ["a"], cell=100).shape[1] == 640, "there is room for a title"


def test_a_title_and_a_subtitle_move_the_rest_down() -> None:
    def top(**options: str) -> int:
        grid = _grid(1, ["a"], cell=64, **options)
        return int(np.flatnonzero((grid == (255, 0, 0)).all(axis=2).any(axis=1))[0])

    assert (top(title="t") - top(), top(subtitle="s") - top(), top(title="t", subtitle="s") - top()) == (34, 24, 58)
    plain, titled = _grid(1, ["a"], cell=64), _grid(1, ["a"], cell=64, title="t" * 200)
    assert titled.shape[1] == plain.shape[1]
    assert (titled[:, -28:] == 255).all(), "a long title ends within the margin"


def test_equal_neighbours_share_a_caption() -> None:
    groups = picture_grid._groups(["a", "a", "b", "a", "b", "b"])
    assert groups == [("a", [0, 1]), ("b", [2]), ("a", [3]), ("b", [4, 5])]
    assert picture_grid._groups([]) == []


class _Ruler:
    """Every character is ten wide."""

    @staticmethod
    def textlength(text: str, font: Any = None) -> int:
        return 10 * len(text)


@pytest.mark.parametrize(
    ("text", "width", "fitted", "parts"),
    [
        ("abc", 30, "abc", ["abc"]),
        ("abcd", 30, "ab…", ["abc", "d"]),
        ("abcdefg", 39, "ab…", ["abc", "def", "g"]),
        ("ab", 10, "…", ["a", "b"]),
        ("ab", 5, "…", ["a", "b"]),
        ("", 5, "", [""]),
    ],
)
def test_what_does_not_fit_is_cut_or_goes_on_in_the_next_line(text, width, fitted, parts) -> None:
    assert picture_grid._fitted(_Ruler(), text, None, width) == fitted
    assert picture_grid._parts(_Ruler(), text, None, width) == parts
