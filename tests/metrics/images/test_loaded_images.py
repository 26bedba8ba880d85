"""What each image of a folder is called, and which words belong to it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.images.image_files import opened
from metrics.images.image_folder import _Found, _loaded
from metrics.images.sample_notes import Drawn, Sheet


def _saved(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_files_and_parts_of_sheets_have_their_names_words_and_keys(tmp_path: Path) -> None:
    levels = [10, 20, 30]
    one, two = (_saved(tmp_path / "a" / f"{level}.png", np.full((8, 8, 3), level, np.uint8)) for level in levels[:2])
    sheet_file = _saved(tmp_path / "sheet.png", np.repeat(np.uint8([[[30] * 3, [40] * 3]]), 8, 0).repeat(8, 1))
    one.with_suffix(".txt").write_text(" words beside it\n", encoding="utf-8")
    two.with_suffix(".txt").write_text(" \n")
    parts = (Drawn("left", 3), Drawn("", 4))
    sheet = Sheet(1, 2, parts)
    found = [
        _Found(one, Drawn("inside", 1)),
        _Found(two, Drawn("inside", 2)),
        *(_Found(sheet_file, drawn, sheet, part) for part, drawn in enumerate(parts)),
    ]
    folder = _loaded(tmp_path, found, ["left out"], [8])
    assert folder.names == ("a/10.png", "a/20.png", "sheet.png#1", "sheet.png#2")
    assert folder.captions == ("words beside it", "inside", "left", "")
    assert folder.keys == ("1 inside", "2 inside", "3 left", "")
    assert [(image.shape, int(image.mean())) for image in folder.images] == [
        ((8, 8, 3), level) for level in (10, 20, 30, 40)
    ]
    assert (folder.notes, folder.epochs, folder.root) == (("left out",), (8,), tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_words_beside_an_image_are_read_as_editors_write_them(tmp_path: Path, encoding: str) -> None:
    image = _saved(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    image.with_suffix(".txt").write_text("ein Bär\n", encoding=encoding)
    assert _loaded(tmp_path, [_Found(image, Drawn("else"))], []).captions == ("ein Bär",)


def test_a_plain_image_is_opened_whatever_it_is_called(tmp_path: Path) -> None:
    image = _saved(tmp_path / "a.png", np.full((8, 8, 3), 7, np.uint8)).rename(tmp_path / "a.heic")
    with opened(image) as found:
        assert np.asarray(found)[0, 0].tolist() == [7, 7, 7]
