"""Masks from folders: found by name, read whatever their format, each told by its path where it cannot be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from metrics.errors import MetricsError
from metrics.subjects.mask_files import find_mask_files, mask_size, read_mask


@pytest.fixture
def truth() -> np.ndarray:
    inside = np.zeros((40, 60), bool)
    inside[10:30, 5:25] = True
    return inside


def test_masks_are_found_by_name_in_folders_named_as_the_photos_are_or_in_the_folder_itself(tmp_path: Path):
    mask = Image.new("L", (8, 8), 255)
    (tmp_path / "10_sks man").mkdir()
    for name in ("10_sks man/001.png", "001.bmp", "two.webp"):
        mask.save(tmp_path / name)
    found = find_mask_files(
        tmp_path, ["10_sks man/001.jpg", "5_sks man/001.jpg", "5_sks man/two.jpg", "5_sks man/x.png"]
    )
    names = ["10_sks man/001.png", "001.bmp", "two.webp"]
    assert found == [*(tmp_path / name for name in names), None]
    with pytest.raises(MetricsError, match=r"masks named like the photos, such as three\.png"):
        find_mask_files(tmp_path, ["three.jpg"])
    with pytest.raises(MetricsError, match=r"two\.webp' is named like several photos, a/two\.jpg and b/two"):
        find_mask_files(tmp_path, ["a/two.jpg", "b/two.jpg"])
    with pytest.raises(MetricsError, match="masks: expected a folder that exists"):
        find_mask_files(tmp_path / "nowhere", ["one.jpg"])


def test_every_kind_of_mask_is_read_alike(tmp_path: Path, truth: np.ndarray):
    white = truth.astype(np.uint8) * 255
    Image.fromarray(white).save(tmp_path / "white.png")
    Image.fromarray(truth.astype(np.uint8)).save(tmp_path / "one.png")
    Image.fromarray((500 + truth * 65000).astype(np.uint16)).save(tmp_path / "deep.png")
    nearly_opaque = np.full((40, 60), 255, np.uint8)
    nearly_opaque[0, 0] = 0
    Image.fromarray(np.dstack([*[white] * 3, np.full((40, 60), 255, np.uint8)])).save(tmp_path / "opaque.png")
    Image.fromarray(np.dstack([*[white] * 3, nearly_opaque])).save(tmp_path / "drawn.png")
    Image.fromarray(truth).save(tmp_path / "bits.png")
    Image.fromarray(np.dstack([np.full((40, 60, 3), 255, np.uint8), white])).save(tmp_path / "on-white.png")
    Image.fromarray(np.dstack([np.full((40, 60, 3), 64, np.uint8), white])).save(tmp_path / "cut-out.png")
    palette = Image.fromarray(truth.astype(np.uint8))
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(tmp_path / "palette.png")
    turned = Image.fromarray(white).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees to the right
    turned.save(tmp_path / "turned.png", exif=exif)
    paths = sorted(tmp_path.glob("*.png"))
    assert len(paths) == 10
    for path in paths:
        assert mask_size(path) == (60, 40), path.name
        np.testing.assert_allclose(read_mask(path), truth, atol=0.01, err_msg=path.name)


def test_a_black_mask_stays_black_though_it_was_compressed(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 4, (40, 60), dtype=np.uint8)
    for most in (1, 4):
        Image.fromarray(noise.clip(0, most)).save(tmp_path / "black.jpg", quality=95)
        assert 0 < read_mask(tmp_path / "black.jpg").max() < 0.05
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    assert read_mask(tmp_path / "black.png").max() == 0


@pytest.mark.parametrize("name", ["mask.heic", "mask.avif", "a.jpg"])
def test_masks_as_phones_write_them_are_found_and_read(tmp_path: Path, truth: np.ndarray, name: str):
    import pillow_heif  # of the extra "heic", which "test" asks for

    pillow_heif.register_heif_opener()
    picture = Image.fromarray(truth.astype(np.uint8) * 255).resize((240, 160), Image.Resampling.NEAREST).convert("RGB")
    picture.save(tmp_path / name, format="AVIF" if "avif" in name else "HEIF", quality=95)
    assert find_mask_files(tmp_path, [f"{Path(name).stem}.jpg"]) == [tmp_path / name]
    assert mask_size(tmp_path / name) == (240, 160)
    inside = np.kron(truth, np.ones((4, 4), bool))
    assert ((read_mask(tmp_path / name) > 0.5) == inside).mean() > 0.99


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", ["L", "1"])
def test_the_mask_of_a_photo_of_108_megapixels_is_reduced_on_reading(tmp_path: Path, mode: str):
    picture = Image.new(mode, (12_000, 9_000))
    picture.paste(1 if mode == "1" else 255, (0, 0, 6_000, 9_000))
    picture.save(tmp_path / "mask.png", compress_level=1)
    assert mask_size(tmp_path / "mask.png") == (12_000, 9_000)
    mask = read_mask(tmp_path / "mask.png")
    assert max(mask.shape) < 3_000
    np.testing.assert_allclose(mask.mean(axis=0)[[0, 3, -3, -1]], [1, 1, 0, 0], atol=0.01)


def test_files_that_are_no_images_are_named(tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"not an image")
    Image.new("L", (8, 8), 255).save(tmp_path / "exif.webp", exif=b"Exif\0\0nonsense")
    with pytest.raises(MetricsError, match=r"exif\.webp' cannot be read as an image"):
        mask_size(tmp_path / "exif.webp")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "half.png")
    half = tmp_path / "half.png"
    half.write_bytes(half.read_bytes()[:1500])
    for read in (mask_size, read_mask):
        with pytest.raises(MetricsError, match=r"broken\.png' cannot be read as an image"):
            read(tmp_path / "broken.png")
    with pytest.raises(MetricsError, match=r"half\.png' cannot be read as an image"):
        read_mask(half)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_masks_size_is_that_of_the_upright_image_whatever_its_orientation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("L", (30, 20)).save(tmp_path / "mask.png", exif=exif)
    with Image.open(tmp_path / "mask.png") as image:
        assert mask_size(tmp_path / "mask.png") == ImageOps.exif_transpose(image).size


def alpha_of(hidden: int, level: int) -> Image.Image:
    """100 by 10 pixels, bright at the left half; of this many the alpha channel is `level`, else opaque."""
    pixels = np.zeros((10, 100, 4), np.uint8)
    pixels[:, :50, :3], pixels[..., 3] = 200, 255
    pixels[..., 3].flat[:hidden] = level
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("hidden", "level", "by_alpha"), [(21, 127, True), (20, 127, False), (500, 128, False), (500, 127, True)]
)
def test_an_alpha_channel_is_the_mask_where_it_hides_more_than_a_fiftieth(
    tmp_path: Path, hidden: int, level: int, by_alpha: bool
) -> None:
    alpha_of(hidden, level).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert mask.dtype == np.float32
    assert mask[9, 99] == (1 if by_alpha else 0)
    assert mask.ravel()[0] == pytest.approx(level / 255 if by_alpha else 1)


@pytest.mark.parametrize(
    ("name", "top", "shown"),
    [
        ("a.png", 8, 1.0), ("a.png", 7, 7 / 255), ("a.png", 1, 1.0), ("a.BMP", 1, 1.0), ("a.tiff", 1, 1.0),
        ("a.png", 2, 2 / 255), ("a.webp", 1, 1 / 255), ("a.png", 200, 1.0), ("a.png", 0, 0.0),
    ],
)  # fmt: skip
def test_brightness_counts_relative_to_the_brightest_place_where_there_is_one(
    tmp_path: Path, name: str, top: int, shown: float
) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[2:6, 2:6] = top
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    mask = read_mask(tmp_path / name)
    assert mask.max() == pytest.approx(shown, abs=1e-6)
    assert mask[0, 0] == 0
