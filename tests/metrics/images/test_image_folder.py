"""Folders as people keep them: hidden and linked ones, odd names and kinds, large images, and samples that say what
they are."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from metrics.errors import MetricsError
from metrics.images.image_files import upright
from metrics.images.image_folder import ImageFolder, read_folder, read_samples
from metrics.run import main
from tests.messages import refusal
from tests.metrics.photo_sets import crops
from trainer.inference.sample_files import SampleNote, SheetNote, sheet_png, write_samples

PROMPTS = ("a photo of sks toy", "sks toy on the beach", "a drawing of sks toy")
ROOT = Path(__file__).parents[3]


def save(path: Path, image: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def shelf(root: Path, count: int = 6) -> Path:
    for number, image in enumerate(crops(count, 1)):
        save(root / "1_sks toy" / f"{number:02}.png", image)
    return root


def drawn(folder: Path, epochs: tuple[int, ...], count: int = 3) -> dict[int, np.ndarray]:
    """Samples as the trainer leaves them; the images by epoch."""
    made = {epoch: crops(count, 10 + epoch) for epoch in epochs}
    for epoch, images in made.items():
        write_samples(folder, images, [SampleNote(epoch, PROMPTS[k], 7 + k) for k in range(count)])
    return made


def test_photos_are_those_that_the_trainer_reads(tmp_path):
    from trainer.data.dataset import scan_dataset

    photos = shelf(tmp_path / "photos")
    image = crops(1, 3)[0]
    save(photos / "1_sks toy" / ".ipynb_checkpoints" / "00-checkpoint.png", image)
    save(photos / "reg" / "1_toy" / "r.png", image)
    save(photos / "0_left out" / "z.png", image)
    save(photos / "more" / "m.png", image)
    save(photos / "1_sks toy" / "deeper" / "d.png", image)
    (photos / "1_sks toy" / "._00.png").write_bytes(b"\0\5\x16\7")
    (photos / "1_sks toy" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    save(photos / "1_sks toy" / "a.png", image).rename(photos / "1_sks toy" / "a.jfif")
    found = read_folder(photos)
    theirs = scan_dataset(photos)
    assert sorted(found.names) == sorted(
        str(photo.path.relative_to(photos)) for photo in theirs.photos if not photo.is_reg
    )
    assert any("1 links to nothing (1_sks toy/gone.png)" in note for note in found.notes)
    assert any("more is no '<repeats>_<trigger> <class>' folder" in note for note in found.notes)


def test_linked_folders_are_read_once_and_circles_end(tmp_path):
    photos = shelf(tmp_path / "photos")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "1_sks toy").symlink_to(photos / "1_sks toy")
    assert len(read_folder(tmp_path / "linked")) == 6
    samples = tmp_path / "samples"
    (samples / "deep").mkdir(parents=True)
    for name in ("one", "two"):
        (samples / "deep" / name).symlink_to(photos / "1_sks toy")
    (samples / "deep" / "circle").symlink_to(samples)
    (samples / "deep" / "up").symlink_to(tmp_path)
    (samples / "deep" / "long.png").symlink_to("long" * 70)  # the system refuses to follow it
    assert len(read_samples(samples)[0]) == 6


def test_names_that_are_no_text_are_escaped_everywhere(tmp_path, capsys):
    photos, samples = shelf(tmp_path / "photos"), shelf(tmp_path / "samples")
    os.rename(os.fsencode(photos / "1_sks toy" / "00.png"), os.fsencode(photos / "1_sks toy") + b"/\x8e\xca.png")
    odd = tmp_path / os.fsdecode(b"\x90\x5e")
    samples.rename(odd)
    arguments = ["--train", str(photos), "--samples", str(odd), "--encoder", "none"]
    assert main([*arguments, "--json", str(tmp_path / "x.json"), "--picture", str(tmp_path / "x.png")]) == 0
    said = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert "1_sks toy/\\x8e\\xca.png" in said["copied"]
    assert said["samples"].endswith("\\x90^")
    assert "\\x8e\\xca.png" in capsys.readouterr().out
    assert main([*arguments, "--json", "-"]) == 0
    json.loads(capsys.readouterr().out)


def test_json_on_a_console_without_its_letters_is_whole(tmp_path):
    photos = shelf(tmp_path / "фото")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "metrics.run", "--train", str(photos), "--samples", str(shelf(tmp_path / "s"))]
    done = subprocess.run([*command, "--encoder", "none", "--json", "-"], capture_output=True, env=environment)
    assert done.returncode == 0
    assert json.loads(done.stdout.decode("ascii"))["train"] == str(photos)


def test_kinds_that_are_not_read_are_named_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    with pytest.raises(MetricsError, match=r"1 \.heic files, which are not read: pip install pillow-heif, or save"):
        read_folder(tmp_path)
    (tmp_path / "a.HEIC").rename(tmp_path / "a.jpg")
    with pytest.raises(MetricsError, match=r"a\.jpg: a HEIC image: pip install pillow-heif"):
        read_folder(tmp_path)


def test_heic_is_read_where_it_can_be(tmp_path):
    import pillow_heif  # of the extra "heic", which "test" asks for

    image = crops(1, 1)[0]
    pillow_heif.from_pillow(Image.fromarray(image)).save(tmp_path / "a.heic", quality=95)
    found = read_folder(tmp_path)
    assert np.abs(found.images[0].astype(int) - image).mean() < 8


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P", "I;16", "L", "turned"])
def test_a_huge_image_is_read_as_a_large_one(tmp_path, kind, monkeypatch):
    """Reduced by whole factors first: the same picture as from a smaller file of it."""
    small = np.kron(crops(1, 2)[0], np.ones((24, 24, 1), np.uint8))  # 1536 pixels a side
    monkeypatch.setattr("metrics.images.image_files._ORDINARY_PIXELS", 3_000_000)
    for name, picture in (("small", Image.fromarray(small)), ("huge", Image.fromarray(small).resize((3072, 3072), 0))):
        exif = Image.Exif()
        if kind == "turned":
            exif[0x0112] = 6
        elif kind == "I;16":
            picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) << 8)
        else:
            picture = picture.convert(kind)
        picture.save(tmp_path / f"{name}.png", exif=exif, compress_level=1)
    huge, little = read_folder(tmp_path).images
    assert huge.shape == little.shape == (768, 768, 3)
    assert np.abs(huge.astype(int) - little).mean() < (4 if kind == "P" else 1.5)  # palettes are dithered


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_huge_image_is_turned_as_any_other(orientation, monkeypatch):
    monkeypatch.setattr("metrics.images.image_files._ORDINARY_PIXELS", 100_000)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.kron(crops(1, 2)[0], np.ones((2, 48, 1), np.uint8))).save(file, "PNG", exif=exif)
    image = Image.open(file)
    found, expected = upright(image), ImageOps.exif_transpose(image)
    assert (found.width * 2, found.height * 2) == expected.size
    difference = np.asarray(found, int) - np.asarray(expected.resize(found.size))
    assert np.abs(difference).mean() < 1


def test_the_trainers_samples_are_single_files_that_say_what_they_are(tmp_path):
    made = drawn(tmp_path / "samples", (0, 10))
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    ends = ("00_a-photo-of-sks-toy_seed7", "01_sks-toy-on-the-beach_seed8", "02_a-drawing-of-sks-toy_seed9")
    singles = [f"{epoch}_{end}.png" for epoch in ("0000", "0010") for end in ends]
    assert names == [*singles, "strip_0000.png", "strip_0010.png"]
    with Image.open(tmp_path / "samples" / names[4]) as image:
        assert json.loads(image.info["onset"])["epoch"] == 10
        assert image.info["parameters"].startswith("sks toy on the beach\nSteps: ")
    assert Image.open(tmp_path / "samples" / "strip_0010.png").size == (3 * 64, 64)
    samples, base = read_samples(tmp_path / "samples")
    assert samples.captions == PROMPTS
    assert samples.epochs == (0, 10)
    for folder, epoch in ((samples, 10), (base, 0)):
        np.testing.assert_array_equal(np.stack(folder.images), made[epoch])
    assert samples.pairs(base) == [(0, 0), (1, 1), (2, 2)]
    assert any("those of 10 are judged (--epoch N takes another)" in note for note in samples.notes)
    np.testing.assert_array_equal(np.stack(read_samples(tmp_path / "samples", 0)[0].images), made[0])
    assert read_samples(tmp_path / "samples", 0)[1] is None
    with pytest.raises(MetricsError, match=refusal("--epoch", 5, "(0, 10)")):
        read_samples(tmp_path / "samples", 5)


def test_samples_drawn_anew_replace_those_before(tmp_path):
    drawn(tmp_path, (4,))
    images = crops(1, 5)
    write_samples(tmp_path, images, [SampleNote(4, "犬 " * 200 + "\udc8e", 1)])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2
    assert re.fullmatch(r"0004_00_(犬-)+犬_seed1\.png", names[0])
    assert len(names[0].encode()) < 200
    assert json.loads(Image.open(tmp_path / names[0]).info["onset"])["prompt"].endswith("\udc8e")


def test_sheets_of_a_study_are_cut(tmp_path):
    made = {}
    for epoch in (0, 2, 4):
        made[epoch] = crops(6, epoch)
        prompts = tuple(prompt for prompt in PROMPTS for _ in range(2))
        path = tmp_path / "samples" / f"{epoch:04}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(sheet_png(made[epoch], SheetNote(epoch, 3, 2, prompts, (1, 2) * 3)))
    samples, base = read_samples(tmp_path / "samples", 2)
    np.testing.assert_array_equal(np.stack(samples.images), made[2])
    np.testing.assert_array_equal(np.stack(base.images), made[0])
    assert samples.names[:2] == ("0002.png#1", "0002.png#2")
    assert samples.captions[::2] == PROMPTS
    assert len(samples.pairs(base)) == 6


def test_strips_of_earlier_versions_are_passed_over(tmp_path):
    strip = np.concatenate(crops(3, 1), axis=1)
    save(tmp_path / "run" / "samples" / "0010.png", strip)
    assert len(read_samples(tmp_path / "run" / "samples")[0]) == 1  # anybody's picture of that name
    (tmp_path / "run" / "train.json").write_text("{}")
    with pytest.raises(MetricsError, match=r"1 sheets .*earlier version \(0010\.png\)"):
        read_samples(tmp_path / "run" / "samples")
    drawn(tmp_path / "run" / "samples", (12,))
    samples, _ = read_samples(tmp_path / "run" / "samples")
    assert len(samples) == 3
    assert any("of an earlier version" in note for note in samples.notes)


def test_contact_sheets_and_plots_are_no_samples(tmp_path):
    def curves(picture: Path) -> None:
        table = tmp_path / "losses.csv"
        table.write_text("epoch,val_loss\n" + "".join(f"{e},{1 + (e - 5) ** 2}\n" for e in range(12)))
        assert main(["--trajectory", str(table), "--picture", str(picture)]) == 0

    best = tmp_path / "best"
    best.mkdir()
    curves(best / "curves.png")
    with pytest.raises(MetricsError, match=r"1 contact sheet or plot .*\(curves\.png\)"):
        read_samples(best)
    drawn(best, (4,))
    save(best / "sheet.png", crops(1, 3)[0])
    assert len(read_samples(best)[0]) == 4  # anybody's picture of that name
    (best / "train.yaml").write_text("")
    samples, _ = read_samples(best)
    assert len(samples) == 3
    assert any("2 contact sheets or plots are left out, no samples (curves.png)" in note for note in samples.notes)


@pytest.mark.parametrize("asked", [["--samples", "loop"], ["--train", "loop"], ["--picture", ""], ["--json", ""]])
def test_links_in_a_circle_and_empty_names_are_refused_in_one_line(tmp_path, monkeypatch, capsys, asked):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    shelf(tmp_path / "photos")
    drawn(tmp_path / "drawn", (4,))
    whole = {"--train": "photos", "--samples": "drawn", "--encoder": "none"} | {asked[0]: asked[1]}
    assert main([word for pair in whole.items() for word in pair]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("epoch", ["-1", "1.5", "x", "1" * 10])
def test_an_epoch_that_is_no_whole_number_is_refused(epoch, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--train", "photos", "--samples", "drawn", "--epoch", epoch])
    assert f"--epoch: expected a whole number from 0 on, got '{epoch}'" in capsys.readouterr().err


def test_the_picture_of_a_comparison_is_no_sample_of_the_next(tmp_path):
    drawn(tmp_path / "drawn", (4,))
    asked = ["--train", str(shelf(tmp_path / "photos")), "--samples", str(tmp_path / "drawn"), "--encoder", "none"]
    assert main([*asked, "--picture", str(tmp_path / "drawn" / "drift.png")]) == 0
    assert len(read_samples(tmp_path / "drawn")[0]) == 3


def test_prompts_inside_the_images_of_webuis_are_read(tmp_path):
    said = PngInfo()
    said.add_text(
        "parameters", "a toy,\non grass\nNegative prompt: ugly\nSteps: 20, Sampler: Euler a, Seed: 42, Size: 64x64"
    )
    for number, image in enumerate(crops(2, 1)):
        save(tmp_path / f"{number}.png", image, pnginfo=said)
    (tmp_path / "1.txt").write_bytes("beside".encode("utf-16"))
    damaged = PngInfo()
    damaged.add_text("onset", '{"kind": "sheet", "epoch": 1, "rows": "many"}')
    save(tmp_path / "2.png", crops(1, 2)[0], pnginfo=damaged)
    found = read_samples(tmp_path)[0]
    assert found.captions == ("a toy,\non grass", "beside", "")
    assert found.keys == ("42 a toy,\non grass", "42 a toy,\non grass", "")


def test_samples_are_held_against_the_base_without_being_told(tmp_path, tiny_clip, capsys):
    photos = shelf(tmp_path / "photos", 8)
    drawn(tmp_path / "run" / "samples", (0, 2, 4))
    arguments = ["--train", str(photos), "--samples", str(tmp_path / "run" / "samples"), "--encoder", str(tiny_clip)]
    assert main([*arguments, "--json", str(tmp_path / "x.json")]) == 0
    said = json.loads((tmp_path / "x.json").read_text())
    assert {"fidelity", "clip_text", "prompt_change"} <= set(said["measures"])
    assert abs(said["measures"]["composition"]["units"]) < 4
    assert any("3 images of epoch 0" in note for note in said["notes"])
    assert "3 samples against 8 photos" in capsys.readouterr().out
    assert main([*arguments, "--epoch", "3"]) == 2
    assert re.search(refusal("--epoch", 3, "an epoch of the images in"), capsys.readouterr().err)


def test_pairs_go_by_names_first():
    def folder(names: tuple[str, ...], keys: tuple[str, ...] = ()) -> ImageFolder:
        images = tuple(crops(len(names), 1))
        return ImageFolder(Path("x"), names, images, ("",) * len(names), keys)

    assert folder(("a", "b")).pairs(folder(("b", "c"))) == [(1, 0)]
    assert folder(("a", "b"), ("1 x", "2 x")).pairs(folder(("c", "d"), ("2 x", "1 x"))) == [(0, 1), (1, 0)]
    assert folder(("a",), ("",)).pairs(folder(("c",), ("",))) == []


def test_of_several_epochs_the_last_is_judged_and_the_first_is_the_base(tmp_path):
    made = drawn(tmp_path / "samples", (0, 5, 10, 20))
    samples, base = read_samples(tmp_path / "samples")
    np.testing.assert_array_equal(np.stack(samples.images), made[20])
    assert any("samples of epochs 0, 5, 10 and 20: those of 20 are judged" in note for note in samples.notes)
    np.testing.assert_array_equal(np.stack(base.images), made[0])
