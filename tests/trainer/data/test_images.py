"""Pixels of image files: every size, kind and orientation, in as little memory as they need."""

import shutil
import struct
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from trainer.data import images
from trainer.data.images import look_at, read_alpha, read_pixels, resize_and_crop
from trainer.errors import DataError


def test_shrinking_averages_areas() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 30, 3), dtype=np.uint8)
    expected = pixels.reshape(4, 3, 10, 3, 3).astype(float).mean((1, 3))
    np.testing.assert_allclose(resize_and_crop(pixels, (10, 4)), expected, atol=0.51)
    # a fractional step: 5 → 2 pixels; each new one covers two and a half old ones
    row = np.array([0, 50, 100, 150, 250], dtype=np.uint8)[None, :, None].repeat(5, 0).repeat(3, 2)
    assert resize_and_crop(row, (2, 2))[0, :, 0].tolist() == [40, 180]


def test_cropping_takes_the_middle() -> None:
    pixels = np.arange(10, dtype=np.uint8)[None, :, None].repeat(4, 0).repeat(3, 2)
    assert resize_and_crop(pixels, (4, 4))[0, :, 0].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("size", [(16, 16), (100, 40), (7, 90), (513, 770)])
def test_the_size_asked_for_is_the_size_given(size: tuple[int, int]) -> None:
    pixels = np.zeros((33, 57, 3), dtype=np.uint8)
    assert resize_and_crop(pixels, size).shape == (size[1], size[0], 3)


def test_averaging_in_blocks_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (301, 407, 3), dtype=np.uint8)
    at_once = resize_and_crop(pixels, (96, 64))
    monkeypatch.setattr(images, "_BLOCK", 1500)
    np.testing.assert_array_equal(resize_and_crop(pixels, (96, 64)), at_once)


def test_averaging_a_large_photo_takes_a_small_part_of_its_size_in_memory() -> None:
    pixels = np.zeros((3000, 4000, 3), np.uint8)
    tracemalloc.start()
    resize_and_crop(pixels, (64, 64))
    assert tracemalloc.get_traced_memory()[1] < 4 * pixels.nbytes  # in float64 it alone would be eight times as large
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("values", "factor"),
    [(np.uint16([[0, 1, 257, 300, 33000, 65535]]), 1 / 257), (np.int32([[0, 1, 254, 255, 7, 8]]), 1),
     (np.int32([[0, 1, 257, 300, 33000, 65535]]), 1 / 257), (np.float32([[-0.5, 0.0, 0.25, 0.5, 0.999, 1.0]]), 255),
     (np.float32([[-4.0, 0.0, 0.6, 100.0, 255.0, 300.0]]), 1)],
    ids=["16 bits", "32 bits for 8", "32 bits for 16", "floats to 1", "floats to 255"],
)  # fmt: skip
def test_finer_greys_keep_their_place_between_black_and_white(
    values: np.ndarray, factor: float, tmp_path: Path
) -> None:
    Image.fromarray(values).save(tmp_path / "grey.tif")
    pixels = read_pixels(tmp_path / "grey.tif", (values.shape[1], values.shape[0]))
    expected = np.rint(values.astype(float) * factor).clip(0, 255)
    np.testing.assert_array_equal(pixels, expected[:, :, None].repeat(3, axis=2))


def scene(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (12, 18, 3), dtype=np.uint8)).resize(size, Image.BICUBIC).convert(mode)


@pytest.mark.parametrize(
    ("suffix", "mode"), [("png", "RGB"), ("jpg", "RGB"), ("jpg", "L"), ("png", "P"), ("tif", "CMYK")]
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photo_that_is_far_too_large_is_reduced_and_looks_the_same(
    suffix: str, mode: str, orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    scene((720, 480), mode).save(path, exif=exif)
    exact = read_pixels(path, (32, 48))
    monkeypatch.setattr(images, "_ORDINARY_PIXELS", 1000)
    seen: list[tuple[int, ...]] = []
    real = images.resize_and_crop

    def watched(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        seen.append(pixels.shape)
        return real(pixels, size)

    monkeypatch.setattr(images, "resize_and_crop", watched)
    reduced = read_pixels(path, (32, 48))
    assert reduced.shape == (48, 32, 3)
    assert np.abs(reduced.astype(int) - exact).mean() < 2
    if mode != "P":  # palettes are not averaged
        assert min(seen[0][:2]) < 480
        assert min(seen[0][:2]) >= 4 * 48


def test_alpha_of_a_photo_that_is_far_too_large_is_cut_like_its_pixels(tmp_path: Path, monkeypatch) -> None:
    image = scene((720, 480), "RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 360, 480))
    image.save(tmp_path / "a.png")
    monkeypatch.setattr(images, "_ORDINARY_PIXELS", 1000)
    mask = read_alpha(tmp_path / "a.png", (48, 32))
    assert mask is not None
    assert mask[:, :23].max() == 0
    assert mask[:, 25:].min() == 1
    pixels = read_pixels(tmp_path / "a.png", (48, 32))
    assert (pixels[:, :23] == 255).all()
    assert (pixels[:, 25:] != 255).any()


def test_photos_above_pillows_own_limit_are_read_without_its_warning(tmp_path: Path, monkeypatch) -> None:
    scene((90, 60)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 5,400 pixels: more than twice that, which Pillow refuses
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        facts = look_at(tmp_path / "a.png")
        pixels = read_pixels(tmp_path / "a.png", (32, 32))
    assert (facts.width, facts.height, facts.complaints) == (90, 60, ())
    assert pixels.shape == (32, 32, 3)
    assert Image.MAX_IMAGE_PIXELS == 1000  # other users of Pillow keep their guard


def test_there_is_a_limit_and_it_is_told(tmp_path: Path, monkeypatch) -> None:
    scene((90, 60)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MOST_PIXELS", 5_000)
    with pytest.raises(DataError, match=r"a\.png: 90×60 pixels are too many"):
        look_at(tmp_path / "a.png")


def test_what_pillow_complains_of_is_told_by_name_without_a_source_line(tmp_path: Path, recwarn) -> None:
    scene((32, 32)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x02\0broken")
    (complaint,) = look_at(tmp_path / "a.jpg").complaints
    assert "EXIF" in complaint
    read_pixels(tmp_path / "a.jpg")
    assert len(recwarn) == 0


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.jpg"])
def test_heic_is_read_by_pillow_heif_whatever_its_ending(name: str, tmp_path: Path) -> None:
    images.register_heif()
    scene((64, 48), "L").convert("RGB").save(tmp_path / "a.heic", quality=90)
    shutil.move(tmp_path / "a.heic", tmp_path / name)
    facts = look_at(tmp_path / name)
    assert (facts.width, facts.height) == (64, 48)
    difference = read_pixels(tmp_path / name).astype(int) - np.asarray(scene((64, 48), "L"))[..., None]
    assert np.abs(difference).mean() < 4


def test_heic_under_another_name_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    images.register_heif()
    scene((64, 48)).save(tmp_path / "b.heic")
    shutil.move(tmp_path / "b.heic", tmp_path / "b.jpg")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    with pytest.raises(DataError, match=r"b\.jpg: a HEIC image: pip install pillow-heif"):
        look_at(tmp_path / "b.jpg")


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (FileNotFoundError(2, "gone"), "a.png: no such file"),
        (UnidentifiedImageError("what"), "a.png: not an image that can be read, or damaged"),
        (Image.DecompressionBombError("much"), "a.png: too large an image (much)"),
        (MemoryError(), "a.png: too large an image for this machine's memory"),
        (OSError(5, "Input/output error"), "a.png: damaged image (Input/output error)"),
        (SyntaxError("broken\n  chunk"), "a.png: damaged image (broken chunk)"),
        (struct.error("short"), "a.png: damaged image (short)"),
    ],
)
def test_whatever_a_decoder_raises_names_the_file_in_one_line(raised: Exception, said: str) -> None:
    with pytest.raises(DataError) as told, images._readable(Path("a.png")):
        raise raised
    assert str(told.value) == said


@pytest.mark.parametrize(
    ("mode", "alpha", "invisible"),
    [("RGBA", 0, True), ("RGBA", 1, False), ("LA", 0, True), ("LA", 255, False), ("RGB", None, False)],
)
def test_a_photo_of_which_nothing_is_seen_is_told(
    mode: str, alpha: int | None, invisible: bool, tmp_path: Path
) -> None:
    image = Image.new("RGB" if alpha is None else "RGBA", (8, 6), (9, 8, 7) if alpha is None else (9, 8, 7, alpha))
    image.convert(mode).save(tmp_path / "a.png")
    facts = look_at(tmp_path / "a.png")
    assert (facts.width, facts.height, facts.frames, facts.invisible) == (8, 6, 1, invisible)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_after_turning(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene((80, 60)).save(tmp_path / "a.jpg", exif=exif)
    facts = look_at(tmp_path / "a.jpg")
    assert (facts.width, facts.height) == read_pixels(tmp_path / "a.jpg").shape[1::-1]
    assert (facts.width, facts.height) == ((60, 80) if orientation > 4 else (80, 60))


def test_frames_are_counted_and_the_first_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert look_at(tmp_path / "a.gif").frames == 3
    assert (read_pixels(tmp_path / "a.gif") == (255, 0, 0)).all()


def test_an_alpha_that_hides_nothing_is_none(tmp_path: Path) -> None:
    for name, alpha, found in (("a", 255, False), ("b", 254, True)):
        Image.new("RGBA", (4, 4), (1, 2, 3, alpha)).save(tmp_path / f"{name}.png")
        mask = read_alpha(tmp_path / f"{name}.png")
        assert (mask is not None) is found
        if mask is not None:
            assert mask.dtype == np.float32
            assert mask == pytest.approx(np.full((4, 4), alpha / 255))
    Image.new("RGB", (4, 4)).save(tmp_path / "c.png")
    assert read_alpha(tmp_path / "c.png") is None


@pytest.mark.parametrize(
    ("size", "target", "covered"),
    [
        ((100, 50), (20, 20), (40, 20)),
        ((50, 100), (20, 20), (20, 40)),
        ((30, 20), (60, 60), (90, 60)),
        ((20, 20), (20, 20), (20, 20)),
    ],
)
def test_a_photo_covers_what_it_is_cut_to(
    size: tuple[int, int], target: tuple[int, int], covered: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = np.linspace(0, 250, size[0]).round().astype(np.uint8)
    pixels = np.broadcast_to(columns[None, :, None], (size[1], size[0], 3)).copy()
    found = resize_and_crop(pixels, target)
    assert found.shape == (target[1], target[0], 3)
    left = (covered[0] - target[0]) // 2
    expected = np.interp((np.arange(covered[0]) + 0.5) / covered[0] * size[0] - 0.5, np.arange(size[0]), columns)
    inner = slice(2, -2)
    np.testing.assert_allclose(found[0, inner, 0], expected[left : left + target[0]][inner], atol=2.5)
