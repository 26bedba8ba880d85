"""Fidelity, copying, diversity and obedience against independent implementations and on planted features."""

import numpy as np
import pytest

from metrics.channels.copying import copying, copying_null, own_caption_gap, own_photo_pull
from metrics.channels.diversity import diversity, photo_vendi_excess, vendi_score
from metrics.channels.obedience import context_margins, obedience, prompt_changes
from metrics.channels.similarity import concept_axis, fidelity, leave_one_out_cosines, mean_cosines, near_duplicates


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cloud(count, seed, *, centre=0, spread=0.5, width=24):
    """Unit features around one of a few directions."""
    generator = np.random.default_rng([seed, centre])
    return unit(np.eye(width)[centre] + spread * generator.normal(size=(count, width)) / np.sqrt(width))


def test_cosines_equal_scikit_learns():
    from sklearn.metrics.pairwise import cosine_similarity

    images, photos = cloud(6, 0), cloud(9, 1)
    np.testing.assert_allclose(mean_cosines(images, photos), cosine_similarity(images, photos).mean(axis=1), atol=1e-9)
    own = (cosine_similarity(photos).sum(axis=1) - 1) / 8  # without each photo's one with itself
    np.testing.assert_allclose(leave_one_out_cosines(photos), own, atol=1e-9)


def test_fidelity_is_zero_for_the_base_and_one_for_more_photos():
    photos, base = cloud(60, 0), cloud(60, 1, centre=1)
    axis = concept_axis(photos, base)
    assert fidelity(base, base, axis).mean() == pytest.approx(0)
    assert fidelity(cloud(200, 2), cloud(200, 3, centre=1), axis).mean() == pytest.approx(1, abs=0.05)


def test_fidelity_of_twelve_photos_is_not_flattered_by_having_been_fitted_on_them():
    found = []
    for seed in range(20):
        photos, base = cloud(12, seed, spread=1.5), cloud(12, seed + 100, centre=1, spread=1.5)
        axis = concept_axis(photos, base)
        found.append(fidelity(cloud(50, seed + 200, spread=1.5), np.tile(base.mean(axis=0), (50, 1)), axis).mean())
    assert np.mean(found) == pytest.approx(1, abs=0.1)


def test_fidelity_sees_the_concept_through_contexts_that_differ_more():
    generator = np.random.default_rng(0)
    contexts = 3 * generator.normal(size=(4, 24))
    concept = np.eye(24)[5]

    def drawn(count, share, seed):
        noise = 0.2 * np.random.default_rng(seed).normal(size=(count, 24))
        return unit(contexts[np.arange(count) % 4] + 2 * share * concept + noise)

    photos, base = drawn(16, 1, 0), drawn(16, 0, 1)
    axis = concept_axis(photos, base)
    shares = [fidelity(drawn(16, share, 7), base, axis).mean() for share in (0, 0.5, 1)]
    assert shares[0] == pytest.approx(0, abs=0.1)
    assert shares[0] < shares[1] < shares[2]
    assert 0.8 < shares[2] < 1.5  # a photo left out leaves its context short, which makes the unit small
    only_context = np.repeat(drawn(16, 0, 1)[:1], 16, axis=0)  # nearer to a quarter of the photos, without the concept
    assert fidelity(only_context, base, axis).mean() < 0.3


def test_the_axis_is_the_discriminant_of_the_shrunk_covariance():
    photos, base = cloud(9, 0), cloud(7, 1, centre=1)
    rows = np.concatenate([photos - photos.mean(axis=0), base - base.mean(axis=0)])
    scatter = rows.T @ rows
    shrunk = 0.5 * scatter + 0.5 * np.trace(scatter) / 24 * np.eye(24)
    expected = np.linalg.solve(shrunk, photos.mean(axis=0) - base.mean(axis=0))
    axis = concept_axis(photos, base)
    np.testing.assert_allclose(axis / np.linalg.norm(axis), expected / np.linalg.norm(expected), atol=1e-8)


def test_fidelity_stays_finite_where_the_base_is_as_alike_as_the_photos():
    photos = cloud(10, 0)
    for count in (10, 2, 1):
        axis = concept_axis(photos[:count], photos)
        assert np.isfinite(fidelity(cloud(8, 3), cloud(8, 2), axis)).all()
        assert abs(fidelity(photos, photos, axis).mean()) < 1e-9


@pytest.mark.parametrize("share", [0, 0.5, 0.9])  # of a photo in the images: where only the nearest photo is near
def test_copying_equals_the_mean_over_all_ways_to_leave_one_photo_out(share):
    from sklearn.metrics import roc_auc_score

    photos = cloud(7, 0)
    images = unit((1 - share) * cloud(5, 1) + share * photos[:5])
    levels = [max(photos[i] @ photos[j] for j in range(7) if j != i) for i in range(7)]
    areas = []
    for left_out in range(7):
        nearest = (images @ np.delete(photos, left_out, axis=0).T).max(axis=1)
        areas.append(roc_auc_score([1] * 5 + [0] * 7, [*nearest, *levels]))
    assert copying(images, photos).mean() == pytest.approx(np.mean(areas))


def test_copies_reach_the_maximum_and_fresh_images_the_null():
    photos = cloud(30, 0)
    copies = copying(photos, photos)
    assert copies.mean() > 1 - 1 / 30
    assert copying(np.repeat(photos[:3], 10, axis=0), photos).mean() > 1 - 1 / 30
    fresh = np.array([copying(cloud(24, seed), photos).mean() for seed in range(1, 60)])
    assert fresh.mean() == pytest.approx(0.5, abs=0.15)  # one set of photos has its own luck
    assert fresh.std() < 1.5 * copying_null(24, 30)


def test_duplicated_photos_do_not_hide_copying():
    photos = cloud(12, 0)
    doubled = np.concatenate([photos, photos])
    assert near_duplicates(doubled).sum() == 12
    assert not near_duplicates(photos).any()
    assert copying(photos, doubled).mean() == pytest.approx(copying(photos, photos).mean())
    assert copying(photos, doubled, remove_duplicates=False).mean() < 0.6


def test_photos_of_one_shoot_are_no_duplicates_of_each_other():
    alike = np.concatenate([cloud(6, 0, spread=0.02), cloud(6, 1, centre=1, spread=0.02)])
    assert near_duplicates(alike).sum() == 10  # an encoder sees two places and nothing else
    thumbnails = np.random.default_rng(0).uniform(0, 60, (12, 8, 8, 3))
    assert not near_duplicates(alike, thumbnails).any()
    thumbnails[4] = thumbnails[2] + 1
    assert np.flatnonzero(near_duplicates(alike, thumbnails)).tolist() == [4]


def test_own_caption_gap_is_one_when_only_trained_captions_bring_their_photo_back():
    photos = cloud(12, 0, spread=2)
    trained = np.arange(12) < 8
    photo = np.array([0, 1, 2, 3, 8, 9, 10, 11, -1])
    drawn = np.concatenate([photos[:4], photos[[0, 1, 2, 3]], cloud(1, 5)])
    gap, hits = own_caption_gap(drawn, photos, photo, trained)
    assert gap == 1
    assert np.isnan(hits[-1])
    gap, _ = own_caption_gap(photos[:8], photos, np.arange(8), trained)
    assert np.isnan(gap)  # no held-out caption to compare with
    gap, _ = own_caption_gap(photos, photos, np.arange(12), trained)
    assert gap == 0  # following captions everywhere is obedience


def test_only_trained_photos_pull_when_learned_by_heart():
    photos, trained = cloud(12, 0, spread=2), np.arange(12) < 8
    photo = np.array([0, 1, 2, 3, 8, 9, 10, 11, -1])
    base = cloud(9, 5, spread=2)
    followed, heart = base.copy(), base.copy()
    followed[:8] += 0.3 * photos[photo[:8]]
    heart[:4] += 0.3 * photos[photo[:4]]
    pulls = [own_photo_pull(unit(rows), base, photos, photo, trained) for rows in (base, followed, heart)]
    np.testing.assert_allclose(pulls[0], 0, atol=1e-12)
    assert abs(pulls[1].mean()) < 0.3 * pulls[2].mean()
    assert pulls[2].mean() > 0.3
    assert pulls[2][-1] == 0


def test_vendi_score_equals_the_authors_package():
    from vendi_score import vendi

    for rows in (cloud(9, 0), cloud(5, 1, spread=3), np.repeat(cloud(1, 2), 4, axis=0)):
        assert vendi_score(rows) == pytest.approx(vendi.score_dual(rows, normalize=True), rel=1e-6)


def test_diversity_is_one_for_the_base_and_zero_when_seeds_agree():
    base = cloud(16, 0, spread=1)
    prompts = np.repeat(np.arange(8), 2)
    assert diversity(base, base, prompts).mean() == pytest.approx(1)
    assert diversity(np.repeat(base[::2], 2, axis=0), base, prompts).mean() == pytest.approx(0, abs=1e-5)
    assert photo_vendi_excess(base, 2) > 0
    assert len(diversity(base, base, np.arange(16))) == 0


def test_obedience_falls_to_minus_one_when_contexts_have_no_effect():
    texts = np.stack([cloud(1, 0, centre=centre, spread=0)[0] for centre in range(4)])
    context = np.repeat(np.arange(4), 3)
    base = np.concatenate([cloud(3, 1, centre=centre) for centre in range(4)])
    assert context_margins(base, texts, context).min() > 0
    assert obedience(base, base, texts, context).mean() == 0
    deaf = cloud(12, 2, centre=9)
    assert obedience(deaf, base, texts, context).mean() == pytest.approx(-1, abs=0.15)
    assert prompt_changes(deaf, base, texts[context]).mean() < -0.3


def test_a_margin_is_the_own_cosine_less_the_mean_of_the_others():
    texts = np.eye(4)[:3]
    images = np.array([[0.6, 0.0, 0.8, 0.0], [0.1, 0.7, 0.5, 0.5]])
    np.testing.assert_allclose(context_margins(images, texts, np.array([0, 1])), [0.6 - 0.4, 0.7 - 0.3])
    everywhere = np.full((3, 4), 0.5)  # all contexts at once is no context
    np.testing.assert_allclose(context_margins(everywhere, texts, np.arange(3)), 0)


def test_a_subject_that_lowers_all_cosines_alike_leaves_margins_alone():
    texts = np.stack([cloud(1, 0, centre=centre, spread=0)[0] for centre in range(4)])
    context = np.repeat(np.arange(4), 3)
    base = np.concatenate([cloud(3, 1, centre=centre) for centre in range(4)])
    with_subject = base.copy()
    with_subject[:, 20] += 0.2  # the concept's own direction, the same in every context
    assert abs(obedience(unit(with_subject), base, texts, context).mean()) < 0.1
