"""Training folders: kohya's layout, captions, and every kind of file that people put there."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data.dataset import load_mask, load_pixels, scan_dataset
from trainer.errors import DataError


def shelf(root: Path, name: str = "3_sks dog") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    return folder


def paint(path: Path, mode: str = "RGB", size: tuple[int, int] = (40, 20), **options) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    image.convert(mode).save(path, **options)


def test_repeats_trigger_and_class_come_from_the_folder(tiny_photos) -> None:
    dataset = scan_dataset(tiny_photos)
    assert dataset.num_photos == 8
    assert dataset.warnings == ()
    first = dataset.photos[0]
    assert (first.repeats, first.trigger, first.class_word, first.is_reg) == (2, "sks", "toy", False)
    assert first.caption == "a photo of sks toy, beach"
    assert (first.width, first.height) == (64, 64)


def test_the_digest_follows_content_not_place(tiny_photos, tmp_path) -> None:
    copied = shutil.copytree(tiny_photos, tmp_path / "elsewhere")
    assert scan_dataset(copied).digest == scan_dataset(tiny_photos).digest
    (copied / "2_sks toy" / "00.txt").write_text("another caption")
    assert scan_dataset(copied).digest != scan_dataset(tiny_photos).digest


def test_regularisation_folders_beside_and_apart(tmp_path) -> None:
    paint(shelf(tmp_path / "a") / "x.png")
    paint(shelf(tmp_path / "a", "reg/1_dog") / "r.png")
    inside = scan_dataset(tmp_path / "a")
    assert [photo.is_reg for photo in inside.photos] == [False, True]
    assert inside.photos[1].caption == "dog"
    paint(shelf(tmp_path / "apart", "2_big dog") / "r.png")
    apart = scan_dataset(tmp_path / "a", reg_data=tmp_path / "apart")
    assert apart.photos[1].class_word == "big dog"
    assert apart.photos[1].repeats == 2


def test_the_guis_img_folder_is_found(tmp_path) -> None:
    paint(shelf(tmp_path, "img/5_sks dog") / "x.png")
    assert scan_dataset(tmp_path).photos[0].repeats == 5


def test_captions_txt_before_caption_and_the_first_line(tmp_path) -> None:
    folder = shelf(tmp_path)
    for name in ("a", "b", "c", "d"):
        paint(folder / f"{name}.png")
    (folder / "a.txt").write_text("from txt")
    (folder / "a.caption").write_text("from caption")
    (folder / "b.caption").write_text("\ufefffirst\nsecond", encoding="utf-8")
    (folder / "c.txt").write_text("")
    dataset = scan_dataset(tmp_path)
    assert [photo.caption for photo in dataset.photos] == ["from txt", "first", "", "sks dog"]
    assert "d.png" in dataset.warnings[-1]
    assert "'sks dog'" in dataset.warnings[-1]
    assert any("b.caption: 2 lines" in warning for warning in dataset.warnings)


def test_trigger_and_class_can_be_given(tmp_path) -> None:
    paint(shelf(tmp_path) / "a.png")
    photo = scan_dataset(tmp_path, trigger="zwx", class_word="cat").photos[0]
    assert (photo.trigger, photo.class_word, photo.caption) == ("zwx", "cat", "zwx cat")


def test_bare_images_count_once_and_this_is_said(tmp_path) -> None:
    paint(tmp_path / "a.png")
    dataset = scan_dataset(tmp_path)
    assert dataset.photos[0].repeats == 1
    assert "taken once each" in dataset.warnings[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the file is empty"), (b"not an image", "not an image"), ("cut", "damaged image")],
)
def test_a_bad_image_is_named_in_one_line(content, reason: str, tmp_path) -> None:
    folder = shelf(tmp_path)
    paint(folder / "good.jpg", size=(300, 300))
    bytes_ = (folder / "good.jpg").read_bytes()
    (folder / "bad.jpg").write_bytes(bytes_[: len(bytes_) // 2] if content == "cut" else content)
    with pytest.raises(DataError, match=reason) as caught:
        scan_dataset(tmp_path)
    assert "bad.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_files_that_cannot_be_read_are_named_at_once(tmp_path) -> None:
    folders = shelf(tmp_path), shelf(tmp_path, "1_sks cat")
    for folder in folders:
        paint(folder / "good.jpg")
        (folder / "bad.jpg").write_bytes(b"not an image")
    (folders[0] / "good.txt").write_bytes("a dog in a caf\xe9".encode("latin-1"))
    with pytest.raises(DataError) as caught:
        scan_dataset(tmp_path)
    told = str(caught.value).split("\n")
    assert [line.split(":")[0] for line in told] == [
        str(folders[1] / "bad.jpg"), str(folders[0] / "bad.jpg"), str(folders[0] / "good.txt"),
    ]  # fmt: skip


def test_a_folder_of_photos_without_captions_is_told_in_one_line(tmp_path) -> None:
    folder = shelf(tmp_path)
    for name in ("0.jpg", "1.jpg", "2.jpg"):
        paint(folder / name)
    (folder / "1.txt").write_text("sks dog on a beach")
    dataset = scan_dataset(tmp_path)
    assert dataset.warnings == (f"{folder}: 2 photos have no caption, such as 0.jpg (0.txt): taken as 'sks dog'",)
    assert [photo.caption for photo in dataset.photos] == ["sks dog", "sks dog on a beach", "sks dog"]


def test_missing_and_empty_folders_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        scan_dataset(tmp_path / "nowhere")
    paint(tmp_path / "photo.png")
    with pytest.raises(DataError, match="not a folder"):
        scan_dataset(tmp_path / "photo.png")
    (tmp_path / "photo.png").unlink()
    with pytest.raises(DataError, match="no images here"):
        scan_dataset(tmp_path)
    paint(shelf(tmp_path) / "a.png")
    (tmp_path / "3_sks cat").mkdir()
    assert any("3_sks cat: no images" in warning for warning in scan_dataset(tmp_path).warnings)
    with pytest.raises(DataError, match="reg_data"):
        scan_dataset(tmp_path, reg_data=tmp_path / "nowhere")


def test_exif_rotation_is_applied(tmp_path) -> None:
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, :20] = (255, 0, 0)  # red on the left; turned by 90° clockwise it is on top
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = shelf(tmp_path)
    Image.fromarray(pixels).save(folder / "a.png", exif=exif)
    Image.fromarray(pixels).resize((4000, 2000)).save(folder / "b.jpg", exif=exif)
    dataset = scan_dataset(tmp_path)
    assert (dataset.photos[0].width, dataset.photos[0].height) == (20, 40)
    assert (dataset.photos[1].width, dataset.photos[1].height) == (2000, 4000)
    turned = load_pixels(dataset.photos[0])
    assert turned.shape == (40, 20, 3)
    assert (turned[:20] == (255, 0, 0)).all()
    assert (turned[20:] == 0).all()


def test_alpha_is_laid_over_white_and_kept_as_a_mask(tmp_path) -> None:
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[:4] = (10, 20, 30, 255)
    pixels[4:] = (10, 20, 30, 0)
    Image.fromarray(pixels).save(shelf(tmp_path) / "a.png")
    photo = scan_dataset(tmp_path).photos[0]
    rgb = load_pixels(photo)
    assert (rgb[:4] == (10, 20, 30)).all()
    assert (rgb[4:] == 255).all()
    mask = load_mask(photo)
    assert mask is not None
    assert mask.dtype == np.float32
    assert mask.tolist() == [[1.0] * 8] * 4 + [[0.0] * 8] * 4


def test_an_opaque_image_has_no_mask(tiny_photos) -> None:
    assert load_mask(scan_dataset(tiny_photos).photos[0]) is None


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", ".jpg"), ("L", ".png"), ("P", ".png"), ("1", ".png")])
def test_other_modes_become_rgb(mode: str, suffix: str, tmp_path) -> None:
    folder = shelf(tmp_path)
    paint(folder / f"a{suffix}", mode)
    pixels = load_pixels(scan_dataset(tmp_path).photos[0])
    assert pixels.shape == (20, 40, 3)
    assert pixels.dtype == np.uint8
    expected = np.asarray(Image.open(folder / f"a{suffix}").convert("RGB"))
    np.testing.assert_array_equal(pixels, expected)


def test_sixteen_bit_grey_keeps_its_range(tmp_path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(shelf(tmp_path) / "a.png")
    pixels = load_pixels(scan_dataset(tmp_path).photos[0])
    assert pixels.shape == (4, 256, 3)
    assert np.abs(pixels[0, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("top", [1, 255])
def test_grey_of_floats_is_read_as_shares_or_as_bytes(tmp_path, top: int) -> None:
    ramp = np.linspace(0, top, 256, dtype=np.float32)[None].repeat(4, 0)
    Image.fromarray(ramp).save(shelf(tmp_path) / "a.tif")
    pixels = load_pixels(scan_dataset(tmp_path).photos[0])
    np.testing.assert_array_equal(pixels[0, :, 0], np.arange(256))


def test_sixteen_bit_grey_with_a_transparent_value_keeps_its_range(tmp_path) -> None:
    pixels = np.full((4, 4), 40000, np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=7)
    (photo,) = scan_dataset(tmp_path).photos
    assert (load_pixels(photo) == 156).all()


def test_an_animation_gives_its_first_frame_and_a_warning(tmp_path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    frames[0].save(shelf(tmp_path) / "a.gif", save_all=True, append_images=frames[1:])
    dataset = scan_dataset(tmp_path)
    assert "a.gif: 2 frames" in dataset.warnings[0]
    assert (load_pixels(dataset.photos[0])[0, 0] == (200, 0, 0)).all()


def test_a_palette_with_transparency_is_laid_over_white(tmp_path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 90, 90, 90])
    image.putpixel((0, 0), 1)
    image.save(shelf(tmp_path) / "a.png", transparency=0)
    pixels = load_pixels(scan_dataset(tmp_path).photos[0])
    assert (pixels[0, 0] == 90).all()
    assert (pixels[1:] == 255).all()


def test_what_a_photos_file_complains_of_is_told_with_its_name(tmp_path: Path) -> None:
    photo = shelf(tmp_path) / "a.jpg"
    paint(photo)
    content = photo.read_bytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05"  # five entries, and none of them there
    photo.write_bytes(content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:])
    told = [warning for warning in scan_dataset(tmp_path).warnings if "EXIF" in warning]
    assert len(told) == 1
    assert told[0].startswith(f"{photo}: ")
