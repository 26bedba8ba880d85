"""Captions in the encodings that people have: read where they are certain, refused by name where not."""

from pathlib import Path

import pytest

from trainer.data.captions import read_caption
from trainer.errors import DataError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_read_with_a_mark_and_without(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\r\na photo of a café, 犬\r\n".encode(encoding))
    warnings: list[str] = []
    assert read_caption(tmp_path / "a.png", warnings) == "a photo of a café, 犬"
    if encoding.startswith("utf-8"):
        assert warnings == []
    else:
        kind = encoding[:6].upper()
        assert warnings == [f"{tmp_path / 'a.txt'}: read as {kind}: other trainers want captions in UTF-8"]


@pytest.mark.parametrize(
    ("text", "encoding"), [("a café", "cp1252"), ("犬の写真", "cp932"), ("一只狗", "gbk"), ("犬の写真", "utf-16-le")]
)
def test_what_is_not_certain_is_refused_by_name(text: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    with pytest.raises(DataError, match=r"a\.txt: not UTF-8 text \(.*\): save the caption as UTF-8"):
        read_caption(tmp_path / "a.png", [])


def test_nuls_are_no_caption(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a photo\0\0\0 of a dog")
    with pytest.raises(DataError, match="it holds NUL bytes"):
        read_caption(tmp_path / "a.png", [])


@pytest.mark.parametrize("suffix", [".png", ".jpeg"])
def test_a_photo_with_the_longest_name_a_file_can_have_is_read_without_a_caption(suffix: str, tmp_path: Path) -> None:
    photo = tmp_path / ("a" * (255 - len(suffix)) + suffix)
    photo.touch()
    assert read_caption(photo, []) is None
