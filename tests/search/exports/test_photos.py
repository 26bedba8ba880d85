"""What sd-scripts reads otherwise in a set is found, and the cleaned copy is read alike by both.

The other reader here is its own code's rules, written down anew: which files it takes (glob_images), how it opens them
(load_image: Pillow's convert("RGB") and nothing else), which line it takes for a caption (read_caption).
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from search.errors import StudyError
from search.exports.photos import (
    EMPTY,
    EXTRA,
    HEIC_INSIDE,
    MARKED,
    OTHER_CAPTION,
    OTHER_ENDING,
    OTHER_MODE,
    SEE_THROUGH,
    SKIPPED,
    TURNED,
    _caption_difference,
    _hides_something,
    _shelf_name,
    caption_ending,
    differences,
    prepare,
)
from tests import tiny
from trainer.data.dataset import Dataset, load_pixels, scan_dataset

_BOM = b"\xef\xbb\xbf"


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tiny.make_photos(tmp_path / "photos", count=4, repeats=3) / "3_sks toy"


def _read_by_the_other(dataset: Dataset) -> list[tuple[bool, int, np.ndarray, str]]:
    """(regularisation, repeats, pixels, caption) of every file that sd-scripts would take from the set's folders."""
    found = []
    for folder, is_reg, repeats in sorted({(p.path.parent, p.is_reg, p.repeats) for p in dataset.photos}):
        ending = caption_ending([p for p in dataset.photos if p.path.parent == folder])
        for path in sorted(folder.iterdir()):
            if path.suffix not in (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".PNG", ".JPG", ".JPEG", ".WEBP", ".BMP"):
                continue
            with path.with_suffix(ending).open("rt", encoding="utf-8") as file:
                lines = file.readlines()
            assert lines, "caption file is empty"
            found.append((is_reg, repeats, np.array(Image.open(path).convert("RGB")), lines[0].strip()))
    return found


def _turned(path: Path) -> None:
    image = Image.open(path).convert("RGB").resize((96, 64))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path.with_suffix(".jpg"), exif=exif)
    path.unlink()


def _see_through(path: Path) -> None:
    image = Image.open(path).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(path)


def _sixteen_bits(path: Path) -> None:
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(path)


def _gif(path: Path) -> None:
    Image.open(path).save(path.with_suffix(".gif"))
    path.unlink()


def _saved_as(ending: str):
    def save(path: Path) -> None:
        from trainer.data.images import register_heif

        assert register_heif()
        kind = "AVIF" if ending == ".avif" else "HEIF"
        Image.open(path).convert("RGB").save(path.with_suffix(ending), format=kind)
        path.unlink()

    return save


def _upper_and_lower(path: Path) -> None:
    path.rename(path.with_suffix(".Png"))


def _caption(content: bytes):
    return lambda path: path.with_suffix(".txt").write_bytes(content)


def _other_ending(path: Path) -> None:
    path.with_suffix(".txt").rename(path.with_suffix(".caption"))


KINDS = {
    "turned": (_turned, TURNED),
    "see-through": (_see_through, SEE_THROUGH),
    "16 bits": (_sixteen_bits, OTHER_MODE),
    "gif": (_gif, SKIPPED),
    "heic": (_saved_as(".heic"), SKIPPED),
    "avif": (_saved_as(".avif"), SKIPPED),
    "heic under another ending": (_saved_as(".jpg"), HEIC_INSIDE),
    "ending in both cases": (_upper_and_lower, SKIPPED),
    "empty caption": (_caption(b""), EMPTY),
    "blank first line": (_caption(b"\n  \nsks toy, beach\n"), OTHER_CAPTION),
    "byte-order mark": (_caption(_BOM + b"sks toy, beach"), MARKED),
    "two kinds of captions": (_other_ending, OTHER_ENDING),
}


@pytest.mark.parametrize(("spoil", "what"), KINDS.values(), ids=KINDS.keys())
def test_each_kind_is_named_and_the_copy_is_read_alike(shelf, tmp_path, spoil, what):
    photo = sorted(shelf.glob("*.png"))[1]
    spoil(photo)
    before = scan_dataset(shelf.parent)
    (found,) = differences(before)
    assert found.what == what
    assert [path.stem for path in found.files] == [photo.stem]
    assert photo.stem in str(found)
    after = scan_dataset(prepare(before, tmp_path / "clean"))
    assert differences(after) == ()
    theirs = _read_by_the_other(after)
    assert len(theirs) == len(before.photos)
    for was, now, (is_reg, repeats, pixels, caption) in zip(before.photos, after.photos, theirs, strict=True):
        assert (now.is_reg, now.repeats, now.caption) == (is_reg, repeats, caption)
        assert (was.is_reg, was.repeats, was.caption) == (is_reg, repeats, caption)
        assert np.array_equal(load_pixels(now), pixels)
        assert np.array_equal(load_pixels(was), pixels)


def test_a_plain_set_differs_in_nothing_and_is_copied_byte_for_byte(shelf, tmp_path):
    dataset = scan_dataset(shelf.parent)
    assert differences(dataset) == ()
    prepare(dataset, tmp_path / "clean")
    for path in shelf.glob("*.png"):
        assert (tmp_path / "clean" / shelf.name / path.name).read_bytes() == path.read_bytes()
    assert scan_dataset(tmp_path / "clean").digest == dataset.digest


def test_what_we_leave_out_and_it_would_take_is_named(shelf):
    dataset = scan_dataset(shelf.parent)
    some = dataset.subset([0, 2, 3])
    (found,) = differences(some)
    assert (found.what, found.files) == (EXTRA, (dataset.photos[1].path,))


def test_files_of_one_stem_bare_folders_and_regularisation_images_keep_apart(tmp_path):
    data = tmp_path / "photos"
    data.mkdir()
    for name, colour in (("a.png", "red"), ("a.gif", "green"), ("a.tif", "blue")):
        Image.new("RGB", (64, 64), colour).save(data / name)
    (data / "a.txt").write_text("sks toy")
    (data / "reg" / "2_toy").mkdir(parents=True)
    Image.new("RGB", (64, 64), "white").save(data / "reg" / "2_toy" / "r.png")
    before = scan_dataset(data, trigger="sks", class_word="toy")
    after = scan_dataset(prepare(before, tmp_path / "clean"), trigger="sks", class_word="toy")
    assert {path.relative_to(tmp_path / "clean").as_posix() for path in (tmp_path / "clean").rglob("*.png")} == {
        "1_sks toy/a.png", "1_sks toy/a_png.png", "1_sks toy/a_tif.png", "reg/2_toy/r.png",
    }  # fmt: skip
    colours = sorted(tuple(load_pixels(photo)[0, 0]) for photo in after.photos)
    assert colours == sorted(tuple(load_pixels(photo)[0, 0]) for photo in before.photos)
    assert [photo.caption for photo in after.photos if photo.is_reg] == ["toy"]


def test_a_folder_with_something_in_it_is_not_written_into(shelf, tmp_path):
    with pytest.raises(StudyError, match="a new or an empty folder"):
        prepare(scan_dataset(shelf.parent), shelf.parent)


@pytest.mark.parametrize(
    ("written", "caption", "what"),
    [
        (b"sks toy\n", "sks toy", None),
        (b"  sks toy \r\nsecond line", "sks toy", None),
        (b"", "sks toy", EMPTY),
        (b"\xef\xbb\xbfsks toy\n", "sks toy", MARKED),
        (b"another\n", "sks toy", OTHER_CAPTION),
        (b"caf\xe9 toy\n", "sks toy", "stops at these photos: their .txt file is not UTF-8"),
        (None, "sks toy", None),  # both take the words of the folder's name
    ],
)
def test_each_way_in_which_a_caption_may_differ(tmp_path, written, caption, what):
    photo = SimpleNamespace(path=tmp_path / "one.png", caption=caption)
    if written is not None:
        (tmp_path / "one.txt").write_bytes(written)
    assert _caption_difference(photo, ".txt") == what
    if written is not None:
        assert _caption_difference(photo, ".caption") == OTHER_ENDING


@pytest.mark.parametrize(
    ("folder", "words", "name"),
    [
        ("5_sks toy", ("sks", "toy"), "5_sks toy"),
        ("10_x", ("x", ""), "10_x"),
        ("5_", ("", ""), "3_photos"),
        ("sks_toy", ("", ""), "3_photos"),
        ("photos", ("sks", "toy"), "3_sks toy"),
        ("photos", ("", "toy"), "3_toy"),
        ("5", ("sks", ""), "3_sks"),
    ],
)
def test_a_shelf_is_named_as_kohya_reads_it(folder, words, name):
    trigger, class_word = words
    photo = SimpleNamespace(path=Path("data") / folder / "a.png", trigger=trigger, class_word=class_word, repeats=3)
    assert _shelf_name(photo) == name


@pytest.mark.parametrize(
    ("mode", "alpha", "hides"), [("RGB", None, False), ("RGBA", 255, False), ("RGBA", 254, True), ("LA", 0, True)]
)
def test_only_what_is_seen_through_hides_something(mode, alpha, hides):
    image = Image.new(mode, (2, 2), 0 if alpha is None else (9,) * (len(mode) - 1) + (alpha,))
    assert _hides_something(image) is hides
