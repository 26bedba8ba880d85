"""The command on folders of real photos: table, JSON and picture; what is copied, burnt or wrong is named."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.checkpoint.encoders import load_encoder
from metrics.checkpoint.image_descriptors import measure
from metrics.comparison.compare import BURNS, judge, score_folders
from metrics.comparison.picture import headline
from metrics.errors import MetricsError
from metrics.images.image_folder import ImageFolder, read_folder
from metrics.run import LISTED, main
from studies.demo.scenes import render_concept
from tests.metrics.photo_sets import OTHERS, burnt, crops, fresh, in_memory, recoloured

DEMO = Path(__file__).parents[2] / "studies" / "demo"
NOTHING_HEAVY = (
    "import sys, metrics.run\n"
    "try: metrics.run.main(['--help'])\n"
    "except SystemExit: pass\n"
    "print('heavy:', sorted({'torch', 'scipy', 'pandas', 'matplotlib', 'skimage'} & set(sys.modules)))"
)


def write(folder: Path, images: np.ndarray, caption: str = "") -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02}.png")
        if caption:
            (folder / f"{number:02}.txt").write_text(caption)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    photos = crops(20, 1)
    return {
        "train": write(root / "photos" / "10_sks toy", photos).parent,
        "fresh": write(root / "fresh", fresh(), "a photo of a toy"),
        "copied": write(root / "copied", photos[:12]),
        "burnt": write(root / "burnt", burnt(crops(12, 5))),
        "base": write(root / "base", crops(12, 2, OTHERS)),
    }


def score(folders: dict[str, Path], samples: str, tmp_path: Path, *more: str) -> dict:
    target = tmp_path / "scores.json"
    arguments = [
        "--train",
        folders["train"],
        "--samples",
        folders[samples],
        "--base",
        folders["base"],
        "--json",
        target,
    ]
    assert main([str(argument) for argument in (*arguments, *more)]) == 0
    return json.loads(target.read_text())


def test_fresh_samples_are_as_the_photos(folders, tmp_path: Path, tiny_clip: Path, capsys):
    found = score(
        folders, "fresh", tmp_path, "--encoder", str(tiny_clip), "--picture", str(tmp_path / "p" / "drift.png")
    )
    measures = found["measures"]
    assert {"fidelity", "copying", "colour", "burn", "composition", "diversity", "prompt_change"} <= set(measures)
    units = {name: entry["units"] for name, entry in measures.items() if entry["units"] is not None}
    assert {"copying", "colour", "burn", "composition"} <= set(units)
    assert {name: far for name, far in units.items() if abs(far) >= 4 and name != "prompt_change"} == {}
    assert found["copied"] == {}
    printed = capsys.readouterr()
    said = r"12 samples against 20 photos(?s:.)* value +[│┃|]? *90 % sure +[│┃|]? *off by(?s:.)* burn"
    assert re.search(said, printed.out)
    assert f"picture: {tmp_path / 'p' / 'drift.png'}" in printed.err
    drawn = (np.asarray(Image.open(tmp_path / "p" / "drift.png").convert("RGB")) < 250).any(axis=2)
    assert np.diff(np.flatnonzero(drawn.any(axis=0)), append=drawn.shape[1]).max() < 0.1 * drawn.shape[1], "no gaps"


def test_copied_photos_are_named_with_the_samples_that_copy_them(folders, tmp_path: Path, tiny_clip: Path, capsys):
    found = score(folders, "copied", tmp_path, "--encoder", str(tiny_clip))
    assert found["measures"]["copying"]["value"] > 0.9
    assert {f"10_sks toy/{number:02}.png": [f"{number:02}.png"] for number in range(12)} == found["copied"]
    assert all(Path(pair["photo"]).name == pair["sample"] for pair in found["nearest"])
    printed = capsys.readouterr().out.replace("\n", " ")
    assert "12 of 12 samples copy a photo" in printed
    assert found["measures"]["copying"]["says"] == "12 of 12 copied"
    assert found["measures"]["copying"]["level"] == "clear"


@pytest.mark.parametrize(("photos", "samples"), [(5, 5), (12, 8)])
def test_samples_that_are_all_one_image_are_said_to_be_alike_first(tiny_clip: Path, photos: int, samples: int):
    one = np.tile(crops(1, 5), (samples, 1, 1, 1))
    scores = score_folders(in_memory(crops(photos, 1)), in_memory(one), None, load_encoder(str(tiny_clip)))
    assert headline(scores).startswith("Clearly off: diversity (all alike)")


def test_a_subject_that_was_not_learned_is_the_first_thing_said():
    drawn, encoder = crops(12, 2, OTHERS), load_encoder(str(DEMO / "clip"))
    scores = score_folders(in_memory(crops(20, 1)), in_memory(drawn), in_memory(drawn[::-1]), encoder)
    assert headline(scores).startswith("Clearly off: fidelity (0…1) (not learned)")


def test_photos_that_are_as_the_base_draws_leave_fidelity_open():
    """Their left-out projections may even lie behind the base: an interval, not a hundred thousand."""
    encoder, pool = load_encoder(str(DEMO / "clip")), crops(160, 1)
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(len(pool))
        parts = (in_memory(pool[order[rows]]) for rows in (slice(0, 6), slice(6, 12), slice(12, 24)))
        found = {entry.name: entry for entry in score_folders(*parts, encoder).measures}["fidelity"]
        assert found.high - found.low < 20
        assert found.low <= 0 <= found.high
        assert found.says == ("not learned" if found.high < 1 else "cannot be told from the base")


@pytest.mark.parametrize(("photos", "samples"), [(6, 6), pytest.param(24, 40, marks=pytest.mark.slow)])
def test_honest_samples_are_hardly_ever_clearly_off(photos: int, samples: int):
    traits, generator = measure(render_concept("pine", "set", 200, seed=4)[0], None), np.random.default_rng(0)
    worst = []
    for _ in range(100):
        order = generator.permutation(200)
        entries = judge(traits.rows(order[photos : photos + samples]), traits.rows(order[:photos]))
        worst.append(max(entry.units for entry in entries))
    assert np.mean(np.array(worst) > 4) <= 0.06
    assert np.mean(np.array(worst) > 2) <= 0.35


@pytest.mark.slow
def test_honest_samples_are_hardly_ever_clearly_off_with_everything_that_is_measured(tmp_path: Path):
    """Photos of one set against photos of the same set, with an encoder and a base: the whole table."""
    encoder = load_encoder(str(DEMO / "clip"), cache_dir=tmp_path)
    photos, base = crops(160, 77), crops(40, 78, OTHERS)
    clear, notable, too_alike = [], [], []
    for seed in range(24):
        order = np.random.default_rng([seed, 9]).permutation(len(photos))
        drawn = np.random.default_rng(seed).permutation(len(base))[:16]
        sets = in_memory(photos[order[:12]]), in_memory(photos[order[12:28]]), in_memory(base[drawn])
        found = {entry.name: entry for entry in score_folders(*sets, encoder).measures}
        assert {"fidelity", "copying", "diversity", "colour", "framing"} <= set(found)
        clear.append(any(entry.level == "clear" for entry in found.values()))
        notable.append(any(entry.level != "fine" for entry in found.values()))
        too_alike.append(found["fidelity"].level != "fine")
    assert np.mean(clear) <= 0.08
    assert np.mean(notable) <= 0.4
    assert np.mean(too_alike) <= 0.05


def test_mirrored_copies_are_told_and_said_to_be_mirrored(folders, tmp_path: Path, tiny_clip: Path, capsys):
    samples = fresh().copy()
    samples[:3] = crops(20, 1)[:3, :, ::-1]
    write(tmp_path / "drawn", samples)
    arguments = ["--train", str(folders["train"]), "--samples", str(tmp_path / "drawn"), "--json", str(tmp_path / "j")]
    for encoder in (str(tiny_clip), "none"):
        assert main([*arguments, "--encoder", encoder]) == 0
        found = json.loads((tmp_path / "j").read_text())
        assert found["copied"] == {f"10_sks toy/{number:02}.png": [f"{number:02}.png"] for number in range(3)}
        assert [pair["mirrored"] for pair in found["nearest"][:3]] == [True] * 3
        assert not any(pair["mirrored"] for pair in found["nearest"][3:])
        measure = "layout_copying" if encoder == "none" else "copying"
        assert found["measures"][measure]["says"] == "3 of 12 copied"
        assert "copied: 10_sks toy/00.png by 00.png (mirrored)" in capsys.readouterr().out


def test_names_with_brackets_are_printed_as_they_are(tmp_path: Path, capsys):
    photos = crops(12, 1)
    for folder, name in (("train", "[sks] dog {}.png"), ("drawn", "a[/b] {}.png")):
        (tmp_path / folder).mkdir()
        for number, image in enumerate(photos):
            Image.fromarray(image).save(tmp_path / folder / name.format(number).replace("/", "_"))
    (tmp_path / "train" / "._[sks] dog 0.png").write_bytes(b"what a Mac leaves on foreign disks")
    arguments = ["--train", str(tmp_path / "train"), "--samples", str(tmp_path / "drawn"), "--encoder", "none"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    copied = re.findall(r"copied: \[sks\] dog (\d+)\.png by a\[_b\] (\d+)\.png\n", printed)
    assert len(copied) == LISTED  # all are equally near; which come first hangs on how the machine rounds
    assert all(photo == sample for photo, sample in copied)
    assert "and 4 more photos are copied" in printed


def test_what_has_no_effect_is_said(folders, tmp_path: Path, capsys):
    arguments = ["--train", str(folders["train"]), "--samples", str(folders["fresh"]), "--encoder", "none"]
    assert main([*arguments, "--device", "cpu"]) == 0
    assert "--device has no effect with --encoder none" in capsys.readouterr().err
    (tmp_path / "losses.csv").write_text("epoch,val_loss\n1,0.1\n2,0.09\n3,0.08\n4,0.085\n")
    assert main(["--trajectory", str(tmp_path / "losses.csv"), "--cache", "features"]) == 0
    assert "--cache has no effect with --trajectory" in capsys.readouterr().err


def test_what_is_slightly_off_is_not_called_fine():
    scores = score_folders(in_memory(crops(20, 1)), in_memory(recoloured(crops(12, 5))), None, None)
    assert all(entry.level == "fine" for entry in scores.measures if entry.name in ("composition", "layout_copying"))
    colour = next(entry for entry in scores.measures if entry.name == "colour")
    assert colour.level != "fine"
    assert "colour drift" in headline(scores)


def test_a_subject_that_wandered_off_is_said_to_have():
    def discs(count: int, seed: int, x: float) -> np.ndarray:
        generator, grid = np.random.default_rng(seed), np.mgrid[:64, :64] / 64
        centres = np.array([0.5, x]) + 0.05 * generator.normal(size=(count, 2))
        inside = ((grid[None] - centres[:, :, None, None]) ** 2).sum(axis=1) < 0.03
        return np.where(inside[..., None], [200, 40, 40], [90, 120, 160]).astype(np.uint8)

    def framed(x: float):
        scores = score_folders(in_memory(discs(9, 0, 0.5)), in_memory(discs(8, 1, x)), None, None)
        return next(entry for entry in scores.measures if entry.name == "framing")

    assert framed(0.5).level == "fine"
    assert (framed(0.75).level, framed(0.75).says) == ("clear", "farther right")
    assert framed(0.25).says == "farther left"


def test_repeats_of_three_photos_are_not_four_photos():
    with pytest.raises(MetricsError, match="3 photos and 6 repeats"):
        score_folders(in_memory(np.tile(crops(3, 1), (3, 1, 1, 1))), in_memory(crops(4, 5)), None, None)


def test_an_identity_encoder_alone_judges_likeness_and_nothing_else(tiny_clip: Path):
    scores = score_folders(in_memory(crops(12, 1)), in_memory(crops(8, 5)), None, None, load_encoder(str(tiny_clip)))
    names = {entry.name for entry in scores.measures}
    assert {"similarity", "copying"} <= names
    assert not {"diversity", "clip_text"} & names
    assert any("prompts and diversity are not measured" in note for note in scores.notes)


def test_what_could_not_be_compared_is_said(tiny_clip: Path, tmp_path: Path):
    write(tmp_path / "train", crops(8, 1))
    (tmp_path / "train" / "portrait.psd").write_bytes(b"")
    train, encoder = read_folder(tmp_path / "train"), load_encoder(str(tiny_clip))
    notes = " ".join(score_folders(train, in_memory(crops(6, 5)), None, encoder).notes)
    assert "0 of 6 samples have their prompt" in notes
    assert "1 .psd files, which are not read: save them as PNG or JPEG (portrait.psd)" in notes
    base = ImageFolder(Path("base"), ("other.png",) * 6, tuple(crops(6, 2, OTHERS)), ("",) * 6)
    notes = " ".join(score_folders(train, in_memory(crops(6, 5), ("a toy",) * 6), base, encoder).notes)
    assert "prompts not compared" in notes


def test_burnt_samples_are_burnt_and_no_encoder_is_needed_to_see_it(folders, tmp_path: Path):
    found = score(folders, "burnt", tmp_path, "--encoder", "none")
    assert found["measures"]["burn"]["units"] > 4
    assert found["measures"]["burn"]["says"] in {more for _, more in BURNS}
    assert found["measures"]["layout_copying"]["units"] < 2
    assert "fidelity" not in found["measures"]
    assert any("no encoder" in note for note in found["notes"])


def test_json_goes_to_standard_output_alone(folders, capsys):
    code = main(
        ["--train", str(folders["train"]), "--samples", str(folders["fresh"]), "--encoder", "none", "--json", "-"]
    )
    assert code == 0
    assert "no --base folder" in " ".join(json.loads(capsys.readouterr().out)["notes"])


def test_wrong_input_is_one_line_and_exit_code_2(folders, tmp_path: Path, capsys):
    empty, broken, few = tmp_path / "empty", tmp_path / "broken", write(tmp_path / "few", crops(2, 0))
    empty.mkdir()
    write(broken, crops(3, 0))
    (broken / "01.png").write_bytes(b"not a png")
    train, fresh = str(folders["train"]), str(folders["fresh"])
    cases = {
        ("--train", train): "expected --train and --samples",
        ("--train", "/nowhere", "--samples", fresh): "/nowhere: no such folder",
        ("--train", train, "--samples", str(empty)): "no images here",
        ("--train", train, "--samples", str(broken)): "01.png",
        ("--train", train, "--samples", str(few), "--encoder", "none"): "2 samples, at least 3",
        ("--train", train, "--samples", fresh, "--encoder", "ViT-B-33/openai"): "did you mean ViT-B-32?",
        ("--train", train, "--samples", fresh, "--encoder", str(empty)): "a folder with open_clip_config.json",
        ("--train", train, "--trajectory", "losses.csv"): "--train and --samples, or --trajectory, got",
        (
            "--train",
            train,
            "--samples",
            fresh,
            "--device",
            "gpu9",
        ): "--device: expected a device that",
        ("--train", train, "--samples", fresh, "--device", "meta"): "--device: expected a device that",
        ("--train", train, "--samples", fresh, "--device", ""): "--device: expected a device, such as cpu",
        ("--train", train, "--samples", fresh, "--encoder", ""): "--encoder: expected an encoder, or none",
        ("--train", train, "--samples", fresh, "--cache", str(broken / "01.png")): "--cache: expected a folder that",
        ("--train", train, "--samples", fresh, "--cache", str(broken / "01.png" / "x")): "01.png is not a folder that",
        ("--train", train, "--samples", fresh, "--picture", "drift.xyz"): "a name that ends with .png, got",
        ("--trajectory", "losses.csv", "--picture", "onset.xyz"): "a name that ends with .png or .pdf or .svg",
        ("--train", train, "--samples", fresh, "--json", str(empty)): "--json: expected a file, got",
        ("--train", train, "--samples", fresh, "--json", str(broken / "01.png" / "x.json")): "not a folder that can be",
        ("--train", train, "--samples", train + "/10_sks toy"): "expected a folder apart from --train",
        ("--train", train, "--samples", fresh, "--base", str(few), "--encoder", "none"): "2 images of the base, at",
    }
    for arguments, words in cases.items():
        assert main(list(arguments)) == 2, arguments
        captured = capsys.readouterr()
        assert words in captured.err
        assert captured.err.count("\n") == 1


def test_a_name_that_cannot_be_fetched_says_how_to_do_without(folders, capsys):
    # the tests run with the hub offline, so nothing can be downloaded
    code = main(["--train", str(folders["train"]), "--samples", str(folders["fresh"])])
    assert code == 2
    said = capsys.readouterr().err
    assert "or from a local folder" in said
    assert "; --encoder none judges colours, layouts and copies without one" in said


def test_a_failure_while_working_is_exit_code_1(folders, capsys):
    arguments = ["--train", folders["train"], "--samples", folders["fresh"], "--encoder", "none"]
    code = main([str(argument) for argument in (*arguments, "--json", "/proc/scores.json")])  # no disk is there
    assert code == 1
    assert "error: /proc/scores.json: " in capsys.readouterr().err


def test_photos_are_read_as_a_camera_and_an_editor_leave_them(tmp_path: Path):
    image = crops(1, 0)[0]
    image[:20] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° clockwise to show it upright
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    clear = np.dstack([image, np.zeros((64, 64), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "b.png")
    Image.fromarray(image).convert("CMYK").save(tmp_path / "c.jpg")
    Image.fromarray(image[..., 0].astype(np.uint16) << 8).save(tmp_path / "d.png")
    Image.fromarray(np.zeros((3000, 1500, 3), np.uint8)).save(tmp_path / "e.jpg")
    (tmp_path / "a.txt").write_text("a toy\n")
    read = read_folder(tmp_path)
    assert read.names == ("a.png", "b.png", "c.jpg", "d.png", "e.jpg")
    assert read.captions[0] == "a toy"
    assert (read.images[0][:, -20:] == (255, 0, 0)).all()
    assert (read.images[1] == 255).all()
    assert np.abs(read.images[2].astype(int) - image).mean() < 12
    np.testing.assert_array_equal(read.images[3][..., 0], image[..., 0])
    assert max(read.images[4].shape) == 768


def test_help_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", NOTHING_HEAVY], capture_output=True, text=True, check=True)
    assert "example:\n  python -m metrics.run" in done.stdout
    assert "heavy: []" in done.stdout
