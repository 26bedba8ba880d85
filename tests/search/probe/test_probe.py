"""The probe of real sets: a style is not cut out, and a context that is held out is not trained on."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.checkpoint.encoders import load_encoder
from metrics.errors import MetricsError
from metrics.subjects.composites import make_composites
from search.probe.photo_masks import photo_masks
from search.probe.probe import open_probe, write_base_samples
from search.probe.prompts import composite_captions, neutral_caption
from search.record.added_prompts import AddedPrompts
from search.record.probe_description import ProbeDescription
from search.record.record import StudyFolder
from search.study.study import load_study
from studies.demo.photos import write_photos
from tests.metrics.photo_sets import pictures
from tests.search.conftest import StudyWriter
from trainer.base_model.load import load_base
from trainer.data.dataset import Photo, load_pixels, scan_dataset
from trainer.lora.lora import LoraWeights

DEMO = Path(__file__).parents[3] / "studies" / "demo"


def unlike_photos(folder: Path) -> Path:
    shelf = folder / "1_sks thing"
    shelf.mkdir(parents=True)
    for name, picture in pictures().items():
        side = min(picture.shape[:2])
        Image.fromarray(np.ascontiguousarray(picture[:side, :side])).resize((64, 64)).save(shelf / f"{name}.png")
        (shelf / f"{name}.txt").write_text(f"sks thing, {name}")
    return folder


@pytest.mark.parametrize("style", [True, False])
def test_a_style_is_not_cut_out_and_may_vary(write_study: StudyWriter, tmp_path, style):
    data = unlike_photos(tmp_path / "set") if style else write_photos(tmp_path / "set", count=8).parent
    score = {
        "encoder": str(DEMO / "clip"), "holdout": 2, "shifted": {"masks": "auto", "composites": 4},
        "probe": {"seeds": 2, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class}, snow"]},
        "losses": {"levels": 2, "draws": 1},
    }  # fmt: skip
    study = load_study(write_study(base=str(DEMO / "base"), data=str(data), score=score))
    base, encoder = load_base(DEMO / "base"), load_encoder(str(DEMO / "clip"))
    probe = open_probe(study, base, tmp_path / "cache", encoder, None)
    assert ("shifted" not in probe.losses) == style
    assert (probe.calibration.weights.get("consistency") == 0.0) == style
    assert ("recognised" in probe.base_readings.channels) == (not style)
    assert any("teaches a style" in notice for notice in probe.notices) == style


@pytest.mark.slow
def test_a_run_on_all_photos_is_not_asked_whether_trained_ones_come_back(write_study: StudyWriter, tmp_path):
    data = write_photos(tmp_path / "set", count=8).parent
    for number, text in enumerate(sorted(data.rglob("*.txt"))):  # a caption of its own for each
        text.write_text(f"{text.read_text().strip()}, {number}")
    score = {
        "encoder": str(DEMO / "clip"), "holdout": 3, "shifted": {"composites": 0},
        "probe": {"seeds": 1, "steps": 1, "trained": 3, "heldout": 3, "contexts": ["{trigger} {class}, snow"]},
        "losses": {"levels": 2, "draws": 1},
    }  # fmt: skip
    base, encoder = load_base(DEMO / "base"), load_encoder(str(DEMO / "clip"))
    study = load_study(write_study(base=str(DEMO / "base"), data=str(data), score=score))
    probe, none = open_probe(study, base, tmp_path / "cache", encoder, None), LoraWeights({}, base.family.name)
    alone, beside_twin = (probe.read(none, epoch=1, effort=1.0, twin=twin)[0] for twin in (None, none))
    assert alone.channels["own_photo"].value == pytest.approx(0, abs=0.02)
    assert alone.channels.keys() - beside_twin.channels.keys() == {"own_photo", "own_caption", "own_pull"}


def test_a_held_out_context_is_measured_and_not_trained_on(write_study: StudyWriter, tmp_path):
    count = 10
    data = write_photos(tmp_path / "set", count=count).parent
    first = min(data.rglob("*.png"))
    for file in (first, first.with_suffix(".txt")):  # as zips from Windows unpack: no UTF-8
        file.rename(file.with_name(os.fsdecode(b"\x8e\xca") + file.suffix))
    score = {
        "encoder": str(DEMO / "clip"), "holdout": 2, "holdout_contexts": ["studio"],
        "shifted": {"composites": 4},
        "probe": {"seeds": 1, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class}, snow"]},
        "losses": {"levels": 4, "draws": 1},
    }  # fmt: skip
    base, encoder = load_base(DEMO / "base"), load_encoder(str(DEMO / "clip"))
    path = write_study(base=str(DEMO / "base"), data=str(data), score=score)
    probe = open_probe(load_study(path), base, tmp_path / "cache", encoder, None)
    before = [photo.stem for photo in sorted(data.rglob("*.png"))]
    studios = [text.stem for text in data.rglob("*.txt") if "studio" in text.read_text()]
    trained = [photo.path.stem for photo in probe.trained.photos]
    assert 2 <= len(studios) <= count - 4
    assert not set(studios) & set(trained)
    assert len(trained) == count - len(studios) - 2
    assert set(probe.losses) == {"heldout", "context", "shifted"}
    assert probe.calibration.base_losses["context"].shape == (len(studios), 4, 1)
    about = json.loads((tmp_path / "cache" / "probe" / "probe.json").read_text())
    known = ProbeDescription.load(tmp_path / "cache" / "probe" / "probe.json")
    assert r"\x8e\xca.png" in (*known.trained, *known.heldout, *known.context)
    readings, _, _ = probe.read(LoraWeights({}, base.family.name), epoch=1, effort=1.0)
    assert readings.channels["context_loss"].value == pytest.approx(0, abs=1e-6)
    assert {"context_loss", "context_high"} <= set(readings.channels)
    again = open_probe(load_study(path), base, tmp_path / "cache", encoder, None)
    np.testing.assert_array_equal(again.losses["context"].losses(), probe.losses["context"].losses())

    for number, photo in enumerate(sorted(data.rglob("*.png"), reverse=True)):
        for called in (photo, photo.with_suffix(".txt")):
            called.rename(called.with_stem(f"renamed{number:02}"))
    renamed = open_probe(load_study(path), base, tmp_path / "cache", encoder, None)
    assert [photo.content for photo in renamed.trained.photos] == [photo.content for photo in probe.trained.photos]
    np.testing.assert_array_equal(renamed.losses["heldout"].losses(), probe.losses["heldout"].losses())
    for photo in sorted(data.rglob("*.png")):
        row = count - 1 - int(photo.stem.removeprefix("renamed"))
        for called in (photo, photo.with_suffix(".txt")):
            called.rename(called.with_stem(before[row]))

    file = tmp_path / "cache" / "probe" / "probe.json"
    file.write_text(json.dumps({name: value for name, value in about.items() if name != "calibration"}))
    (file.parent / "calibration.npz").write_bytes(b"of a former version")
    rebuilt = open_probe(load_study(path), base, tmp_path / "cache", encoder, None)
    assert json.loads(file.read_text()) == about
    assert rebuilt.base_readings.channels == probe.base_readings.channels


def test_a_probe_of_another_base_or_encoder_is_built_again_until_a_trial_was_measured(
    write_study: StudyWriter, tmp_path, tiny_sd15: Path, tiny_clip: Path
):
    data = write_photos(tmp_path / "set", count=6).parent
    folder, encoder = StudyFolder(tmp_path / "runs" / "small"), load_encoder(str(DEMO / "clip"))
    score = {
        "encoder": str(DEMO / "clip"), "holdout": 0, "shifted": {"composites": 0},
        "probe": {"seeds": 1, "steps": 1, "trained": 1, "heldout": 0, "contexts": ["{trigger} {class}, snow"]},
    }  # fmt: skip

    def images_of(path: Path) -> np.ndarray:
        study = load_study(write_study(base=str(path), data=str(data), score=score))
        return open_probe(study, load_base(path), folder.cache, encoder, None).base_images

    first = images_of(DEMO / "base")  # as a dry run leaves it
    other = images_of(tiny_sd15)
    assert not np.array_equal(other, first)
    shutil.copytree(DEMO / "base", tmp_path / "moved")
    np.testing.assert_array_equal(images_of(tmp_path / "moved"), first)

    def kept() -> int:
        return (folder.cache / "probe" / "base.png").stat().st_mtime_ns

    built = kept()
    images_of(DEMO / "base")
    assert kept() == built

    study = load_study(write_study(base=str(DEMO / "base"), data=str(data), score=score | {"encoder": str(tiny_clip)}))
    another = load_encoder(str(tiny_clip))
    probe = open_probe(study, load_base(DEMO / "base"), folder.cache, another, None)
    assert probe.calibration.encoder is another
    (folder.trial(0) / "checkpoints" / "0001").mkdir(parents=True)
    with pytest.raises(MetricsError, match="another encoder"):
        images_of(DEMO / "base")


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("sks dog between two desks, people in masks", "dog between two desks, people in masks"),
        ("sks, sitting; a sks   dog runs", "dog, sitting; a dog runs"),
        ("the desks", "the desks"),
    ],
)
def test_only_the_trigger_itself_gives_way_to_the_class_word(caption: str, expected: str):
    photo = Photo(Path("a.png"), caption, 1, "sks", "dog", False, "", 64, 64)
    assert neutral_caption(photo) == expected


def test_captions_of_moved_subjects_name_their_own_subject():
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.float32)
    mask[27:51, 22:42] = 1
    made = make_composites([image] * 2, [mask] * 2, np.zeros((1, 64, 64, 3), np.uint8), count=8, seed=1)
    photos = [Photo(Path("a.png"), "", 1, f"sk{i}", ("dog", "cat")[i], False, "", 64, 64) for i in range(2)]
    said = composite_captions("{trigger} {class}, {context}", [photos[i] for i in made.photo], made, ["snow"])
    assert said == [f"sk{i} {('dog', 'cat')[i]}, snow" for i in made.photo]


def test_masks_in_a_folder_are_cut_as_their_photos_are(write_study: StudyWriter, tmp_path):
    shelf = tmp_path / "set" / "1_sks toy"
    shelf.mkdir(parents=True)
    (tmp_path / "masks").mkdir()
    for index, (width, height) in enumerate([(96, 144), (144, 96), (100, 100), (64, 128)]):
        inside = np.zeros((height, width), bool)
        inside[height // 2 - 20 : height // 2 + 20, width // 2 - 12 : width // 2 + 12] = True
        Image.fromarray(np.where(inside[..., None], (255, 0, 0), (0, 90, 0)).astype(np.uint8)).save(
            shelf / f"{index}.png"
        )
        (shelf / f"{index}.txt").write_text("sks toy, meadow")
        Image.fromarray(inside).resize((2 * width, 2 * height)).save(tmp_path / "masks" / f"{index}.png")
    score = {"encoder": "clip", "holdout": 0, "shifted": {"masks": "masks"}}
    study = load_study(write_study(base=str(DEMO / "base"), data=str(shelf.parent), score=score))
    photos = list(scan_dataset(study.data).photos)
    config = study.config(next(study.space.combinations()))
    pixels = [load_pixels(photo, config.size) for photo in photos]
    found = photo_masks(study, photos, pixels, config, load_base(DEMO / "base"))
    assert found.sources == ("given",) * 4
    for mask, image in zip(found.masks, pixels, strict=True):
        red = image[..., 0] > 127
        assert ((mask > 0.5) & red).sum() > 0.97 * ((mask > 0.5) | red).sum()


@pytest.mark.parametrize(("side", "source"), [(64, "saliency"), (128, "attention")])
def test_the_base_is_asked_where_the_subject_is_when_it_looks_closely_enough(
    write_study: StudyWriter, tmp_path, side, source
):
    """The demo's base tells 8 places across apart at its own 64 pixels, and 16 at 128."""
    data = write_photos(tmp_path / "set", count=8).parent
    study = load_study(write_study(base=str(DEMO / "base"), data=str(data)))
    photos = list(scan_dataset(study.data).photos)
    config = study.config(next(study.space.combinations()))
    pixels = [load_pixels(photo, (side, side)) for photo in photos]
    assert photo_masks(study, photos, pixels, config, load_base(DEMO / "base")).sources == (source,) * 8


def test_captions_of_moved_subjects_say_how_large_they_truly_are():
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.float32)
    mask[27:51, 22:42] = 1
    image[..., 0] = 255 * mask
    made = make_composites([image], [mask], np.zeros((4, 64, 64, 3), np.uint8), count=60, seed=1)
    photo = Photo(Path("a.png"), "", 1, "sks", "toy", False, "", 64, 64)
    words = composite_captions("{size}", [photo] * 60, made, ["snow"] * 4)
    heights = (made.images[..., 0] > 127).any(axis=2).sum(axis=1)
    assert {"small", "large"} == set(words)
    plain = np.abs(heights / 24 - 0.85) > 0.05  # a pixel is a twentieth of it
    assert plain.sum() > 30
    assert [word == "small" for word in np.array(words)[plain]] == (heights[plain] / 24 < 0.85).tolist()


def test_added_prompts_are_drawn_beneath_the_others_and_not_scored(write_study: StudyWriter, tmp_path):
    data = write_photos(tmp_path / "set", count=8).parent
    score = {
        "encoder": str(DEMO / "clip"), "holdout": 2, "shifted": {"composites": 0},
        "probe": {"seeds": 2, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class}, snow"]},
        "losses": {"levels": 2, "draws": 1},
    }  # fmt: skip
    study = load_study(write_study(base=str(DEMO / "base"), data=str(data), score=score))
    base, encoder = load_base(DEMO / "base"), load_encoder(str(DEMO / "clip"))
    folder = StudyFolder(tmp_path / "run")
    plain = open_probe(study, base, folder.cache, encoder, None)
    built = (folder.cache / "probe" / "arrays.npz").stat().st_mtime_ns
    added = AddedPrompts().joined_by(["{trigger} {class}, lava"], study.subject)
    more = open_probe(replace(study, added=added), base, folder.cache, encoder, None)
    added.save(folder)
    assert (folder.cache / "probe" / "arrays.npz").stat().st_mtime_ns == built  # it is the same probe
    lora = LoraWeights({}, base.family.name)
    readings, images, _ = plain.read(lora, epoch=1, effort=1.0)
    again, with_more, _ = more.read(lora, epoch=1, effort=1.0)
    assert len(with_more) == len(images) + 2
    np.testing.assert_array_equal(with_more[: len(images)], images)
    assert again.score == readings.score
    assert again.channels == readings.channels
    write_base_samples(folder.samples_file(0, 0), more)
    shown = folder.samples(0, 0)
    assert len(shown) == len(folder.probe().prompts)
    np.testing.assert_array_equal(shown[-1], with_more[-2:])  # without a LoRA the base draws them so
    assert "lava" in folder.probe().prompts[-1]
    assert study.subject[0] in folder.probe().prompts[-1]
