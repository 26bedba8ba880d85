"""The renderer draws the same scenes for the same seed, and what captions say is what pictures show."""

from collections import Counter

import numpy as np
import pytest

from studies.demo import scenes
from studies.demo.concepts import ALL_CONCEPTS, CONCEPTS, OTHER_KINDS, UNJUDGED
from studies.demo.photos import COUNT, EACH, ELSEWHERE, FOLDER, write_photos
from studies.demo.scenes import Attributes, full_caption, render_concept, render_scenes

COLUMNS = {"left": (0, 28), "centre": (22, 42), "right": (36, 64)}


def test_a_seed_gives_the_same_pictures_captions_and_attributes() -> None:
    first, again, other = render_scenes(6, 3), render_scenes(6, 3), render_scenes(6, 4)
    assert np.array_equal(first[0], again[0])
    assert first[1:] == again[1:]
    assert not np.array_equal(first[0], other[0])


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    short, long = render_scenes(3, 5), render_scenes(6, 5)
    assert np.array_equal(short[0], long[0][:3])
    assert short[1] == long[1][:3]


def test_full_captions_say_every_attribute() -> None:
    a = Attributes("pair", "red cube", "red", "cube", "sea", "striped", "left", "small", "blue ball on the right")
    assert full_caption(a) == "red cube, small, on the left, blue ball on the right, sea, striped floor"


def test_captions_never_contradict_their_attributes() -> None:
    _, captions, attributes = render_scenes(60, 6)
    for text, a in zip(captions, attributes, strict=True):
        words = set(text.replace(",", " ").split())
        assert set(a.subject.split()) <= words
        allowed = {a.place, a.pattern, a.size} | set((a.other or "").split()) | set(a.subject.split())
        for vocabulary in (scenes.PLACES, scenes.PATTERNS, scenes.SIZES, scenes.COLOURS, scenes.SHAPES):
            assert words & set(vocabulary) <= allowed, text
        if a.other is None:
            said = words & {"left", "right", "centre", "center"}
            assert said <= {a.position, "center" if a.position == "centre" else a.position}


def test_the_subject_stands_where_the_caption_says_and_is_as_large() -> None:
    areas: dict[str, list[float]] = {"small": [], "large": []}
    images, _, attributes, masks = render_concept("robot", "new", 24, 7)
    for image, a, mask in zip(images, attributes, masks, strict=True):
        column = float(np.nonzero(mask)[1].mean())
        low, high = COLUMNS[a.position]
        assert low <= column <= high, (a, column)
        assert image[mask].std() > 10
        areas[a.size].append(mask.mean())
    assert max(areas["small"]) < min(areas["large"])


def test_masks_are_exactly_the_subject() -> None:
    scene = scenes.draw_concept("mushroom", "set", 1, 8)[0]
    image, mask = scenes.render_list([scene])
    parts, frames = scenes.tables([scene])
    parts[:, 15:21] = (0, 1, 0, 0, 1, 0)  # the same toy painted green
    green, _ = scenes.render(parts, frames, "cpu")
    changed = (green[0].numpy() != image[0]).any(2)
    assert changed[mask[0] == 1].mean() > 0.97
    away = ~np.pad(mask[0] == 1, 1)[:-2, 1:-1] & ~np.pad(mask[0] == 1, 1)[2:, 1:-1]
    away &= ~np.pad(mask[0] == 1, 1)[1:-1, :-2] & ~np.pad(mask[0] == 1, 1)[1:-1, 2:] & (mask[0] == 0)
    assert not changed[away].any()


@pytest.mark.parametrize("name", ALL_CONCEPTS)
def test_each_concept_is_seen_whole_and_large(name: str) -> None:
    _, captions, _, masks = render_concept(name, "set", 2, 1)
    assert all(text.startswith(f"{scenes.find_concept(name).trigger} toy, large, on the ") for text in captions)
    assert masks.mean((1, 2)).min() > 0.05


def test_new_contexts_are_not_the_sets_own() -> None:
    concept = CONCEPTS["duck"]
    known = {scene.attributes.place for scene in scenes.draw_concept("duck", "set", 60, 0)}
    new = {scene.attributes.place for scene in scenes.draw_concept("duck", "new", 60, 0)}
    assert known == set(concept.set_places)
    assert not known & new
    assert len(new) == len(scenes.PLACES) - 3


def test_concepts_are_many_and_their_triggers_differ() -> None:
    assert len(CONCEPTS) >= 14
    for more in (UNJUDGED, OTHER_KINDS):  # no trial uses two of the spare triggers' concepts
        triggers = {concept.trigger for concept in (CONCEPTS | more).values()}
        assert len(triggers) == len(CONCEPTS) + len(more)
        assert {concept.trigger for concept in more.values()} <= set(scenes.SPARE_TRIGGERS)
    assert len(ALL_CONCEPTS) == len(CONCEPTS) + len(UNJUDGED) + len(OTHER_KINDS)


def test_glass_shows_what_is_behind_and_a_mirror_what_is_around() -> None:
    def inside(name: str, place: str) -> np.ndarray:
        images, _, _, masks = render_concept(name, "set", 1, 3, places=(place,))
        return images[masks].astype(float).mean(axis=0)

    for name in ("jar", "orb"):
        assert np.abs(inside(name, "lava") - inside(name, "snow")).max() > 60
    assert np.abs(inside("chair", "lava") - inside("chair", "snow")).max() < 30  # paint, in warmer light


def test_the_same_again_differs_in_what_no_caption_says() -> None:
    asked = scenes.draw_concept("duck", "set", 1, 4)[0].attributes
    again = scenes.same_again(asked, 3, seed=0)
    assert [scene.attributes for scene in again] == [asked] * 3
    images, _ = scenes.render_list(again)
    assert len({image.tobytes() for image in images}) == 3


def test_unknown_concepts_and_contexts_are_named() -> None:
    with pytest.raises(ValueError, match="'piano' is not one of mushroom"):
        render_concept("piano")
    with pytest.raises(ValueError, match="'old' is not one of 'set', 'new'"):
        render_concept("duck", "old", 1)


@pytest.mark.slow
def test_the_shipped_photos_are_what_the_command_writes(tmp_path) -> None:
    from PIL import Image

    folder = write_photos(tmp_path, elsewhere=ELSEWHERE)
    shipped = FOLDER / folder.name
    assert len(list(shipped.glob("*.png"))) == COUNT + EACH * len(ELSEWHERE)
    places = Counter(text.read_text().split(", ")[3] for text in shipped.glob("*.txt"))
    assert {place: places[place] for place in ELSEWHERE} == dict.fromkeys(ELSEWHERE, EACH)
    for file in sorted(shipped.iterdir()):
        if file.suffix == ".txt":
            assert file.read_text() == (folder / file.name).read_text()
        else:
            here, there = (np.asarray(Image.open(path), dtype=int) for path in (file, folder / file.name))
            assert np.abs(here - there).mean() < 0.1  # rounding differs between processors
