"""What tags do in drawings, in pairs that are planted."""

import numpy as np
import pytest
from scipy.stats import sem, t

from metrics.captions.effects import Contrast, _chance, _verdict, contrast, tag_effects

RNG = np.random.default_rng(4)


def planted(lora: float, base: float, always: float, pairs: int = 8) -> Contrast:
    def around(level: float) -> np.ndarray:
        return level + RNG.normal(0, 0.05, pairs)

    return Contrast(around(lora), around(base), around(always))


CASES = {
    "reflected": planted(1.0, 1.0, 0.0),
    "unknown to the base": planted(0.0, 0.0, 0.0),
    "lost": planted(0.1, 1.0, 0.0),
    "absorbed": planted(0.1, 1.0, 0.9),
}


@pytest.mark.parametrize("verdict", CASES)
def test_each_verdict_is_given_where_it_is_planted(verdict):
    effects = tag_effects([*CASES.values(), *(planted(1.0, 1.0, 0.0) for _ in range(6))])
    assert effects[list(CASES).index(verdict)].verdict == verdict


def test_pairs_that_disagree_are_ambiguous():
    noisy = Contrast(RNG.normal(0.3, 2, 6), RNG.normal(1, 2, 6), RNG.normal(0, 2, 6))
    effects = tag_effects([noisy, *(planted(1.0, 1.0, 0.0) for _ in range(5))])
    assert effects[0].verdict == "ambiguous"


def test_of_many_tags_without_any_effect_none_is_called_reflected():
    nothing = [Contrast(*RNG.normal(0, 0.3, (3, 8))) for _ in range(60)]
    effects = tag_effects([planted(1.0, 1.0, 0.0), *nothing])
    assert sum(effect.verdict == "reflected" for effect in effects[1:]) <= 1
    assert min(effect.chance for effect in effects[1:]) > 0.01


@pytest.mark.parametrize("pairs", [3, 4, 20])
def test_intervals_are_students_in_units_of_the_bases_mean_effect(pairs: int):
    contrasts = [planted(0.8, 1.5, 0.2, pairs), planted(0.3, 0.5, 0.1, pairs)]
    scale = np.mean([found.base.mean() for found in contrasts])
    for found, effect in zip(contrasts, tag_effects(contrasts), strict=True):
        for values, interval in ((found.lora, effect.lora), (found.base, effect.base), (found.always, effect.always)):
            mean, error = values.mean() / scale, sem(values / scale)
            assert interval == pytest.approx((mean, *t.interval(0.95, pairs - 1, mean, error)))


def test_intervals_hold_the_mean_and_the_base_has_one_on_average():
    effects = tag_effects(list(CASES.values()))
    assert np.mean([effect.base[0] for effect in effects]) == pytest.approx(1.0)
    assert all(effect.lora[1] <= effect.lora[0] <= effect.lora[2] for effect in effects)


@pytest.mark.parametrize(
    ("lora", "base", "always", "sure", "verdict"),
    [
        # (mean of each, then which of works, known, weaker, comes is sure)
        (1.0, 1.0, 0.0, "wk", "reflected"),
        (0.5, 1.0, 0.0, "wk", "reflected"),
        (0.49, 1.0, 0.0, "wkr", "lost"),
        (0.49, 1.0, 0.0, "wk", "ambiguous"),
        (0.9, 1.0, 0.0, "k", "ambiguous"),
        (0.9, 0.2, 0.0, "", "unknown to the base"),
        (0.05, 0.2, 0.0, "k", "unknown to the base"),  # surely little
        (0.05, 0.3, 0.0, "k", "ambiguous"),
        (0.05, 0.3, 0.0, "", "unknown to the base"),
        (0.05, 0.35, 0.0, "", "ambiguous"),
        (0.1, 1.0, 0.5, "krc", "absorbed"),
        (0.1, 1.0, 0.49, "krc", "lost"),
        (0.1, 1.0, 0.9, "kr", "lost"),
        (0.1, 1.0, 0.9, "rc", "ambiguous"),
    ],
)
def test_a_verdict_is_given_by_size_and_by_certainty(
    lora: float, base: float, always: float, sure: str, verdict: str
) -> None:
    means = [(mean, mean - 0.1, mean + 0.1) for mean in (lora, base, always)]
    found = _verdict(*means, works="w" in sure, known="k" in sure, weaker="r" in sure, comes="c" in sure)
    assert found == verdict


@pytest.mark.parametrize(
    ("values", "chance"),
    [([1.0, 1.0], 1.0), ([1.0, 1.0, 1.0], 0.0), ([0.0, 0.0, 0.0], 1.0), ([-1.0, -1.0, -1.0], 1.0), ([5.0, 6.0], 1.0)],
)
def test_pairs_that_are_all_alike_are_sure_and_two_are_too_few(values: list[float], chance: float) -> None:
    assert _chance(np.array(values)) == chance


def test_a_chance_is_that_of_a_one_sided_test() -> None:
    values = np.array([0.3, 0.1, 0.5, 0.2])
    error = values.std(ddof=1) / 2
    assert _chance(values) == pytest.approx(t.sf(values.mean() / error, 3))
    assert _chance(-values) == pytest.approx(1 - t.sf(values.mean() / error, 3))


def test_a_contrast_is_taken_along_the_way_between_two_prompts() -> None:
    plain, tagged = np.eye(3)[[0, 0]], np.array([[0.0, 1.0, 0.0], [0.6, 0.8, 0.0]])
    way = (tagged - plain) / np.linalg.norm(tagged - plain, axis=1, keepdims=True)
    lora, base = (tagged, plain + 0.5), (plain + way, plain)
    found = contrast(lora, base, (tagged, plain))
    np.testing.assert_allclose(found.base, [1, 1])
    np.testing.assert_allclose(found.lora, ((lora[0] - lora[1]) * way).sum(axis=1))
    np.testing.assert_allclose(found.always, ((lora[1] - base[1]) * way).sum(axis=1))
    assert tag_effects([]) == []


@pytest.mark.parametrize(("lora", "verdict"), [(1.0, "reflected"), (0.9, "ambiguous")])
def test_half_of_a_large_effect_is_kept(lora: float, verdict: str) -> None:
    base, always = (2.0, 1.9, 2.1), (0.0, -0.1, 0.1)
    found = _verdict((lora, 0.8, 1.1), base, always, works=True, known=True, weaker=False, comes=False)
    assert found == verdict
    lost = _verdict((0.1, 0, 0.2), base, (lora, 0.8, 1.1), works=True, known=True, weaker=True, comes=True)
    assert lost == ("absorbed" if lora == 1.0 else "lost")


def test_prompts_that_are_the_same_have_no_way_between_them() -> None:
    rows = np.eye(3)[[0, 1]]
    found = contrast((rows, rows[::-1]), (rows[::-1], rows), (rows, rows))
    for values in (found.lora, found.base, found.always):
        assert values.tolist() == [0, 0]
