"""Pictures of a report: inside it, smaller, while there is room, else linked."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.record.record import StudyFolder
from search.verdict import album as albums
from search.verdict.album import Album, Picture, data_url


def draw(path: Path, size: tuple[int, int] = (90, 60), colour: tuple[int, int, int] = (200, 40, 90)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def shown(picture: Picture | None) -> Image.Image:
    assert picture is not None
    assert picture.source is not None
    head, _, body = picture.source.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.fixture
def album(tmp_path: Path) -> Album:
    return Album(StudyFolder(tmp_path))


@pytest.mark.parametrize(
    ("size", "small"),
    [((90, 60), (90, 60)), ((1800, 9), (1800, 9)), ((1801, 900), (1800, 900)), ((3600, 61), (1800, 30))],
)
def test_a_picture_is_inside_the_page_no_wider_than_it_can_be_seen(album: Album, tmp_path: Path, size, small) -> None:
    picture = album.picture(draw(tmp_path / "a" / "sheet.png", size), "The sheet")
    image = shown(picture)
    assert picture is not None
    assert (picture.alt, picture.inside, image.format, image.size) == ("The sheet", True, "WEBP", small)
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - (200, 40, 90)).max() < 12
    assert picture.source is not None
    assert album.spent == len(picture.source)


def test_what_is_not_there_is_left_out_and_what_is_damaged_named(album: Album, tmp_path: Path) -> None:
    assert album.picture(tmp_path / "none.png", "none") is None
    (tmp_path / "bad.png").write_bytes(b"half")
    good = draw(tmp_path / "good.png")
    found = album.pictures({tmp_path / "bad.png": "one", tmp_path / "none.png": "two", good: "three"})
    assert found[0] == Picture("bad.png", None)
    assert [picture.alt for picture in found] == ["bad.png", "three"]
    assert album.spent == len(found[1].source or "")


def test_beyond_the_room_pictures_are_links(album: Album, tmp_path: Path, monkeypatch) -> None:
    files = {draw(tmp_path / "trials" / f"{n}.png"): str(n) for n in range(3)}
    one = len(shown_source(album, next(iter(files))))
    album.spent = 0
    monkeypatch.setattr(albums, "_MOST_BYTES", one + 1)
    found = album.pictures(files)
    assert [picture.inside for picture in found] == [True, False, False]
    assert [picture.source for picture in found[1:]] == ["trials/1.png", "trials/2.png"]
    assert album.full
    monkeypatch.setattr(albums, "_small", lambda path: pytest.fail("drawn although it is only linked"))
    assert album.picture(tmp_path / "trials" / "0.png", "again") == Picture("again", "trials/0.png", inside=False)


def shown_source(album: Album, path: Path) -> str:
    picture = album.picture(path, "")
    assert picture is not None
    assert picture.source is not None
    return picture.source


def test_bytes_as_an_image_of_a_page() -> None:
    assert data_url(b"\x00\xff") == "data:image/webp;base64,AP8="
