"""What a probe's images were asked for, and what a calibration refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metrics.checkpoint.calibration import VERSION, Calibration, ProbeLabels, calibrate
from metrics.checkpoint.encoders import Encoder
from metrics.checkpoint.recognition import recognised
from metrics.checkpoint.score import read_checkpoint
from metrics.errors import MetricsError
from tests.messages import refusal
from tests.metrics.photo_sets import OTHERS, crops, probe_labels

LABELS = probe_labels()
TRAINED = [True] * 20 + [False] * 4


def labels(sets: str, prompts: str | None = None) -> ProbeLabels:
    """An image for each letter of the sets; equal letters of the prompts are one prompt."""
    asked = tuple(prompts or map(str, range(len(sets))))
    return ProbeLabels(asked, tuple(f"n{each}" for each in asked), tuple(sets), (-1,) * len(sets), (0,) * len(sets))


def test_images_of_one_prompt_have_one_number() -> None:
    assert labels("AABC", "xyxz").prompt_numbers.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("sets", "own"), [("AABCC", "yyynn"), ("ABCCC", "yyyyy"), ("AAA", "yyy"), ("CCC", "yyy"), ("BBBC", "yyyn")]
)
def test_images_of_captions_are_all_where_fewer_than_three_are(sets: str, own: str) -> None:
    assert labels(sets).from_set.tolist() == [each == "y" for each in own]


@pytest.mark.parametrize(
    ("sets", "prompts", "used"),
    [("AACC", "wxyz", "nnyy"), ("AACC", "wxyy", "yyyy"), ("AAAC", "wxyz", "yyyy"), ("CCCC", "wxyz", "yyyy")],
)
def test_obedience_is_judged_on_new_contexts_where_there_are_two(sets: str, prompts: str, used: str) -> None:
    assert labels(sets, prompts).contexts.tolist() == [each == "y" for each in used]


def test_labels_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(MetricsError, match="need one entry per image"):
        ProbeLabels(("a",), ("a", "b"), ("A",), (0,), (0,))
    with pytest.raises(MetricsError, match=refusal("probe labels: sets", "D", "A, B or C")):
        labels("AD")
    assert len(labels("ABC")) == 3


@pytest.fixture(scope="module")
def made() -> Calibration:
    return calibrate(crops(24, 1), TRAINED, crops(len(LABELS), 2, OTHERS), LABELS, None, weights={"copying": 0.5})


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"trained": [False] * 24}, "no photo is trained on"),
        ({"labels": replace(LABELS, photo=(*LABELS.photo[:-1], 24))}, "a label names photo 24 of 24"),
        ({"base_images": crops(3, 2)}, "24 photos with 24 flags, 3 base images with 24 labels"),
        ({"weights": {"coping": 1.0}}, "(did you mean copying?), got 'coping'"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], line: str) -> None:
    given: dict[str, Any] = {
        "photos": crops(24, 1), "trained": TRAINED, "base_images": crops(24, 2, OTHERS), "labels": LABELS,
        "encoder": None,
    }  # fmt: skip
    with pytest.raises(MetricsError) as caught:
        calibrate(**{**given, **changes})
    assert line in str(caught.value)
    last = replace(LABELS, photo=(*LABELS.photo[:-1], 23))
    assert calibrate(**{**given, "labels": last}).labels == last


def test_what_is_kept_and_repeats(made: Calibration) -> None:
    assert made.kept.tolist() == TRAINED
    assert not made.duplicates.any()
    repeated = crops(24, 1).copy()
    repeated[5] = repeated[2]
    again = calibrate(repeated, TRAINED, crops(len(LABELS), 2, OTHERS), LABELS, None)
    assert np.flatnonzero(again.duplicates).tolist() == [5]
    assert again.kept.sum() == 19
    mostly = np.repeat(crops(2, 1), 3, axis=0)  # too few would be left
    few = calibrate(mostly, [True] * 6, crops(3, 2, OTHERS), labels("AAA", "xyz"), None)
    assert few.kept.all()
    assert np.isfinite(few.layout_null)
    three = calibrate(crops(3, 1), [True] * 3, crops(3, 2, OTHERS), labels("AAA"), None)
    assert np.isnan([*three.colour_null, three.layout_null, three.framing_null]).all()


def test_a_calibration_is_read_as_it_was_saved(made: Calibration, tmp_path: Path) -> None:
    whole = replace(
        made, base_losses={"heldout": np.arange(6.0).reshape(1, 2, 3)}, shifted_photo=np.array([3, 1]), axis=np.ones(2),
        subject=np.arange(3.0), colour_null=(1.5, 2.5), layout_null=3.5, framing_null=4.5,
    )  # fmt: skip
    whole.save(tmp_path / "c.npz")
    again = Calibration.load(tmp_path / "c.npz", encoder=None)
    assert (again.labels, dict(again.weights)) == (whole.labels, {"copying": 0.5})
    assert (again.colour_null, again.layout_null, again.framing_null) == ((1.5, 2.5), 3.5, 4.5)
    assert again.base_losses.keys() == {"heldout"}
    for name in ("trained", "kept", "texts", "axis", "subject", "shifted_photo"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    np.testing.assert_array_equal(again.base_losses["heldout"], whole.base_losses["heldout"])
    for owner in ("photos", "base"):
        for name in ("colour_cdfs", "thumbnails", "burn", "layouts", "framings", "pixels", "features"):
            np.testing.assert_array_equal(getattr(getattr(again, owner), name), getattr(getattr(whole, owner), name))


def test_another_version_is_refused(made: Calibration, tmp_path: Path) -> None:
    made.save(tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as file:
        arrays = {name: file[name] for name in file.files}
    about = {**json.loads(str(arrays["about"])), "version": VERSION - 1}
    np.savez(tmp_path / "c.npz", **{**arrays, "about": np.array(json.dumps(about))})
    with pytest.raises(MetricsError, match="version") as caught:
        Calibration.load(tmp_path / "c.npz", encoder=None)
    assert str(VERSION) in str(caught.value)
    assert "make this calibration again" in str(caught.value)
    with pytest.raises(MetricsError, match="cannot be read"):
        Calibration.load(tmp_path / "none.npz", encoder=None)


def seeing(parts: int, cache: Path | None = None) -> Encoder:
    """An encoder of the mean colours of so many strips of an image, and of the lengths of texts."""

    def of_images(images: Any) -> np.ndarray:
        strips = [
            np.concatenate([strip.mean(axis=(0, 1)) for strip in np.array_split(image, parts)]) - 128
            for image in images
        ]
        return np.stack([strip / np.linalg.norm(strip) for strip in strips]).astype(np.float32)

    def of_texts(texts: Any) -> np.ndarray:
        return np.stack([np.eye(3 * parts, dtype=np.float32)[len(text) % 3] for text in texts])

    return Encoder(f"strips{parts}", f"strips{parts}", of_images, of_texts, cache)


def test_features_of_photos_and_of_the_base_are_kept_and_those_of_checkpoints_are_not(tmp_path: Path) -> None:
    encoder, few = replace(seeing(1, tmp_path), encode_texts=None), labels("AAAC")
    photos, base, other = crops(6, 1), crops(4, 2, OTHERS), crops(4, 3, OTHERS)

    def kept() -> int:
        return len(list(tmp_path.rglob("*.npz")))

    rule = calibrate(photos, [True] * 6, base, few, encoder)
    assert kept() == 10
    anew = rule.for_images(few, other)
    assert kept() == 14
    read_checkpoint(anew, epoch=1, effort=0.0, images=crops(4, 4))
    assert kept() == 14
    assert anew.base_losses == {}
    assert len(anew.shifted_photo) == 0
    np.testing.assert_array_equal(anew.base.features, encoder.images(other))
    np.testing.assert_array_equal(anew.photos.features, rule.photos.features)
    texts = calibrate(photos, [True] * 6, base, few, seeing(1)).for_images(labels("CCC"), base[:3]).texts
    np.testing.assert_array_equal(texts, seeing(1).texts(labels("CCC").neutral))


def test_moved_subjects_and_spoiled_ones_say_what_the_subject_is_to_the_encoder_of_identity() -> None:
    photos, base = crops(24, 1), crops(len(LABELS), 2, OTHERS)
    moved, spoiled = crops(16, 7), crops(16, 8, OTHERS)
    given: dict[str, Any] = {"shifted_photo": range(16), "shifted_images": moved, "spoiled_images": spoiled}
    for encoder, identity in ((seeing(1), seeing(4)), (None, seeing(4)), (seeing(4), None)):
        made = calibrate(photos, TRAINED, base, LABELS, encoder, identity_encoder=identity, **given)
        assert len(made.subject) == 13
        assert len(made.axis) == 12
        shows = [recognised(made.subject, seeing(4).images(images)).mean() for images in (moved, base)]
        assert shows[0] > shows[1] + 0.2
    for left in ({"shifted_images": None}, {"spoiled_images": None}):
        assert len(calibrate(photos, TRAINED, base, LABELS, seeing(1), **{**given, **left}).subject) == 0
    assert len(calibrate(photos, TRAINED, base, LABELS, None, **given).subject) == 0
    with pytest.raises(MetricsError, match="16 moved subjects, and photos of 15"):
        calibrate(photos, TRAINED, base, LABELS, seeing(1), **{**given, "shifted_photo": range(15)})
