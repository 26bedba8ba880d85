"""The hold-out split: spread over the set, no twin on the other side, the same for the same seed."""

import numpy as np

from search.split import in_contexts, split, with_twins


def clusters(*sizes: int, seed: int = 0) -> np.ndarray:
    """Unit features in well separated groups."""
    rng = np.random.default_rng(seed)
    centres = np.eye(8)[: len(sizes)]
    rows = [centre + rng.normal(0, 0.2, 8) for centre, size in zip(centres, sizes, strict=True) for _ in range(size)]
    features = np.array(rows)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_every_photo_is_on_one_side() -> None:
    trained, heldout = split(clusters(6, 6, 6), 3, seed=1)
    assert len(heldout) == 3
    assert sorted(trained + heldout) == list(range(18))


def test_each_kind_of_photo_is_held_out_once() -> None:
    _, heldout = split(clusters(6, 6, 6), 3, seed=1)
    assert sorted(index // 6 for index in heldout) == [0, 1, 2]


def test_the_seed_decides() -> None:
    features = clusters(8, 8, 8)
    assert split(features, 3, seed=1) == split(features, 3, seed=1)
    assert len({tuple(split(features, 3, seed=s)[1]) for s in range(12)}) > 4


def test_a_photo_with_a_near_duplicate_is_not_held_out() -> None:
    features = clusters(5, 5)
    features = np.concatenate([features, features[[0, 1, 2, 5, 6]] + 1e-4])  # twins of five of them
    for seed in range(20):
        _, heldout = split(features, 2, seed=seed)
        assert set(heldout) <= {3, 4, 7, 8, 9}


def test_a_photo_like_no_other_stays_in_training() -> None:
    for seed in range(20):
        _, heldout = split(clusters(1, 8, 8), 3, seed=seed)
        assert 0 not in heldout


def test_nothing_held_out() -> None:
    assert split(clusters(3, 3), 0, seed=0) == ([0, 1, 2, 3, 4, 5], [])


def test_a_context_is_named_by_words_of_the_captions() -> None:
    captions = [
        "sks dog, beach",
        "a dog at the Beach house",
        "sks dog, beachwear",
        "dog, in the kitchen (at night)",
        "",
    ]
    assert in_contexts(captions, ["beach"]) == [0, 1]
    assert in_contexts(captions, ["beach", " (at night)"]) == [0, 1, 3]
    assert in_contexts(captions, ["in the kitchen"]) == [3]
    assert in_contexts(captions, []) == []


def test_photos_held_out_with_their_context_are_on_neither_side() -> None:
    features = clusters(6, 6, 6)
    apart = [0, 2, 17]
    trained, heldout = split(features, 3, seed=1, apart=apart)
    assert len(heldout) == 3
    assert sorted(trained + heldout) == [row for row in range(18) if row not in apart]
    rest = np.delete(features, apart, axis=0)
    kept = [row for row in range(18) if row not in apart]
    assert heldout == [kept[row] for row in split(rest, 3, seed=1)[1]]


def test_a_photo_that_repeats_one_of_a_held_out_context_goes_with_it() -> None:
    features = clusters(5, 5)
    features = np.concatenate([features, features[[2]] + 1e-4])
    assert 10 in with_twins(features, [2])
    assert 10 not in with_twins(features, [7])
    assert with_twins(np.eye(6), [1, 4]) == [1, 4]


def test_one_photo_under_two_captions_is_still_one_photo():
    generator = np.random.default_rng(0)
    images, captions = generator.normal(size=(16, 8)), generator.normal(size=(17, 8))
    images = np.concatenate([images, images[[3]]])  # the last is a copy of the fourth, captioned otherwise
    for seed in range(20):
        _, heldout = split(np.concatenate([images, captions], axis=1), 5, seed, seen=images)
        assert not {3, 16} & set(heldout)
