"""The page of a data check: which photos, captions and figures stand on it, and how large its pictures are."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search.findings.page import _card, _data_url, _Photo, _tag_row, write_page
from search.record.data_check import DataCheck, Evidence, Finding, TagEffect

FILES = [f"5_toy/{number}.png" for number in range(9)]
NAMES = {file: f"photo {file[6]}" for file in FILES}
CAPTIONS = {file: f"caption {file[6]}" for file in FILES}
TAG = TagEffect("snow", 1.0, 0.9, 1.1, 2.0, 1.9, 2.1, 3.0, 2.9, 3.1, chance=0.5, verdict="lost")


def picture_in(url: str) -> Image.Image:
    head, _, data = url.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def card(finding: Finding) -> Any:
    return _card(finding, lambda file: f"url of {file}", CAPTIONS, NAMES)


@pytest.mark.parametrize(
    ("kind", "action", "caption", "proposed"),
    [
        ("blurred", "replace", "", ""),
        ("wrong_tag", "retag", "caption 3", "better"),
        ("never_fitted", "know", "caption 3", ""),
        ("tag_once", "reword", "caption 3", ""),
    ],
)
def test_captions_stand_where_a_finding_is_about_them(kind: Any, action: Any, caption: str, proposed: str) -> None:
    found = card(Finding(kind, action, (FILES[3],), tag="snow", shown="beach", proposed=("better",)))
    assert found.photos == [_Photo("photo 3", f"url of {FILES[3]}", caption, proposed)]
    assert (found.more, found.serious) == (0, action in ("replace", "retag"))


@pytest.mark.parametrize(("count", "shown", "more"), [(1, 1, 0), (8, 8, 0), (9, 8, 1)])
def test_of_many_photos_the_first_are_shown_and_the_others_counted(count: int, shown: int, more: int) -> None:
    found = card(Finding("repeated", "keep_one", tuple(FILES[:count])))
    assert [photo.file for photo in found.photos] == [NAMES[file] for file in FILES[:shown]]
    assert found.more == more
    everywhere = card(Finding("tag_everywhere", "reword", tuple(FILES[:count]), tag="snow"))
    assert (everywhere.photos, everywhere.more) == ([], 0), "all of them have it"


def test_a_tags_row_has_its_effect_with_the_lora_and_without() -> None:
    row = _tag_row(TAG, None)
    assert (row.tag, row.verdict, row.lora, row.base) == ("snow", "lost", "1.00 (0.90 to 1.10)", "2.00 (1.90 to 2.10)")
    assert list(row.pair) == []
    both = np.concatenate([np.full((16, 16, 3), grey, np.uint8) for grey in (40, 200)], axis=1)
    without, with_tag = (np.asarray(picture_in(url).convert("RGB")).mean() for url in _tag_row(TAG, both).pair)
    assert without == pytest.approx(40, abs=4)
    assert with_tag == pytest.approx(200, abs=4)


@pytest.mark.parametrize(("size", "shown"), [((640, 320), (320, 160)), ((100, 400), (80, 320)), ((64, 48), (64, 48))])
def test_no_side_of_a_picture_is_longer_than_the_page_shows(size: tuple[int, int], shown: tuple[int, int]) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    assert picture_in(_data_url(image)).size == shown


def test_a_page_has_its_parts_photos_and_rows(tmp_path: Path) -> None:
    findings = (
        Finding("blurred", "replace", (FILES[0],), evidence=(Evidence("width", 3.0),)),
        Finding("wrong_tag", "retag", (FILES[1],), tag="snow", shown="beach", proposed=("a better caption",)),
    )
    check = DataCheck("dog", "digest", 9, 9.0, findings=findings, tags=(TAG,), unlooked=("Nobody read it.",))
    images = {file: np.full((16, 16, 3), 30 * row, np.uint8) for row, file in enumerate(FILES)}
    path = write_page(tmp_path, check, images, CAPTIONS, study_file="dog.yaml")
    assert [each.name for each in tmp_path.iterdir()] == [path.name] == ["data_check.html"]
    page = path.read_text()
    for words in ("Change these photos", "Correct these captions", "caption 1", "a better caption", "width: 3",
                  "1.00 (0.90 to 1.10)", "Nobody read it.", "dog.yaml", "Replace 1 photo"):  # fmt: skip
        assert words in page, words
    for words in ("Think about these tags", "Good to know", "caption 0"):
        assert words not in page, words
    urls = re.findall(r'"(data:image/webp;base64,[^"]+)"', page)
    greys = [np.asarray(picture_in(url).convert("RGB")).mean() for url in dict.fromkeys(urls)]
    assert greys == pytest.approx([0, 30], abs=3)
