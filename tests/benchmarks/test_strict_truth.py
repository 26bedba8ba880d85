"""The strict truth of images of the demo world, on renders whose truth is known."""

import numpy as np
import pytest

from benchmarks import strict_truth
from benchmarks.strict_drawn import _sheet, read_sheet
from studies.demo.judges import load_judges
from studies.demo.scenes import concept_caption, find_concept, render_concept, render_list, same_again

CONCEPTS = ("robot", "chair", "orb")


@pytest.fixture(scope="module", params=CONCEPTS)
def shown(request):
    """Name, images in new contexts with the concept alone, their prompts, and their attributes."""
    images, _, attributes, _ = render_concept(request.param, "new", 24, seed=71)
    alone = [row for row, seen in enumerate(attributes) if not seen.other]
    concept = find_concept(request.param)
    prompts = [concept_caption(concept, attributes[row]) for row in alone]
    return request.param, images[alone], prompts, [attributes[row] for row in alone]


def seen_in(concept: str, images: np.ndarray, prompts: list[str]) -> dict[str, np.ndarray]:
    return strict_truth.judged(load_judges(), images, prompts, concept, find_concept(concept).set_places)


def test_renders_of_what_was_asked_for_are_right(shown) -> None:
    concept, images, prompts, _ = shown
    seen = seen_in(concept, images, prompts)
    assert strict_truth.right(seen, np.zeros(len(images), bool)).mean() > 0.95
    assert seen["leaked"].max() < 0.5
    assert not strict_truth.right(seen, np.ones(len(images), bool)).any()  # damaged images are not right


def test_one_wrong_attribute_makes_an_image_wrong(shown) -> None:
    concept, images, prompts, attributes = shown
    moved = [
        prompt.replace(seen.position, "left" if seen.position != "left" else "right")
        for prompt, seen in zip(prompts, attributes, strict=True)
    ]
    seen = seen_in(concept, images, moved)
    assert strict_truth.right(seen, np.zeros(len(images), bool)).mean() < 0.05
    assert (seen["asked"][:, 0] > 0.5).mean() > 0.9  # the place is as asked


def test_another_concept_is_not_right(shown) -> None:
    _, images, prompts, _ = shown
    assert strict_truth.right(seen_in("castle", images, prompts), np.zeros(len(images), bool)).mean() < 0.1


def test_a_place_of_the_set_leaks_where_another_is_asked_for() -> None:
    photos, captions, _, _ = render_concept("robot", "set", 8, seed=72)
    places = find_concept("robot").set_places
    elsewhere = [caption.replace(place, "sea") for caption in captions for place in places if place in caption]
    assert "sea" not in places
    assert (seen_in("robot", photos, elsewhere)["leaked"] > 0.5).mean() > 0.9
    assert seen_in("robot", photos, captions)["leaked"].max() == 0  # asked for: no leak


def test_noise_and_clipping_are_damage() -> None:
    images, _, _, _ = render_concept("robot", "new", 16, seed=73)
    clean = strict_truth.roughness(images)
    generator = np.random.default_rng(0)
    noisy = np.clip(images + generator.normal(0, 25, images.shape), 1, 254).astype(np.uint8)
    burnt = np.clip(images.astype(int) * 3 - 128, 0, 255).astype(np.uint8)
    assert strict_truth.damaged(strict_truth.roughness(noisy), clean).all()
    assert strict_truth.damaged(strict_truth.roughness(burnt), clean).mean() > 0.9
    assert strict_truth.damaged(clean, clean).mean() < 0.2


@pytest.mark.slow
def test_a_photo_that_comes_back_is_a_copy_and_its_like_is_none() -> None:
    photos, _, attributes, _ = render_concept("chair", "set", 6, seed=74)
    again = np.stack([render_list(same_again(seen, strict_truth.AGAIN, 75))[0] for seen in attributes])
    alike = np.stack([render_list(same_again(seen, 1, 76))[0][0] for seen in attributes])
    generator = np.random.default_rng(0)
    back = np.clip(photos + generator.normal(0, 8, photos.shape), 0, 255).astype(np.uint8)
    assert strict_truth.copied(strict_truth.distances(back, photos, again)).all()
    assert strict_truth.copied(strict_truth.distances(alike, photos, again)).mean() <= 0.5


def test_a_sheet_keeps_the_images_in_their_order() -> None:
    images, _, _, _ = render_concept("jar", "new", 36, seed=77)
    kept = read_sheet(np.frombuffer(_sheet(images), np.uint8))
    assert np.abs(kept.astype(int) - images).mean() < 6
