"""A set with a fault of each kind planted, looked at with the demo's own CLIP."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import data_faults as faults
from metrics.checkpoint.encoders import Encoder, load_encoder
from search.errors import SearchError
from search.findings.before_training import CheckedPhotos, check_photos
from search.findings.page import write_page
from search.findings.photos import photos_of, write_captions
from search.findings.sentences import headline, told
from search.record.data_check import DataCheck, Finding, why_to_stop
from search.record.record import StudyFolder
from search.study.study import load_study
from studies.demo.photos import write_photos
from tests.metrics.photo_set.test_casts import filtered, shoot
from trainer.files import shown

CLIP = Path(__file__).parents[3] / "studies" / "demo" / "clip"
FLOW = CLIP.parents[1] / "flow"
WRONG, MISSING, BLURRED, DARK, SMALL, COPIED = 2, 5, 7, 11, 3, 9


def checked(photos: faults.PhotoSet) -> CheckedPhotos:
    return CheckedPhotos(
        files=tuple(f"1_x/{row:02d}.png" for row in range(len(photos.images))),
        images=tuple(faults.square(image, 64) for image in photos.images),
        sizes=tuple((image.shape[1], image.shape[0]) for image in photos.images),
        buckets=((64, 64),) * len(photos.images),
        captions=photos.captions,
        trigger=photos.trigger,
        class_word=photos.class_word,
    )


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(str(CLIP))


@pytest.fixture(scope="module")
def rendered() -> faults.PhotoSet:
    """The set before anything is planted in it."""
    return faults.rendered("mushroom", 1)


@pytest.fixture(scope="module")
def looked(rendered, encoder) -> tuple[CheckedPhotos, DataCheck]:
    photos = rendered
    photos = faults.with_wrong_tags(photos, [WRONG], 0)
    photos = faults.with_missing_tags(photos, [MISSING])
    photos = faults.with_images(photos, "", faults.blurred, [BLURRED])
    photos = faults.with_images(photos, "", faults.underexposed, [DARK])
    photos = faults.with_images(photos, "", faults.shrunk, [SMALL])
    photos = faults.with_copies(photos, faults.mirrored, [COPIED])
    photos = faults.with_tag_everywhere(photos, "toy photo")
    found = checked(faults.with_tag_once(photos, 0))
    return found, check_photos("planted", found, encoder)


def of(check: DataCheck, kind: str) -> list[Finding]:
    return [finding for finding in check.findings if finding.kind == kind]


def test_each_planted_fault_is_found_where_it_is(looked):
    _, check = looked
    found = {kind: [finding.photos for finding in of(check, kind)] for kind in ("blurred", "underexposed", "small")}
    assert found == {
        "blurred": [(f"1_x/{BLURRED:02d}.png",)],
        "underexposed": [(f"1_x/{DARK:02d}.png",)],
        "small": [(f"1_x/{SMALL:02d}.png",)],
    }
    assert (f"1_x/{COPIED:02d}.png", "1_x/24.png") in [finding.photos for finding in of(check, "repeated")]
    assert [finding.tag for finding in of(check, "tag_everywhere")] == ["toy photo"]
    assert [finding.tag for finding in of(check, "tag_once")] == ["shiny"]


def test_a_wrong_caption_is_corrected_and_a_missing_tag_added(looked, rendered):
    photos, check = looked
    right = rendered.captions
    for kind, row in (("wrong_tag", WRONG), ("missing_tag", MISSING)):
        (finding,) = [finding for finding in of(check, kind) if finding.photos == (photos.files[row],)]
        assert finding.shown in right[row].split(", ")
        assert sorted(finding.proposed[0].split(", ")) == sorted(right[row].split(", "))


def test_the_rest_of_the_captions_is_proposed_without_what_all_of_them_say(looked, rendered):
    photos, check = looked
    assert check.captions[photos.files[1]] == rendered.captions[1]


def test_what_should_change_stops_a_flow_and_is_read_back_as_it_was_written(looked, tmp_path):
    _, check = looked
    check.save(tmp_path)
    assert DataCheck.load(tmp_path) == check
    assert check.needs_changes
    assert why_to_stop(StudyFolder(tmp_path)) == tmp_path / "data_check.html"


def test_the_page_tells_each_finding_with_its_picture_and_escapes_what_files_are_called(looked, tmp_path):
    photos, check = looked
    files = {file: f"1_<b>x</b>/{file[4:]}" for file in photos.files}
    images = dict(zip(files.values(), photos.images, strict=True))
    captions = dict(zip(files.values(), (f"{c} <i>" for c in photos.captions), strict=True))
    renamed = [
        Finding(**{**vars(finding), "photos": tuple(files[photo] for photo in finding.photos)})
        for finding in check.findings
    ]
    page = write_page(
        tmp_path, DataCheck(**{**vars(check), "findings": tuple(renamed)}), images, captions, study_file="x.yaml"
    ).read_text(encoding="utf-8")
    assert headline(check) in page
    assert "<i>" not in page
    assert "data:image/webp" in page
    assert "http://" not in page
    for finding in check.findings:
        assert told(finding).why in page


def test_captions_are_written_elsewhere_and_over_nothing(looked, tmp_path):
    _, check = looked
    (tmp_path / "photos" / "1_x").mkdir(parents=True)
    written = write_captions(check, tmp_path / "photos", tmp_path / "better")
    assert (tmp_path / "better" / "1_x" / f"{WRONG:02d}.txt") in written
    assert not list((tmp_path / "photos" / "1_x").iterdir())
    with pytest.raises(SearchError, match="nothing is written over"):
        write_captions(check, tmp_path / "photos", tmp_path / "better")
    with pytest.raises(SearchError, match="apart from the photos"):
        write_captions(check, tmp_path / "photos", tmp_path / "photos" / "new")


def test_names_that_are_not_utf8_are_shown_with_escapes_and_their_captions_written_beside_them(looked, tmp_path):
    _, check = looked
    name = os.fsdecode(b"1_x/\x8e\xca.png")
    (tmp_path / "photos" / "1_x").mkdir(parents=True)
    (tmp_path / "photos" / name).write_bytes(b"")
    proposed = Finding("wrong_caption", "retag", (shown(name),), proposed=("zor toy, snow",))
    renamed = replace(check, findings=(proposed,))
    (written,) = write_captions(renamed, tmp_path / "photos", tmp_path / "better")
    assert written == tmp_path / "better" / Path(name).with_suffix(".txt")


def test_photos_of_a_study_are_called_by_names_that_can_be_written(tmp_path, write_study):
    photos = write_photos(tmp_path / "set", count=5)
    first = min(photos.glob("*.png"))
    for file in (first, first.with_suffix(".txt")):
        file.rename(file.with_name(os.fsdecode(b"\x8e\xca") + file.suffix))
    files = photos_of(load_study(write_study(data=str(photos.parent)))).files
    assert any(r"\x8e\xca.png" in name for name in files)
    "".join(files).encode()


def test_without_texts_and_tags_the_images_are_looked_at_and_the_rest_is_said(looked, encoder):
    photos, few = looked[0], slice(2, 10)  # among them the blurred one
    some = {name: getattr(photos, name)[few] for name in ("files", "images", "sizes", "buckets")}
    sentences = CheckedPhotos(**some, captions=("a photo of zor toy",) * 8, trigger="zor", class_word="toy")
    blind = type(encoder)(encoder.spec, encoder.digest, encoder.encode_images, None)
    check = check_photos("blind", sentences, blind)
    assert len(check.unlooked) == 2
    assert of(check, "blurred")
    assert not of(check, "wrong_tag")
    assert check.rank is None


def test_a_cast_over_one_photo_is_told_unless_a_tag_of_its_own_may_say_why(encoder):
    images = shoot()
    images[3] = filtered(images[3], (1.35, 0.6, 1.2))
    sizes = ((64, 64),) * len(images)
    said = ["sks toy, a wall"] * len(images)
    for captions, expected in ((said, 1), ([*said[:3], "sks toy, a wall, magenta light", said[4]], 0)):
        files = tuple(f"{row}.png" for row in range(len(images)))
        photos = CheckedPhotos(files, tuple(images), sizes, sizes, tuple(captions), "sks", "toy")
        found = of(check_photos("cast", photos, encoder), "other_colours")
        assert [finding.photos for finding in found] == [("3.png",)] * expected


def test_a_clean_set_can_be_trained_on(encoder):
    check = check_photos("clean", checked(faults.rendered("mushroom", 0)), encoder)
    assert not check.needs_changes
    assert check.rank < 0.3 * check.chance
    assert 12 < check.different <= 24
    assert headline(check) == "These photos and captions can be trained on"
    assert np.isfinite(check.different)


@pytest.mark.slow
def test_the_flow_of_the_demo_is_not_stopped_by_its_photos(tmp_path):
    """A tag that all captions say is advice; nothing has to change."""
    study = load_study(FLOW / "1_data_check.yaml", runs=tmp_path)
    check = check_photos(study.name, photos_of(study), load_encoder(str(CLIP)))
    assert check.photos == 30
    assert [(finding.kind, finding.tag) for finding in check.findings] == [("tag_everywhere", "large")]
    assert not check.needs_changes
    assert headline(check) == "These photos and captions can be trained on"
