"""What is said of samples, measure by measure: from features and prompts that are laid out by hand."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, t

from metrics.channels.diversity import vendi_score
from metrics.checkpoint.encoders import Encoder
from metrics.checkpoint.image_descriptors import Traits
from metrics.comparison import compare
from metrics.comparison.compare import judge, score_folders
from metrics.errors import MetricsError
from metrics.images.image_folder import ImageFolder
from metrics.trajectory.readings import Reading
from tests.metrics.photo_sets import OTHERS, boxes, burnt, crops, in_memory

SIZE = 24


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def towards(share: float, count: int, seed: int, spread: float = 0.12) -> np.ndarray:
    """Unit rows that lie by a share of the way from the base's direction to the photos'."""
    rows = spread * np.random.default_rng(seed).normal(size=(count, SIZE))
    rows[:, 0] += share
    rows[:, 1] += 1 - share
    rows[:, 2] += 1
    return unit(rows)


def traits(features: np.ndarray) -> Traits:
    nothing = np.zeros((len(features), 0))
    return Traits(nothing, np.zeros((len(features), 3)), *[nothing] * 5, features, features)


def encoder(texts: dict[str, np.ndarray] | None) -> Encoder:
    def of_texts(asked: Any) -> np.ndarray:
        assert texts is not None
        return np.stack([texts[text] for text in asked])

    return Encoder("own", "0", lambda images: np.zeros((len(images), SIZE)), None if texts is None else of_texts)


@pytest.mark.parametrize(
    ("units", "level"),
    [(2.0, "fine"), (2.01, "notable"), (4.0, "notable"), (4.01, "clear"), (-9.0, "fine"), (float("nan"), "fine")],
)
def test_a_measure_matters_from_two_and_from_four_units_on(units: float, level: str) -> None:
    found = compare._measure("name", "label", Reading(1.0, 0.5, 2.0), 0.25, units, "says")
    assert (found.name, found.label, found.value, found.low, found.high, found.expected, found.says) == (
        "name", "label", 1.0, 0.5, 2.0, 0.25, "says"
    )  # fmt: skip
    assert found.level == level
    assert compare._measure("n", "l", Reading(1, 1, 1), 0, units, "", level="notable").level == "notable"


@pytest.mark.parametrize(
    ("z", "words"),
    [(-9, "as the photos"), (2.0, "as the photos"), (2.1, "slightly off"), (4.0, "slightly off"), (4.1, "drifted")],
)
def test_a_drift_has_words(z: float, words: str) -> None:
    assert compare._drift_words(z) == words


@pytest.mark.parametrize("z", [-5.0, -1.0, 0.5, 2.0, 3.0])
@pytest.mark.parametrize("photos", [4, 20, 10**7])
def test_few_photos_make_a_reading_less_rare(z: float, photos: int) -> None:
    found = compare._in_units(z, photos)
    assert np.sign(found) == np.sign(z)
    assert norm.sf(abs(found)) == pytest.approx(t.sf(abs(z), photos - 1), rel=1e-6)
    worst = compare._in_units(z, photos, looked_at=10)
    assert norm.sf(abs(worst)) == pytest.approx(min(0.5, 10 * t.sf(abs(z), photos - 1)), rel=1e-6)


@pytest.mark.parametrize(
    ("share", "says", "level"),
    [
        (1.0, "learned", "fine"),
        (0.5, "partly there", "fine"),
        (-0.2, "not learned", "clear"),
        (1.8, "more alike than photos are", "notable"),
    ],
)
def test_fidelity_says_how_far_samples_went_from_the_base_to_the_photos(share: float, says: str, level: str) -> None:
    photos, base = traits(towards(1, 20, 1)), traits(towards(0, 20, 2))
    found = compare._similarity(traits(towards(share, 20, 3)), photos, base)
    assert [each.name for each in found] == ["fidelity", "subject", "similarity"]
    first = found[0]
    assert (first.says, first.level, first.expected) == (says, level, 1.0)
    assert first.low < first.value < first.high
    assert first.value == pytest.approx(share, abs=0.6)
    assert np.isnan(first.units)


def test_three_samples_of_which_two_are_the_base_s_cannot_be_told_from_it() -> None:
    photos, base = traits(towards(1, 4, 1, 0.5)), traits(towards(0, 4, 2, 0.5))
    seen = traits(np.concatenate([towards(-0.5, 2, 3, 0.1), towards(3, 1, 4, 0.1)]))
    found = compare._similarity(seen, photos, base)[0]
    assert found.low <= 0
    assert found.high >= 1
    assert found.says == "cannot be told from the base"


def test_without_a_base_there_is_no_fidelity_and_another_subject_is_told() -> None:
    photos = traits(towards(1, 20, 1))
    same, other = (compare._similarity(traits(towards(share, 8, 3)), photos, None) for share in (1, -2))
    assert [each.name for each in same] == ["subject", "similarity"]
    assert (same[0].says, same[0].level) == ("as the photos", "fine")
    assert (other[0].says, other[0].level) == ("this is not your subject", "clear")
    cosines = photos.identity @ photos.identity.T
    assert same[1].expected == pytest.approx((cosines.sum() - 20) / (20 * 19))
    assert same[1].value == pytest.approx((traits(towards(1, 8, 3)).identity @ photos.identity.T).mean())


def test_copying_counts_from_two_units_and_clear_copies_go_first() -> None:
    photos = towards(1, 20, 1)
    fresh, near, far = towards(1, 20, 3), unit(photos + 0.02), towards(0.2, 20, 4)
    words = {}
    for name, rows in (("fresh", fresh), ("near", near), ("far", far)):
        found = compare._copying("copying", "copying", rows, photos, copies=0)
        words[name] = found.says
        assert found.units == pytest.approx((found.value - 0.5) / np.sqrt(41 / (12 * 400)))
        assert (found.label, found.expected) == ("copying, AUC", 0.5)
    assert words == {"fresh": "as the photos", "near": "nearer than photos are", "far": "farther than photos"}
    told = compare._copying("copying", "copying", fresh, photos, copies=3)
    assert (told.says, told.level, told.expected) == ("3 of 20 copied", "clear", 0.5)
    counted = compare._copying("copying", "copying", np.concatenate([photos[:2], fresh[2:]]), photos)
    assert counted.says == "2 of 20 copied"


@pytest.mark.parametrize(("spread", "says"), [(0.12, "as varied as the photos"), (0.001, "all alike")])
def test_diversity_is_a_ratio_to_groups_of_photos(spread: float, says: str) -> None:
    found = compare._diversity(traits(towards(1, 16, 3, spread)), traits(towards(1, 20, 1)))
    assert (found.name, found.expected, found.says) == ("diversity", 1.0, says)
    assert found.low <= found.value <= found.high
    assert (found.value > 0.5) is (spread > 0.1)


def test_diversity_is_that_of_sixty_groups_of_half_the_smaller_set() -> None:
    """Two of four samples are one image: a pair of them shows that once in six, a group of three every second time."""
    photos, rows = traits(np.eye(SIZE)[:20]), np.eye(SIZE)[[0, 0, 1, 2]]
    found = compare._diversity(traits(rows), photos)
    assert found.value == pytest.approx(5 / 6, abs=0.1)
    assert 60 * found.value == pytest.approx(round(60 * found.value))
    assert (found.low, found.high) == (pytest.approx(0), pytest.approx(1))
    third = compare._diversity(traits(np.repeat(np.eye(SIZE)[:4], 4, axis=0)), photos)
    assert third.says == "all alike"
    assert third.units == pytest.approx(-np.log(third.value) / 0.02)


def test_photos_that_all_differ_alike_know_diversity_to_two_hundredths() -> None:
    photos = traits(np.eye(SIZE)[:20])
    same = compare._diversity(photos, photos)
    assert (same.value, same.units) == (pytest.approx(1), pytest.approx(0, abs=1e-6))
    one = compare._diversity(traits(np.repeat(np.eye(SIZE)[:1], 20, axis=0)), photos)
    assert one.units == pytest.approx(np.log(1e6) / 0.02, rel=1e-3)


PROMPTS = {f"prompt {number}": np.eye(SIZE)[3 + number] for number in range(6)}


def obeying(prompts: list[str], share: float) -> np.ndarray:
    return unit(
        np.stack([np.eye(SIZE)[0] + share * PROMPTS[prompt] if prompt else np.eye(SIZE)[0] for prompt in prompts])
    )


def folder(prompts: list[str], name: str = "folder") -> ImageFolder:
    images = tuple(np.zeros((8, 8, 3), np.uint8) for _ in prompts)
    return ImageFolder(Path(name), tuple(f"{n:02}.png" for n in range(len(prompts))), images, tuple(prompts))


def test_prompts_are_held_against_images_and_against_the_base_s() -> None:
    prompts = [*PROMPTS, ""]
    known = encoder(PROMPTS)
    seen, base = traits(obeying(prompts, 0.5)), traits(obeying(prompts, 1.0))
    found = compare._prompts(folder(prompts), folder(prompts, "base"), seen, base, known)
    assert [each.name for each in found] == ["clip_text", "prompt_change"]
    assert found[0].value == pytest.approx(0.5 / np.sqrt(1.25))
    assert (found[0].says, found[0].level) == ("raw cosine", "fine")
    assert found[1].says == "prompts are obeyed less"
    assert found[1].units > 0
    change, level = 0.5 / np.sqrt(1.25) - 1 / np.sqrt(2), 1 / np.sqrt(2)  # a sixth of the base's cosines is `level`
    assert found[1].value == pytest.approx(change)
    assert found[1].units == pytest.approx(-change / (level * np.sqrt(5) / 6 / np.sqrt(6)))
    assert (found[1].expected, found[1].level) == (0.0, "notable")
    fewer = replace(folder(prompts, "base"), names=("00.png", "01.png", *(f"other{n}.png" for n in range(5))))
    assert [each.name for each in compare._prompts(folder(prompts), fewer, seen, base, known)] == ["clip_text"]
    better = compare._prompts(folder(prompts), folder(prompts, "base"), base, seen, known)[1]
    assert (better.says, better.units < 0) == ("prompts are obeyed", True)


@pytest.mark.parametrize(
    ("prompts", "texts", "names"),
    [
        (["prompt 0", "prompt 1", "prompt 2"], PROMPTS, ["clip_text", "prompt_change"]),
        (["prompt 0", "prompt 1", ""], PROMPTS, []),
        (["prompt 0", "prompt 1", "prompt 2"], None, []),
    ],
)
def test_three_prompts_and_an_encoder_of_texts_are_needed(
    prompts: list[str], texts: dict[str, np.ndarray] | None, names: list[str]
) -> None:
    seen = traits(obeying(prompts, 0.5))
    found = compare._prompts(folder(prompts), folder(prompts, "base"), seen, seen, encoder(texts))
    assert [each.name for each in found] == names
    assert compare._prompts(folder(prompts), None, seen, None, None) == []
    alone = compare._prompts(folder(prompts), None, seen, None, encoder(texts))
    assert [each.name for each in alone] == names[:1]


NO_ENCODER = "no encoder: fidelity, prompts and diversity are not measured, copying is judged by layout"
NO_BASE = "no --base folder: fidelity is not measured, and burn is judged against the photos alone"


@pytest.mark.parametrize(
    ("base", "texts", "measured", "expected"),
    [
        ("base", True, {"copying", "clip_text", "prompt_change"}, []),
        (None, True, {"copying", "clip_text"}, [NO_BASE]),
        ("base", False, set(), [NO_ENCODER]),
        ("base", None, {"copying"}, ["no --encoder: prompts and diversity are not measured"]),
        ("base", True, {"copying"}, ["only 2 of 3 samples have their prompt beside or inside them"]),
        ("base", False, {"copying"}, []),
        ("base", True, {"copying", "clip_text"}, ["fewer than 3 samples with a prompt have an image of the same name"]),
        (
            "samples",
            True,
            {"copying", "clip_text", "prompt_change"},
            ["the 3 images of epoch 0 there count as the base's"],
        ),
    ],
)
def test_what_was_not_measured_is_told(
    base: str | None, texts: bool | None, measured: set[str], expected: list[str]
) -> None:
    samples, train = folder(["prompt 0", "prompt 1", ""], "samples"), folder([""] * 4, "photos")
    known = None if texts is None or expected == [NO_ENCODER] else encoder(PROMPTS if texts else None)
    found = compare._notes(train, samples, None if base is None else folder([""] * 3, base), measured, known)
    assert len(found) == len(expected)
    assert all(note.startswith(start) for note, start in zip(found, expected, strict=True))


def test_notes_of_folders_come_last() -> None:
    parts = [replace(folder([""] * 3, name), notes=(f"of {name}",)) for name in ("photos", "samples", "base")]
    found = compare._notes(parts[0], parts[1], parts[2], {"copying", "clip_text", "prompt_change"}, encoder(PROMPTS))
    assert found == ("of photos", "of samples", "of base")


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ((3, 3, 3), "photos: 3 training photos, at least 4"),
        ((4, 2, 3), "samples: 2 samples, at least 3"),
        ((4, 3, 2), "base: 2 images of the base, at least 3"),
    ],
)
def test_too_few_images_are_refused(counts: tuple[int, int, int], line: str) -> None:
    parts = [folder([""] * count, name) for count, name in zip(counts, ("photos", "samples", "base"), strict=True)]
    with pytest.raises(MetricsError, match=line):
        score_folders(*parts, None)


def test_photos_that_are_mostly_repeats_are_refused() -> None:
    photos = np.repeat(crops(3, 1), 2, axis=0)
    with pytest.raises(MetricsError, match="3 photos and 3 repeats of them, at least 4 are needed"):
        score_folders(in_memory(photos), in_memory(crops(4, 2)), None, None)


def test_without_a_network_colours_layout_and_framing_are_judged() -> None:
    photos, samples = in_memory(crops(20, 1)), in_memory(crops(8, 5))
    found = score_folders(photos, samples, in_memory(crops(8, 2, OTHERS)), None)
    names = [each.name for each in found.measures]
    assert names == ["colour", "burn", "scatter", "composition", "layout_copying", "framing"]
    assert [each.expected for each in found.measures] == [0, 0, 1, 0, 0.5, 0], "what photos of the set would read"
    assert NO_ENCODER in found.notes
    assert len(found.pairs) == 8
    changed = score_folders(photos, in_memory(burnt(crops(8, 5))), None, None)
    burn = next(each for each in changed.measures if each.name == "burn")
    assert burn.says == "clipped pixels"
    assert burn.level == "clear"
    plain = found.as_json()
    assert list(plain["measures"]) == names
    assert all("name" not in each for each in plain["measures"].values())
    assert plain["copied"] == {photo: list(taken) for photo, taken in found.copied.items()}
    assert plain["nearest"][0]["sample"] == found.pairs[0].sample


def by_colours(images: Any) -> np.ndarray:
    """Unit rows of an encoder that sees the colours of the left half and of the right one, and nothing else."""
    halves = [np.concatenate([image[:, :32].mean(axis=(0, 1)), image[:, 32:].mean(axis=(0, 1))]) for image in images]
    return unit(np.stack(halves) - 128)


def test_an_encoder_says_which_photo_is_nearest_and_its_identity_encoder_has_the_last_word() -> None:
    photos, samples = crops(12, 1), crops(6, 5).copy()
    samples[2] = np.roll(photos[7][:, ::-1], 2, axis=0)  # mirrored, and not the same picture
    colours = Encoder("own", "0", by_colours, None)
    blind = Encoder("own", "1", lambda images: unit(np.ones((len(images), 3))), None)
    for given in ((colours, None), (blind, colours), (None, colours)):
        found = score_folders(in_memory(photos), in_memory(samples), None, *given)
        cosines, rows = by_colours(samples) @ by_colours(photos).T, [int(p.sample[:2]) for p in found.pairs]
        best = [cosines[row].max() if not pair.mirrored else None for row, pair in zip(rows, found.pairs, strict=True)]
        assert [pair.similarity for pair in found.pairs if not pair.mirrored] == pytest.approx(
            [value for value in best if value is not None]
        )
        assert (found.pairs[0].sample, found.pairs[0].photo) == ("02.png", "07.png")
        assert (found.pairs[0].copied, found.pairs[0].mirrored) == (True, True)
        names = {each.name for each in found.measures}
        assert {"subject", "similarity", "copying"} <= names
        assert ("diversity" in names) is (given[0] is not None)
        assert any(note.startswith("no --encoder") for note in found.notes) is (given[0] is None)


def test_the_null_of_scatter_narrows_with_samples_and_has_an_end() -> None:
    means = np.random.default_rng(0).normal(0, 20, (10, 3))
    few, many = (compare._scatter_null(means, count) for count in (5, 40))
    assert few / many == pytest.approx(np.sqrt((1 / 5 + 1 / 10) / (1 / 40 + 1 / 10)))
    assert compare._scatter_null(means, 10) == pytest.approx(few * np.sqrt(0.2 / 0.3))
    four = np.array([[0.0], [1], [10], [11]])  # of the three ways to halve them one is uneven: 60.5 against 40.5
    spread = np.log(60.5 / 40.5) / np.sqrt(3)
    assert compare._scatter_null(four, 4) == pytest.approx(spread / np.sqrt(2), rel=0.1)
    assert compare._scatter_null(np.eye(3).repeat(10, axis=0) + 5, 10**9) == 0.05


def test_numbers_that_are_none_are_plain_nothing() -> None:
    assert [compare._plain(value) for value in (1.5, float("nan"), float("inf"), "x", 3)] == [1.5, None, None, "x", 3]


@pytest.mark.parametrize(("middle", "says"), [(0.5, "as the photos"), (0.75, "farther right"), (0.25, "farther left")])
def test_a_subject_that_stands_elsewhere_is_told_where(middle: float, says: str) -> None:
    from metrics.checkpoint.image_descriptors import measure

    photos, seen = measure(boxes(20, 1, 0.5), None), measure(boxes(16, 2, middle), None)
    assert judge(seen, photos)[-1].says == says


@pytest.mark.parametrize(
    ("factor", "says"), [(1.0, "as the photos"), (4.0, "images too unlike"), (0.01, "colours all alike")]
)
def test_scatter_of_colours_is_a_ratio(factor: float, says: str) -> None:
    from metrics.checkpoint.image_descriptors import measure

    photos = measure(crops(20, 1), None)
    middle = photos.colour_means.mean(axis=0)
    seen = replace(photos, colour_means=middle + factor * (photos.colour_means - middle))
    found = next(each for each in judge(seen, photos) if each.name == "scatter")
    assert found.says == says
    assert found.level == ("fine" if factor == 1 else "clear" if factor > 1 and found.units > 4 else "notable")


def test_samples_that_are_all_one_read_the_same_one_by_one() -> None:
    """An interval is that of the samples, whatever spread the photos have."""
    one = in_memory(np.repeat(crops(1, 5), 6, axis=0))
    encoder = Encoder("own", "0", by_colours, None)
    found = score_folders(in_memory(crops(12, 1)), one, in_memory(crops(6, 2, OTHERS)), encoder)
    alike = {each.name: each for each in found.measures}
    for name in ("similarity", "copying", "colour", "burn", "composition", "layout_copying", "framing"):
        measure = alike[name]
        assert measure.low == pytest.approx(measure.value) == measure.high, name


def test_features_of_photos_and_of_the_base_are_kept_and_those_of_samples_are_not(tmp_path: Path) -> None:
    encoder = Encoder("own", "0", by_colours, None, tmp_path)
    score_folders(in_memory(crops(5, 1)), in_memory(crops(4, 5)), in_memory(crops(3, 2, OTHERS)), encoder)
    assert len(list(tmp_path.rglob("*.npz"))) == 5 + 3


def test_diversity_is_judged_by_how_much_groups_of_photos_differ_twice_over() -> None:
    """Groups of three of six photos, of which two are nearly one: a ratio of two such groups has √2 of their spread."""
    photos = np.eye(SIZE)[:6].copy()
    photos[1] = unit(photos[:1] + 0.2 * photos[1:2])[0]
    groups = [vendi_score(photos[list(rows)]) - 1 for rows in combinations(range(6), 3)]
    found = compare._diversity(traits(np.eye(SIZE)[[0, 0, 1, 1, 2, 2]]), traits(photos))
    assert found.units == pytest.approx(-np.log(found.value) / (np.sqrt(2) * np.std(np.log(groups))), rel=0.15)
