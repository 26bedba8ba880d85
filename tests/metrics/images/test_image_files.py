"""Pixels of every mode, turned and reduced; which files are images, and why others are none."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from metrics.images import image_files
from metrics.images.image_files import UnreadableImage, _rgb, images_below, opened, read_pixels, upright


@pytest.mark.parametrize(
    ("mode", "value", "rgb"),
    [
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (0, 100, 200, 51), (204, 224, 244)),
        ("LA", (100, 51), (224, 224, 224)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 32640, (127, 127, 127)),
        ("I;16", 200, (0, 0, 0)),
        ("I", 32640, (127, 127, 127)),
        ("I", 200, (200, 200, 200)),
        ("F", 0.5, (127, 127, 127)),
        ("F", 200.0, (200, 200, 200)),
        ("F", -1.0, (0, 0, 0)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_colours_of_every_mode(mode: str, value: Any, rgb: tuple[int, int, int]) -> None:
    found = np.asarray(_rgb(Image.new(mode, (2, 2), value)))
    assert found.shape == (2, 2, 3)
    assert np.abs(found.astype(int) - rgb).max() <= 1


def test_a_palette_may_have_a_transparent_colour() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = 0
    assert np.asarray(_rgb(image)).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def turned(orientation: int, mode: str = "RGB") -> Image.Image:
    """A picture whose corners differ."""
    image = Image.fromarray(np.arange(24 * 16 * 3, dtype=np.uint8).reshape(24, 16, 3)).resize((160, 240)).convert(mode)
    image.getexif()[0x0112] = orientation
    return image


@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "HSV"])
def test_huge_images_are_turned_as_others_are(monkeypatch: pytest.MonkeyPatch, orientation: int, mode: str) -> None:
    image = turned(orientation, mode)
    plain = upright(image)
    assert plain.size == ImageOps.exif_transpose(image).size
    monkeypatch.setattr(image_files, "_ORDINARY_PIXELS", 160 * 240 - 1)
    huge = upright(image)
    assert huge.size == plain.size
    kept = "RGB" if mode not in ("L", "RGBA") else mode
    expected = plain.convert("L" if mode == "1" else kept)
    assert np.abs(np.asarray(huge.convert(expected.mode), int) - np.asarray(expected, int)).max() <= 2


@pytest.mark.parametrize(("side", "factor"), [(767, 1), (1536, 1), (3072, 2), (4608, 3)])
def test_huge_images_are_reduced_by_a_whole_factor(monkeypatch: pytest.MonkeyPatch, side: int, factor: int) -> None:
    monkeypatch.setattr(image_files, "_ORDINARY_PIXELS", 1)
    assert upright(Image.new("L", (side, 40))).size == (side // factor, -(-40 // factor))
    assert upright(Image.new("I;16", (side, 40), 1000)).getpixel((0, 0)) == 1000


@pytest.mark.parametrize(
    ("size", "expected"), [((768, 10), (768, 10)), ((1536, 768), (768, 384)), ((10, 1000), (8, 768)), ((5, 5), (5, 5))]
)
def test_images_are_read_at_most_768_pixels_long(size: tuple[int, int], expected: tuple[int, int]) -> None:
    (found,) = read_pixels(Image.new("RGB", size, (9, 8, 7)))
    assert found.shape == (expected[1], expected[0], 3)
    assert found.dtype == np.uint8
    assert (found == (9, 8, 7)).all()


def test_parts_are_cut_out_of_an_image() -> None:
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    first, second = read_pixels(image, [(0, 0, 2, 1), (2, 1, 4, 4)])
    np.testing.assert_array_equal(first, np.asarray(image)[:1, :2])
    np.testing.assert_array_equal(second, np.asarray(image)[1:4, 2:4])


def test_too_many_pixels_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (30, 20)).save(tmp_path / "a.png")
    guard = Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(image_files, "_MOST_PIXELS", 600)
    with opened(tmp_path / "a.png") as image:
        assert image.size == (30, 20)
        assert Image.MAX_IMAGE_PIXELS is None
    monkeypatch.setattr(image_files, "_MOST_PIXELS", 599)
    with pytest.raises(UnreadableImage, match="30×20 pixels are too many") as caught, opened(tmp_path / "a.png"):
        pass
    assert caught.value.reason == "30×20 pixels are too many"
    assert guard == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (ValueError("bad\n value"), "bad value"),
        (EOFError(), "EOFError"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_what_fails_while_an_image_is_read_names_it(tmp_path: Path, error: Exception, reason: str) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImage) as caught, opened(tmp_path / "a.png"):
        raise error
    assert caught.value.reason == reason
    assert str(caught.value) == f"{tmp_path / 'a.png'}: this image cannot be read: {reason}"
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match="not an image that can be read") as other, opened(tmp_path / "b.png"):
        pass
    assert "b.png" not in other.value.reason


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(path, format="PNG")
    return root


@pytest.mark.parametrize(
    ("names", "photos", "found", "left"),
    [
        (["b.png", "a.PNG", "c/d.jpg", ".e.png", ".f/g.png", "masks/h.png", "c/Mask/i.png"], True,
         ["a.PNG", "b.png", "c/d.jpg"], []),
        (["a.png", "b.psd", "c.psd", "d.txt"], True, ["a.png"], ["2 .psd files, which are not read: save"]),
        (["5_sks dog/a.png", "other/b.png", "c.png", "reg/1_dog/d.png", ".x/e.png"], True, ["5_sks dog/a.png"],
         ["other is no '<repeats>_<trigger> <class>' folder"]),
        (["5_sks dog/a.png", "other/b.png"], False, ["5_sks dog/a.png", "other/b.png"], []),
        (["0_sks dog/a.png", "5_sks/b.png"], True, ["5_sks/b.png"], ["0_sks dog is no"]),
        (["img/5_sks/a.png", "b.png"], True, ["img/5_sks/a.png"], []),
        (["img/5_sks/a.png", "b.png"], False, ["b.png", "img/5_sks/a.png"], []),
        (["5_sks/a.png", "img/5_sks/b.png"], True, ["5_sks/a.png"], []),
    ],
)  # fmt: skip
def test_which_files_of_a_folder_are_its_images(
    tmp_path: Path, names: list[str], photos: bool, found: list[str], left: list[str]
) -> None:
    images, lines = images_below(tree(tmp_path, *names), photos=photos)
    assert [path.relative_to(tmp_path).as_posix() for path in images] == found
    assert len(lines) == len(left)
    for line, words in zip(lines, left, strict=True):
        assert line.startswith(f"{tmp_path}: ")
        assert words in line


def test_links_are_followed_once_and_links_to_nothing_are_told(tmp_path: Path) -> None:
    tree(tmp_path, "photos/a.png", "elsewhere/b.png")
    root = tmp_path / "photos"
    (root / "more").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(tmp_path / "elsewhere")
    (root / "up").symlink_to(tmp_path)
    (root / "lost.png").symlink_to(tmp_path / "nothing")
    images, lines = images_below(root, photos=False)
    assert sorted(path.name for path in images) == ["a.png", "b.png"]
    assert lines == [f"{root}: 1 links to nothing (lost.png)"]


@pytest.mark.parametrize(("names", "why"), [([], "looked for .png, .apng, .jpg"), (["a.psd"], "1 .psd files")])
def test_a_folder_without_images_says_why(tmp_path: Path, names: list[str], why: str) -> None:
    with pytest.raises(image_files.MetricsError, match="no images here") as caught:
        images_below(tree(tmp_path, *names), photos=True)
    assert why in str(caught.value)
    for path, words in ((tmp_path / "none", "no such folder"), (tree(tmp_path, "x.png") / "x.png", "not a folder")):
        with pytest.raises(image_files.MetricsError, match=words):
            images_below(path, photos=True)
