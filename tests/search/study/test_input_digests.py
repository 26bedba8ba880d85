"""What became of photos and masks between two sittings, each by its name."""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from search.record.json_files import write_json
from search.record.record import StudyFolder
from search.study.input_digests import Inputs, PhotoMark, changed_masks, changed_photos, fingerprints, photo_marks
from trainer.data.dataset import scan_dataset

A = PhotoMark("1_toy/a.png", "aa", "toy, grass", 1, False)
B = PhotoMark("1_toy/b.png", "bb", "toy", 1, False)


def changes(before: list[PhotoMark], now: list[PhotoMark], data: str = "nowhere") -> str:
    return changed_photos(before, now, data)


def mark(of: PhotoMark, **other: object) -> PhotoMark:
    return PhotoMark(**{**vars(of), **other})


def test_each_kind_of_change_is_named() -> None:
    said = "the caption was 'toy' and is 'a toy'"
    for now, told in (
        ([A, B], ""),
        ([A], "1_toy/b.png (removed)"),
        ([A, B, mark(B, file="1_toy/c.png", image="cc")], "1_toy/c.png (added)"),
        ([A, mark(B, image="cc")], "1_toy/b.png (another image)"),
        ([A, mark(B, image="cc", caption="a toy")], f"1_toy/b.png (another image, {said})"),
        ([A, mark(B, caption="a toy")], f"1_toy/b.png ({said})"),
        ([A, mark(B, repeats=5)], "1_toy/b.png (1 repeats are 5)"),
        ([A, mark(B, repeats=5, caption="a toy")], f"1_toy/b.png ({said}, 1 repeats are 5)"),
        ([A, mark(B, file="1_toy/c.png")], ""),
        ([A, mark(B, file="5_toy/b.png", repeats=5)], "1_toy/b.png (now 5_toy/b.png, 1 repeats are 5)"),
        ([A, mark(B, reg=True)], ""),
        ([mark(A, file="1_toy/x.png"), mark(B, file="1_toy/y.png")], ""),
        ([], "1_toy/a.png (removed), 1_toy/b.png (removed)"),
    ):
        assert changes([A, B], now) == told
    twice = [mark(B, file="1_toy/c.png"), mark(B, file="1_toy/d.png")]
    assert changes([B], twice) == "1_toy/d.png (added)", "one of them is the one that was there"


def test_a_caption_is_named_by_the_file_that_it_stands_in(tmp_path: Path) -> None:
    (tmp_path / "1_toy").mkdir()
    now = [A, mark(B, caption="a toy")]
    for name in ("b.caption", "b.txt"):
        (tmp_path / "1_toy" / name).write_text("a toy")
        assert changes([A, B], now, str(tmp_path)).startswith(f"1_toy/{name} (the caption was")
    assert changes([A, B], [A, mark(B, repeats=5)], str(tmp_path)) == "1_toy/b.png (1 repeats are 5)"


def test_of_many_changes_the_first_six_are_named() -> None:
    marks = [mark(B, file=f"{number}.png", image=str(number)) for number in range(7)]
    named = ", ".join(f"{number}.png (removed)" for number in range(6))
    assert changes(marks[:6], []) == named
    assert changes(marks, []) == f"{named} and 1 more"


def test_masks_are_named_by_their_photos() -> None:
    before, now = {"a": "1", "b": "2", "c": "3"}, {"a": "1", "c": "4", "d": "5"}
    assert changed_masks(before, now) == "b (removed), c (another mask), d (added)"
    assert changed_masks(now, now) == ""


def test_photos_are_known_by_their_place_in_either_folder(tiny_photos: Path) -> None:
    photos = scan_dataset(str(tiny_photos)).photos
    marks = photo_marks(photos, str(tiny_photos), None)
    assert [one.file for one in marks] == [photo.path.relative_to(tiny_photos).as_posix() for photo in photos]
    assert [(one.image, one.caption, one.repeats, one.reg) for one in marks] == [
        (photo.digest, photo.caption, photo.repeats, photo.is_reg) for photo in photos
    ]
    beside = photo_marks(photos, "elsewhere", str(tiny_photos))
    assert beside == marks
    assert [one.file for one in photo_marks(photos, "elsewhere", None)] == [photo.path.name for photo in photos]


def test_what_was_noted_is_read_again_and_what_is_damaged_is_nothing(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert Inputs.load(folder) is None
    noted = Inputs(photos=(A, B), masks={"a": "1"}, base="bb", encoders={"clip": "cc"})
    write_json(Inputs.file(folder), asdict(noted))
    assert Inputs.load(folder) == noted
    for damaged in ("", "3", '{"photos": [{"file": 3}]}'):
        Inputs.file(folder).write_text(damaged)
        assert Inputs.load(folder) is None


def test_an_encoder_that_is_a_folder_is_noted_by_what_lies_in_it(tmp_path: Path) -> None:
    def noted(other: str | None = None) -> dict[str, str]:
        study: Any = SimpleNamespace(encoder=str(tmp_path / "own"), identity_encoder=other)
        return fingerprints(study, StudyFolder(tmp_path / "study"))

    (tmp_path / "own").mkdir()
    (tmp_path / "own/config.json").write_text("{}")
    first = noted()
    assert first.keys() == {"encoder"}
    assert noted("dinov2") == first
    (tmp_path / "own/config.json").write_text('{"changed": 1}')
    assert noted() != first
    assert noted(str(tmp_path / "own")) == {name: noted()["encoder"] for name in ("encoder", "identity_encoder")}
