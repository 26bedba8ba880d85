"""The hold-out split: spread over the set, no twin on the other side, the same for the same seed."""

import numpy as np
import pytest

from search.study.split import Split, families_of, given_split, in_contexts, split, with_twins


def clusters(*sizes: int, seed: int = 0) -> np.ndarray:
    """Unit features in well separated groups."""
    rng = np.random.default_rng(seed)
    centres = np.eye(8)[: len(sizes)]
    rows = [centre + rng.normal(0, 0.2, 8) for centre, size in zip(centres, sizes, strict=True) for _ in range(size)]
    features = np.array(rows)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_every_photo_is_on_one_side() -> None:
    found = split(clusters(6, 6, 6), 3, seed=1)
    trained, heldout = found.trained, found.heldout
    assert len(heldout) == 3
    assert sorted(trained + heldout) == list(range(18))


def test_each_kind_of_photo_is_held_out_once() -> None:
    heldout = split(clusters(6, 6, 6), 3, seed=1).heldout
    assert sorted(index // 6 for index in heldout) == [0, 1, 2]


def test_the_seed_decides() -> None:
    features = clusters(8, 8, 8)
    assert split(features, 3, seed=1) == split(features, 3, seed=1)
    assert len({tuple(split(features, 3, seed=s).heldout) for s in range(12)}) > 4


def test_a_photo_with_a_near_duplicate_is_not_held_out() -> None:
    features = clusters(5, 5)
    features = np.concatenate([features, features[[0, 1, 2, 5, 6]] + 1e-4])  # twins of five of them
    for seed in range(20):
        heldout = split(features, 2, seed=seed).heldout
        assert len(heldout) == 2
        assert set(heldout) <= {3, 4, 7, 8, 9}


def test_a_photo_like_no_other_stays_in_training() -> None:
    for seed in range(20):
        heldout = split(clusters(1, 8, 8), 3, seed=seed).heldout
        assert len(heldout) == 3
        assert 0 not in heldout


def test_nothing_held_out() -> None:
    assert split(clusters(3, 3), 0, seed=0) == Split([0, 1, 2, 3, 4, 5], [])


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
    found = split(features, 3, seed=1, apart=apart)
    trained, heldout = found.trained, found.heldout
    assert len(heldout) == 3
    assert sorted(trained + heldout) == [row for row in range(18) if row not in apart]
    rest = np.delete(features, apart, axis=0)
    kept = [row for row in range(18) if row not in apart]
    assert heldout == [kept[row] for row in split(rest, 3, seed=1).heldout]


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
        heldout = split(np.concatenate([images, captions], axis=1), 5, seed, seen=images).heldout
        assert len(heldout) == 5
        assert not {3, 16} & set(heldout)


def pairs(*families: tuple[int, ...], count: int) -> np.ndarray:
    """`[count, count]`: the rows of a family repeat each other."""
    copies = np.zeros((count, count), bool)
    for family in families:
        copies[np.ix_(family, family)] = True
    np.fill_diagonal(copies, False)
    return copies


def test_known_copies_are_held_out_together_where_every_photo_has_one() -> None:
    features = np.random.default_rng(0).normal(size=(12, 8))
    copies = pairs(*((row, row + 6) for row in range(6)), count=12)
    for seed in range(20):
        found = split(features, 2, seed=seed, copies=copies)
        assert len(found.heldout) == len(found.repeats) == 2
        assert sorted(row % 6 for row in found.heldout) == sorted(row % 6 for row in found.repeats)
        assert sorted([*found.trained, *found.heldout, *found.repeats]) == list(range(12))
        assert found.note is not None
        assert found.note.startswith("the 12 photos are 6 different ones")


def test_small_families_are_held_out_first_and_fewer_where_there_are_few() -> None:
    copies = pairs((0, 1, 2, 3, 4, 5), (6, 7), count=10)
    found = split(clusters(5, 5), 4, seed=1, copies=copies)
    assert found.heldout == [8, 9]  # four different photos: two are needed to train on
    assert found.repeats == []
    assert "2 are held out with their 0 copies, 2 fewer than score.holdout says" in (found.note or "")


def test_one_photo_again_and_again_is_not_held_out_and_this_is_said() -> None:
    found = split(clusters(3, 3), 2, seed=1, copies=pairs((0, 1, 2), (3, 4, 5), count=6))
    assert (found.trained, found.heldout) == ([0, 1, 2, 3, 4, 5], [])
    assert "the 6 photos are only 2 different ones" in (found.note or "")


def test_copies_keep_out_of_each_others_way_beside_a_context() -> None:
    copies = pairs((2, 9), (3, 8), count=12)
    features = clusters(6, 6)
    assert with_twins(features, [2], copies) == [2, 9]
    for seed in range(10):
        found = split(features, 3, seed=seed, apart=[2, 9], copies=copies)
        assert len(found.heldout) == 3
        assert not {3, 8} & set(found.heldout)
        assert found.note is None


def test_in_the_place_of_a_photo_like_no_other_one_of_the_largest_kind_is_held_out() -> None:
    for seed in range(20):
        heldout = split(clusters(1, 3, 9), 3, seed=seed).heldout
        assert sorted(np.searchsorted([1, 4], heldout, side="right").tolist()) == [1, 2, 2]


def test_families_are_joined_through_others() -> None:
    copies = pairs((0, 3), (3, 5), (1, 2), count=7)
    assert families_of(np.eye(7), copies) == [[0, 3, 5], [1, 2], [4], [6]]
    rows = np.concatenate([np.eye(6), np.eye(6)[[1]] + 1e-4])
    assert families_of(rows) == [[0], [1, 6], [2], [3], [4], [5]]
    assert families_of(np.eye(6)[:1]) == [[0]]


def test_photos_nearer_than_a_twentieth_of_the_usual_squared_distance_repeat_each_other() -> None:
    far = 10 * np.eye(8)[:7]  # squared distances of 200 between each two, and so their median with one more
    for squared, repeats in ((9.9, True), (10.1, False)):
        rows = np.concatenate([far, far[:1] + np.sqrt(squared) * np.eye(8)[7]])
        assert with_twins(rows, [0]) == ([0, 7] if repeats else [0])
        assert with_twins(100 * rows, [0]) == ([0, 7] if repeats else [0]), "in whatever units"


def test_the_split_of_a_finished_run_leaves_out_what_it_has_seen() -> None:
    seen = np.eye(9)
    copies = pairs((0, 6), (7, 8), count=9)  # 6 repeats a trained photo, 8 another held-out one
    found = given_split([5, 6, 7, 8], [5], seen, copies)
    assert found == Split([0, 1, 2, 3, 4], [7], [6, 8], found.note)
    assert (found.note or "").startswith("1 of 4 held-out photos repeat photos trained on")
    plain = given_split([5, 6], [], seen)
    assert plain == Split([0, 1, 2, 3, 4, 7, 8], [5, 6], [], None)
    assert given_split([5, 6], [5, 6], seen) == Split([0, 1, 2, 3, 4, 7, 8], [], [], None)


@pytest.mark.parametrize(
    ("asked", "held", "words"), [(2, 2, ""), (3, 3, ""), (4, 3, ", 1 fewer than score.holdout says")]
)
def test_fewer_are_held_out_where_two_different_photos_have_to_be_left(asked: int, held: int, words: str) -> None:
    copies = pairs(*((row, row + 5) for row in range(5)), count=10)  # five photos, each twice
    found = split(np.random.default_rng(0).normal(size=(10, 8)), asked, 1, copies=copies)
    assert len(found.heldout) == held
    assert (found.note or "").endswith(f"{held} are held out with their {held} copies{words}")
