"""What each look at photos and captions says of planted ones: which photos, with which figures and captions."""

from collections.abc import Sequence
from math import nan
from types import SimpleNamespace

import numpy as np
import pytest

from metrics.captions.contradictions import Contradiction, Ranks
from metrics.photo_set.unlike import Unlikeness
from search.findings import before_training
from search.findings.before_training import (
    ENLARGED,
    CheckedPhotos,
    _captions,
    _exposure,
    _fits,
    _rank,
    _ranks,
    _repeats,
    _sharpness,
    _silent_tags,
    _small,
    _tag_finding,
    _unlike,
    _why_no_ranks,
    _with_captions,
    check_photos,
)
from search.record.data_check import Evidence, Finding

WORDS = ("red", "green", "blue", "day", "night", "toy")


def photos(
    captions: Sequence[str],
    images: Sequence[np.ndarray] | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
    buckets: Sequence[tuple[int, int]] | None = None,
) -> CheckedPhotos:
    count = len(captions)
    return CheckedPhotos(
        tuple(f"1_x/{row}.png" for row in range(count)),
        tuple(images or [np.zeros((4, 4, 3), np.uint8)] * count),
        tuple(sizes or [(64, 64)] * count),
        tuple(buckets or [(64, 64)] * count),
        tuple(captions),
        "sks",
        "toy",
    )


class Words:
    """An encoder whose features are the words of a text; an image's are those whose numbers are in its first row."""

    has_texts = True

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.array([[float(word in text.replace(",", " ").split()) for word in WORDS] for text in texts])
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)

    def images(self, images: Sequence[np.ndarray], *, cache: bool = True) -> np.ndarray:
        return self.texts([" ".join(WORDS[n - 1] for n in image[0, :, 0] if n) for image in images])


def showing(*words: str) -> np.ndarray:
    image = np.zeros((1, 4, 3), np.uint8)
    image[0, : len(words), 0] = [WORDS.index(word) + 1 for word in words]
    return image


def test_of_photos_that_are_one_the_largest_is_kept_and_of_those_the_first() -> None:
    sizes = [(10, 10), (40, 10), (20, 20), (30, 20), (5, 5)]
    (found,) = _repeats(photos([""] * 5, sizes=sizes), [(0, 1, 2, 3)])
    assert (found.kind, found.action) == ("repeated", "keep_one")
    assert found.photos == ("1_x/3.png", "1_x/1.png", "1_x/2.png", "1_x/0.png")
    assert found.evidence == (Evidence("photos that are one photo", 4.0),)


def test_a_photo_is_small_where_either_side_is_enlarged_by_more_than_a_tenth() -> None:
    sizes = [(100, 100), (90, 100), (100, 90), (91, 91), (200, 100)]
    found = list(_small(photos([""] * 5, sizes=sizes, buckets=[(100, 100)] * 5)))
    assert [(one.kind, one.action, one.photos) for one in found] == [
        ("small", "replace", ("1_x/1.png",)),
        ("small", "replace", ("1_x/2.png",)),
    ]
    assert found[0].evidence[0].name == "times that its 90×100 pixels are enlarged to 100×100"
    assert [one.evidence[0].value for one in found] == pytest.approx([100 / 90] * 2)
    exactly = photos([""], sizes=[(100, 100)], buckets=[(int(100 * ENLARGED), 100)])
    assert list(_small(exactly)) == []


def test_a_photo_whose_edges_are_wide_beside_the_others_is_blurred() -> None:
    rng = np.random.default_rng(0)
    coarse = [np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(7)]
    kernel = np.ones(13) / 13
    soft = np.apply_along_axis(np.convolve, 0, coarse[3].astype(float), kernel, "same")
    coarse[3] = np.apply_along_axis(np.convolve, 1, soft, kernel, "same").astype(np.uint8)
    flat = np.zeros((64, 64, 3), np.uint8)  # it has no edge, and so no width
    (found,) = _sharpness(photos([""] * 8, [*coarse, flat]))
    assert (found.kind, found.action, found.photos) == ("blurred", "replace", ("1_x/3.png",))
    (evidence,) = found.evidence
    assert evidence.usual is not None
    assert evidence.value > 1.5 * evidence.usual
    assert list(_sharpness(photos([""] * 3, [flat] * 3))) == [], "nothing has an edge"


def test_light_that_is_lost_and_light_that_is_not_there_are_told_apart() -> None:
    ramp = np.tile(np.linspace(30, 220, 64).astype(np.uint8)[None, :, None], (64, 1, 3))
    burnt, dark = np.full_like(ramp, 255), (ramp // 12).astype(np.uint8)
    found = list(_exposure(photos([""] * 8, [ramp, burnt, *[ramp] * 3, dark, ramp, ramp])))
    assert [(one.kind, one.photos) for one in found] == [
        ("overexposed", ("1_x/1.png",)),
        ("underexposed", ("1_x/5.png",)),
    ]
    (lost,), (highlights,) = (one.evidence for one in found)
    assert (lost.value, lost.usual) == (100.0, 0.0)
    assert highlights.usual is not None
    assert highlights.value < highlights.usual / 2


# --- captions


@pytest.mark.parametrize(("count", "ranked"), [(5, False), (6, True)])
def test_captions_are_ranked_from_six_different_ones_on(count: int, ranked: bool) -> None:
    said = ["red", "green", "blue", "day", "night", "red, night"][:count]
    images = [showing(*words.split(", ")) for words in (*said, said[0])]
    found = _ranks(photos([f"sks toy, {words}" for words in (*said, said[0])], images), Words())
    assert (found is not None) == ranked
    if found is not None:
        assert found.count == count
        assert found.ranks.tolist() == [1.0] * (count + 1)


def test_why_captions_were_not_ranked_is_said_with_the_numbers() -> None:
    assert "fewer than six" in _why_no_ranks(None)
    said = _why_no_ranks(Ranks(np.array([2.0, 5.0]), 6))
    assert "rank 3.5 of 6 in the mean, chance 3.5" in said


def test_a_rank_has_its_chance_beside_it() -> None:
    assert _rank(None, 0) == ()
    ranks = Ranks(np.array([1.0, 4.5]), 6)
    assert _rank(ranks, 1) == (Evidence("rank of its caption for its own image, of 6", 4.5, None, None, 3.5, "chance"),)


def test_how_well_images_fit_is_the_cosine_to_the_caption_with_each_tag() -> None:
    captions = ["sks toy, red", "sks toy, green", "sks toy"]
    set_of = photos(captions, [showing("toy", "red"), showing("blue"), showing("toy")])
    table = set_of.tags
    group = [table.tags.index(word) for word in ("green", "red")]
    features = Words().images(set_of.images)
    fits = _fits(set_of, table, group, features, Words())
    half = 0.5**0.5
    assert fits == pytest.approx(np.array([[0.5, 1.0], [0.0, 0.0], [half, half]]))


def placed() -> CheckedPhotos:
    """Eight by day or night, of which one caption is wrong and one says nothing of it."""
    shown = ["day", "day", "day", "day", "night", "night", "night", "night"]
    said = ["day", "day", "day", "night", "night", "night", "night", ""]
    captions = [f"sks toy, {word}" if word else "sks toy" for word in said]
    return photos(captions, [showing("toy", word) for word in shown])


def test_a_wrong_tag_and_one_that_is_missing_are_told_by_photo_with_what_it_shows() -> None:
    found = list(_captions(placed(), placed().tags, Words(), None))
    told = [(one.kind, one.action, one.photos, one.tag, one.shown) for one in found]
    assert told == [("wrong_tag", "retag", ("1_x/3.png",), "night", "day")], "too few images show what they say"
    right = photos(["sks toy, day", *placed().captions[1:3], "sks toy, day", *placed().captions[4:]], placed().images)
    (missing,) = _captions(right, right.tags, Words(), None)
    assert (missing.kind, missing.photos, missing.tag, missing.shown) == ("missing_tag", ("1_x/7.png",), "", "night")
    assert [one.name for one in missing.evidence] == [
        "share of the other captions with such a tag whose image shows it"
    ]
    assert missing.evidence[0].value == 1.0


def test_a_caption_no_better_than_chance_is_told_unless_its_tag_was() -> None:
    ranks = Ranks(np.array([1.0, 1.0, 1.0, 5.0, 1.0, 6.0, 1.0, 1.0]), 8)
    assert ranks.told
    found = list(_captions(placed(), placed().tags, Words(), ranks))
    assert [(one.kind, one.photos) for one in found] == [
        ("wrong_tag", ("1_x/3.png",)),
        ("wrong_caption", ("1_x/5.png",)),
    ]
    assert found[0].evidence[-1].value == 5.0
    assert found[1].evidence == _rank(ranks, 5)
    at_chance = Ranks(np.full(8, 4.5), 8)
    assert [one.kind for one in _captions(placed(), placed().tags, Words(), at_chance)] == ["wrong_tag"]


@pytest.mark.parametrize(
    ("kind", "each", "tag", "names", "values"),
    [
        ("wrong_tag", (3, 0, 1, 0.9, 0.7), "night", ["way from “night” (0) to “day” (1)", "the same"], [0.9, 0.7]),
        ("wrong_tag", (3, 1, 0, 0.9, nan), "day", ["way from “day” (0) to “night” (1)"], [0.9]),
        ("missing_tag", (3, -1, 1, 0.95, nan), "", ["share of the other captions"], [0.95]),
    ],
)
def test_a_tags_evidence_is_each_view_that_there_is(kind, each, tag: str, names, values) -> None:
    table = placed().tags
    group = [table.tags.index(word) for word in ("night", "day")]
    each = Contradiction(*each)
    found = _tag_finding(kind, placed(), table, group, each, None)
    assert (found.tag, found.shown, found.photos) == (tag, ["night", "day"][each.shown], ("1_x/3.png",))
    assert [one.value for one in found.evidence] == values
    assert all(one.name.startswith(name) for one, name in zip(found.evidence, names, strict=True))
    ranks = Ranks(np.array([1.0, 1.0, 1.0, 2.0]), 8)
    assert _tag_finding(kind, placed(), table, group, each, ranks).evidence == (*found.evidence, *_rank(ranks, 3))
    unsure = Ranks(np.full(4, 4.5), 8)
    assert _tag_finding(kind, placed(), table, group, each, unsure).evidence == found.evidence


def test_tags_that_say_nothing_are_those_of_all_captions_and_of_one() -> None:
    set_of = photos(
        ["sks toy, photo, red", "sks toy, photo, red, shiny", "sks toy, photo, blue", "sks toy, photo, blue"]
    )
    everywhere, once = _silent_tags(set_of, set_of.tags)
    assert (everywhere.kind, everywhere.action, everywhere.tag) == ("tag_everywhere", "reword", "photo")
    assert everywhere.photos == set_of.files
    assert everywhere.evidence == (Evidence("captions that say it", 4.0),)
    assert (once.kind, once.action, once.tag, once.photos) == ("tag_once", "know", "shiny", ("1_x/1.png",))
    assert once.evidence == (Evidence("captions that say it", 1.0, usual=4.0, usual_is="photos"),)


def test_a_photos_proposed_caption_has_all_that_is_proposed_for_it() -> None:
    set_of = photos(["sks toy, photo, day, red", "sks toy, photo, night", "sks toy, photo, day"])
    day, night = "1_x/0.png", "1_x/1.png"
    findings = [
        Finding("blurred", "replace", (day,)),
        Finding("wrong_tag", "retag", (day,), tag="day", shown="night"),
        Finding("wrong_caption", "retag", (night,)),
        Finding("tag_everywhere", "reword", set_of.files, tag="photo"),
        Finding("tag_once", "know", (day,), tag="red"),
    ]
    found = list(_with_captions(findings, set_of, set_of.tags))
    changed = "sks toy, night, red"
    assert [one.proposed for one in found] == [
        (),
        (changed,),
        (),
        (changed, "sks toy, night", "sks toy, day"),
        (),
    ]
    assert [one.kind for one in found] == [one.kind for one in findings]


# --- all of it together


def finding(kind: str, *files: str) -> Finding:
    actions = {"repeated": "keep_one"}
    return Finding(kind, actions.get(kind, "replace"), tuple(f"1_x/{file}.png" for file in files))


@pytest.mark.parametrize(("captions", "rank"), [(5, None), (6, 1.0)])
def test_one_fault_of_a_photo_hides_those_that_follow_from_it(
    monkeypatch: pytest.MonkeyPatch, captions: int, rank: float | None
) -> None:
    """A small photo seems blurred and dark, a blurred one unlike the others; a copy may well be another subject."""
    words = ["red", "green", "blue", "day", "night", "red, night"][:captions]
    set_of = photos([f"sks toy, {said}" for said in words], [showing(*said.split(", ")) for said in words])
    planted = {
        "_repeats": [finding("repeated", "2", "3")],
        "_small": [finding("small", "0")],
        "_sharpness": [finding("blurred", "0"), finding("blurred", "1")],
        "_exposure": [finding("overexposed", "0"), finding("underexposed", "4")],
        "_unlike": [
            finding("other_colours", "1"), finding("other_colours", "4"), finding("other_subject", "2"),
            finding("other_subject", "0"),
        ],
        "_captions": [],
        "_silent_tags": [],
    }  # fmt: skip
    for name, found in planted.items():
        monkeypatch.setattr(before_training, name, lambda *given, found=found: iter(found))
    check = check_photos("dog", set_of, Words(), dataset="digest")
    assert [(one.kind, [file[4:5] for file in one.photos]) for one in check.findings] == [
        ("other_subject", ["2"]), ("repeated", ["2", "3"]), ("blurred", ["1"]), ("underexposed", ["4"]),
        ("small", ["0"]),
    ]  # fmt: skip
    assert (check.study, check.dataset, check.photos, check.rank) == ("dog", "digest", captions, rank)
    assert check.chance == (None if rank is None else (captions + 1) / 2)
    assert ["fewer than six" in why for why in check.unlooked] == ([True] if rank is None else [])


def test_without_texts_or_tags_that_is_said_and_nothing_of_captions_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_repeats", "_sharpness", "_exposure", "_unlike"):
        monkeypatch.setattr(before_training, name, lambda *given: iter(()))
    blind = Words()
    blind.has_texts = False
    check = check_photos("dog", photos(["a photo of sks toy"] * 7), blind)
    assert (check.rank, check.chance, check.findings) == (None, None, ())
    assert [("knows no texts" in why, "sentences" in why) for why in check.unlooked] == [(True, False), (False, True)]


def test_what_is_unlike_the_others_is_told_by_what_makes_it_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photo 0: its subject. 1: its colours. 2: a cast. 3: a cast that its own tag may explain. 4: unlike all others.
    5: unlike all others by a filter alone."""
    set_of = photos([*["sks toy"] * 3, "sks toy, red", *["sks toy"] * 2], [showing("toy", "day")] * 6)
    rows = np.arange(6)
    numbers = {name: 10.0 * place + rows for place, name in enumerate(("features", "subject", "colours", "layout"))}
    apart = np.array([0.0, 0.1, 0.2, 0.3, 0.9, 0.8])
    found = Unlikeness(**numbers, apart=apart, alone=apart)
    seen = Words().images(set_of.images)
    plain_seen: list[np.ndarray] = []

    def aloof(features: np.ndarray, says: np.ndarray, unlike: float) -> tuple[np.ndarray, np.ndarray]:
        assert unlike == 0.25
        plain_seen.append(features)
        left = np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.0])  # by the filter alone
        return left, left

    def unlikeness(features: np.ndarray, subjects: np.ndarray, *given: object) -> Unlikeness:
        assert np.array_equal(features, seen)
        assert subjects.shape == seen.shape
        return found

    planted = {
        "unlikeness": unlikeness, "aloof": aloof, "unrelated": lambda encoder: 0.25,
        "other_subject": lambda found: rows == 0, "other_colours": lambda found: (rows == 1) | (rows == 0),
        "unrelated_photo": lambda apart, alone: apart > 0.5,
        "without_cast": lambda image, others: showing("night") if len(others) == 5 else image,
        "subject_cutouts": list, "measure": lambda images, encoder: SimpleNamespace(colour_cdfs=0, layouts=0),
        "casts": lambda images, says: SimpleNamespace(found=(rows == 2) | (rows == 3), least=100.0 + rows),
    }  # fmt: skip
    for name, stub in planted.items():
        monkeypatch.setattr(before_training, name, stub)
    told = list(_unlike(set_of, set_of.tags, seen, Words()))
    whole, cut, spreads = "the photo as a whole", "its subject, cut out", ": how far from the others, in spreads"
    assert [(one.kind, one.photos[0][4:5], [(e.name, e.value, e.usual) for e in one.evidence]) for one in told] == [
        ("other_subject", "0", [(whole + spreads, 0.0, 0.0), (cut + spreads, 10.0, 0.0)]),
        ("other_colours", "1", [("its colours" + spreads, 21.0, 0.0), (whole + spreads, 1.0, 0.0)]),
        ("other_colours", "2", [("how far all its colours lie to one side, in CIELAB units", 102.0, 0.0)]),
        ("other_subject", "4", [
            ("how far from all others (0: as they are from each other, 1: as from unrelated photos)", 0.9, 0.25),
            (whole + spreads, 4.0, 0.0), (cut + spreads, 14.0, 0.0),
        ]),
    ]  # fmt: skip
    assert [(one != seen).any(axis=1).tolist() for one in plain_seen] == [(rows == row).tolist() for row in (4, 5)]
    assert np.array_equal(seen, Words().images(set_of.images)), "nothing of it is written into"
