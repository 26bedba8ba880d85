"""No photo goes without a word: each that is left out is named, and why."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data.dataset import Dataset, scan_dataset
from trainer.data.unread_files import count, images_in, passed_over
from trainer.errors import DataError


def paint(path: Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def names(dataset: Dataset) -> list[str]:
    return [photo.path.name for photo in dataset.photos]


def without_captions(dataset: Dataset) -> list[str]:
    return [line for line in dataset.warnings if "no caption" not in line]


def test_what_is_left_out_is_said(tmp_path) -> None:
    for folder in ("2_sks cat", "dog", "2_sks cat/more", "reg/1_cat"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "loose.png")
    (tmp_path / "2_sks cat" / "b.psd").write_bytes(b"")
    (tmp_path / "2_sks cat" / "a.txt").write_text("\n")
    dataset = scan_dataset(tmp_path)
    assert [photo.path.name for photo in dataset.photos] == ["a.png", "a.png"]
    said = "\n".join(dataset.warnings)
    for line in (
        f"{tmp_path}: 1 image is left out",
        f"{tmp_path / 'dog'}: 1 image is left out",
        f"{tmp_path / '2_sks cat' / 'more'}: 1 image is left out",
        f"{tmp_path / '2_sks cat'}: 1 file is left out: .psd is not read: save it as PNG or JPEG",
        "a.txt: empty",
    ):
        assert line in said
    assert len(dataset.warnings) == 5


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.jxl", ".jxl is not read: save it as PNG or JPEG"),
        ("a.CR3", ".CR3 is a raw photo and not read: develop it to PNG or JPEG"),
        ("a.mp4", ".mp4 is a video and not read: save frames of it as PNG or JPEG"),
        ("photos.zip", ".zip is an archive: unpack it"),
    ],
)
def test_other_kinds_are_named_beside_photos_and_without_one(name: str, reason: str, tmp_path: Path) -> None:
    shelf = tmp_path / "2_sks dog"
    shelf.mkdir()
    (shelf / name).write_bytes(b"something")
    line = f"{shelf}: 1 file is left out: {reason}"
    with pytest.raises(DataError) as caught:
        scan_dataset(tmp_path)
    assert str(caught.value) == f"{tmp_path}: no images to use here: {line}"
    paint(shelf / "b.png")
    assert without_captions(scan_dataset(tmp_path)) == [line]


def test_a_caption_in_capital_letters_is_named(tmp_path: Path) -> None:
    paint(tmp_path / "1_sks dog" / "0.png")
    paint(tmp_path / "1_sks dog" / "1.png")
    for name in ("0.TXT", "1.txt", "1.Txt"):
        (tmp_path / "1_sks dog" / name).write_text("a dog")
    said = scan_dataset(tmp_path).warnings
    why = "0.TXT is no caption: its ending has to be .txt, in small letters"
    assert f"{tmp_path / '1_sks dog'}: 1 file is left out: {why}" in said
    assert any("0.png: no caption (0.txt)" in line for line in said)
    assert not any("1.Txt" in line for line in said)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette"])
def test_photos_that_show_nothing_are_left_out_and_named(tmp_path: Path, kind: str) -> None:
    shelf = tmp_path / "1_sks dog"
    paint(shelf / "a.png")
    paint(shelf / "clear.png")
    clear = Image.open(shelf / "clear.png").convert("L" if kind == "LA" else "RGBA")
    clear.putalpha(0)
    if kind == "palette":
        coloured = Image.open(shelf / "clear.png").convert("P")
        coloured.paste(3, (0, 0, 8, 8))
        coloured.save(shelf / "clear.png", transparency=3)
    else:
        clear.save(shelf / "clear.png")
    Image.new("RGB", (1, 1), "red").save(shelf / "dot.png")
    half = Image.open(shelf / "a.png").convert("RGBA")
    half.putpixel((3, 3), (0, 0, 0, 0))
    half.save(shelf / "half.png")
    dataset = scan_dataset(tmp_path)
    assert names(dataset) == ["a.png", "half.png"]
    assert f"{shelf / 'clear.png'}: left out: all of it is transparent" in dataset.warnings
    assert f"{shelf / 'dot.png'}: left out: 1×1 pixels show nothing" in dataset.warnings


def test_heic_and_avif_are_read_or_the_line_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    from trainer.data.images import reads_avif, register_heif

    assert register_heif()
    assert reads_avif()
    for suffix in ("heic", "avif"):
        paint(tmp_path / "1_sks dog" / f"a.{suffix}")
    assert names(scan_dataset(tmp_path)) == ["a.avif", "a.heic"]
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    with pytest.raises(DataError) as caught:
        scan_dataset(tmp_path)
    assert ".heic is not read: pip install pillow-heif, or save it as PNG or JPEG" in str(caught.value)
    assert ".avif is read from Pillow 11.3 on" in str(caught.value)


@pytest.mark.parametrize("name", ["a.jfif", "a.JPE", "a.gif", "a.tif", "a.apng", "a.TIFF"])
def test_rarer_endings_are_read(name: str, tmp_path: Path) -> None:
    kind = {"jfif": "JPEG", "jpe": "JPEG", "apng": "PNG", "tiff": "TIFF"}.get(name.split(".")[1].lower())
    paint(tmp_path / "1_sks dog" / name, format=kind)
    assert names(scan_dataset(tmp_path)) == [name]


def test_links_are_followed_and_broken_ones_named(tmp_path: Path) -> None:
    shelf, store = tmp_path / "photos" / "1_sks dog", tmp_path / "store"
    paint(shelf / "a.png")
    for index in range(3):
        paint(store / f"{index}.png")
        os.symlink(f"/gone/x{index}.png", shelf / f"x{index}.png")
    os.symlink(store / "0.png", shelf / "linked.png")
    os.symlink(store, tmp_path / "photos" / "2_sks cat", target_is_directory=True)
    os.symlink(store, tmp_path / "photos" / "more", target_is_directory=True)
    os.symlink(tmp_path, tmp_path / "photos" / "up", target_is_directory=True)
    os.symlink("round.png", shelf / "round.png")
    os.symlink("long" * 70, shelf / "long.png")  # the system refuses to follow it
    os.symlink("long" * 70, tmp_path / "photos" / "3_sks bird")
    dataset = scan_dataset(tmp_path / "photos")
    assert names(dataset) == ["a.png", "linked.png", "0.png", "1.png", "2.png"]
    assert without_captions(dataset) == [
        f"{tmp_path / 'photos'}: 1 file is left out: 3_sks bird is a link to nothing",
        f"{shelf}: 5 files are left out: long.png is a link to nothing",
        f"{tmp_path / 'photos' / 'more'}: 3 images are left out: not in a '<repeats>_<trigger> <class>' folder",
    ]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("2_sks dog/set1", "they lie too deep: move them into '2_sks dog'"),
        ("deeper/2_sks dog", "the folder lies too deep: data would have to be '{root}/deeper'"),
        ("dog", "not in a '<repeats>_<trigger> <class>' folder"),
    ],
)
def test_images_in_the_wrong_place_are_told_where_they_belong(place: str, reason: str, tmp_path: Path) -> None:
    paint(tmp_path / place / "a.png")
    line = f"{tmp_path / place}: 1 image is left out: {reason.format(root=tmp_path)}"
    with pytest.raises(DataError, match="no images to use here") as caught:
        scan_dataset(tmp_path)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    paint(tmp_path / "1_sks cat" / "a.png")
    assert line in scan_dataset(tmp_path).warnings


def test_no_repeats_are_told_where_nothing_else_is(tmp_path: Path) -> None:
    paint(tmp_path / "0_sks dog" / "a.png")
    with pytest.raises(DataError, match="0 repeats: its 1 image is left out, as kohya does"):
        scan_dataset(tmp_path)


def test_regularisation_folders_say_why_they_are_empty(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "1_sks dog" / "a.png")
    (tmp_path / "reg" / "1_dog").mkdir(parents=True)
    (tmp_path / "reg" / "1_dog" / "a.psd").write_bytes(b"")
    with pytest.raises(DataError, match=r"reg: no regularisation images to use here: .*\.psd is not read"):
        scan_dataset(tmp_path / "a", reg_data=tmp_path / "reg")


def test_images_without_an_ending_hidden_ones_and_lone_captions_are_named(tmp_path: Path) -> None:
    shelf = tmp_path / "1_sks dog"
    paint(shelf / "a.png")
    paint(shelf / "IMG_1", format="JPEG")
    paint(shelf / "b.jpg_large", format="JPEG")
    paint(shelf / ".hidden.png")
    (shelf / "._a.png").write_bytes(b"what macOS keeps beside a file")
    (shelf / "a.txt").write_text("a dog")
    (shelf / "gone.txt").write_text("a dog")
    (shelf / "IMG_1.txt").write_text("a dog")
    (shelf / "notes.docx").write_bytes(b"PK no image")
    os.mkfifo(shelf / "pipe.png")
    os.mkfifo(shelf / "pipe")
    assert scan_dataset(tmp_path).warnings == (
        f"{shelf}: 1 file is left out: .hidden.png is hidden",
        f"{shelf}: 2 files are left out: IMG_1 is an image without an image's ending: rename it",
        f"{shelf}: 1 file is left out: pipe.png is not a file",
        f"{shelf}: 1 caption is of no photo: gone.txt",
    )


def test_names_that_are_not_utf8_are_shown_with_escapes_and_their_photos_used(tmp_path: Path) -> None:
    shelf = tmp_path / os.fsdecode(b"\xff\xfe") / "1_sks dog"
    paint(shelf / os.fsdecode(b"\x8e\xca.png"))
    paint(shelf / "two\nlines\u202e.png")
    (shelf / os.fsdecode(b"\x90\x5e.psd")).write_bytes(b"")
    (shelf / os.fsdecode(b"\x90.txt")).write_text("lone")
    dataset = scan_dataset(shelf.parent)
    assert dataset.num_photos == 2
    for line in dataset.warnings:
        line.encode("utf-8")
        assert line.isprintable()
    said = "\n".join(dataset.warnings)
    assert r"\xff\xfe/1_sks dog: 2 photos have no caption, such as two\nlines\u202e.png" in said
    assert r"two\nlines\u202e.png" in said
    assert r"1 caption is of no photo: \x90.txt" in said
    assert len(dataset.digest) == 64


def test_a_folder_whose_name_gives_no_trigger_is_refused(tmp_path: Path) -> None:
    paint(tmp_path / os.fsdecode(b"3_\x8e\xca") / "a.png")
    with pytest.raises(DataError, match=r"3_\\x8e\\xca: the folder's name gives the trigger and is not UTF-8 text"):
        scan_dataset(tmp_path)


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "3_sks dog"
    folder.mkdir()
    paint(folder / "a.png")
    closed = tmp_path / "closed"
    closed.mkdir()
    real, walk = Path.iterdir, os.walk

    def refused(path: Path):
        if path == folder:
            raise PermissionError(13, "Permission denied")
        return real(path)

    def walked(root: Path, onerror):
        onerror(PermissionError(13, "Permission denied", str(closed)))
        return walk(root)

    monkeypatch.setattr(os, "walk", walked)
    assert passed_over(tmp_path, {folder}, {folder / "a.png"}) == [
        f"{closed}: the folder cannot be read (Permission denied)"
    ]
    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(DataError, match=r"3_sks dog: the folder cannot be read \(Permission denied\)"):
        images_in(folder)


@pytest.mark.parametrize(("number", "text"), [(0, "0 images are"), (1, "1 image is"), (2, "2 images are")])
def test_things_are_counted_in_words(number: int, text: str) -> None:
    assert count(number, "image") == text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("photos/x.png", "1 image is left out: not in a '<repeats>_<trigger> <class>' folder"),
        ("3_sks dog/deep/x.png", "1 image is left out: they lie too deep: move them into '3_sks dog'"),
        ("photos/5_sks/x.png", "1 image is left out: the folder lies too deep: data would have to be"),
        ("reg/more/x.png", "1 image is left out: regularisation images are taken from reg_data"),
        ("log/x.png", None),
        ("model/x.png", None),
        (".hidden/x.png", None),
        ("3_sks dog/Masks/x.png", None),
        ("3_sks dog/.x.png", "1 file is left out: .x.png is hidden"),
        ("3_sks dog/x.zip", "1 file is left out: .zip is an archive: unpack it"),
        ("3_sks dog/x.mp4", "1 file is left out: .mp4 is a video"),
        ("3_sks dog/x.CR2", "1 file is left out: .CR2 is a raw photo"),
        ("3_sks dog/x.psd", "1 file is left out: .psd is not read: save it as PNG or JPEG"),
        ("3_sks dog/x", "1 file is left out: x is an image without an image's ending: rename it"),
        ("3_sks dog/x.npz", None),
        ("3_sks dog/x.txt", "1 caption is of no photo: x.txt"),
        ("3_sks dog/._x.png", None),
    ],
)
def test_each_thing_beside_photos_has_its_own_word(tmp_path: Path, name: str, said: str | None) -> None:
    folder = tmp_path / "3_sks dog"
    folder.mkdir()
    paint(folder / "a.png")
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((folder / "a.png").read_bytes())
    found = passed_over(tmp_path, {folder}, {folder / "a.png"})
    assert len(found) == (said is not None)
    if said is not None:
        assert found[0].startswith(f"{path.parent}: ")
        assert said in found[0]
