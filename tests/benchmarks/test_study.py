"""A search's time ends at its first pick that is as good as the best that any search found, but for noise."""

import pytest

from benchmarks.study import Pick, compare, first_as_good

IMAGES = 192


def _pick(seconds: float, right: int, trials: int = 1) -> Pick:
    """The first so many images of each half are right."""
    half = "".join("11" if image < right // 2 else "00" for image in range(IMAGES // 2))
    return Pick(seconds, trials, 0.0, half)


def test_the_first_pick_within_noise_counts() -> None:
    searches = {
        "Onset": [_pick(100, 120)],
        "resident": [_pick(50, 60), _pick(90, 118), _pick(200, 119)],
        "process": [_pick(60, 60), _pick(300, 90)],
    }
    firsts = first_as_good(searches)
    # two images behind are noise
    assert firsts == {"Onset": searches["Onset"][0], "resident": searches["resident"][1], "process": None}


def test_the_best_is_chosen_on_other_images_than_it_is_compared_on() -> None:
    """What was lucky on the comparing half alone is not the best."""
    lucky = Pick(10, 1, 0.0, "10" * (IMAGES // 2))
    good = Pick(20, 1, 0.0, "01" * (IMAGES // 2))
    firsts = first_as_good({"Onset": [good], "resident": [lucky]})
    assert firsts == {"Onset": good, "resident": lucky}


def test_a_search_that_never_gets_there_counts_with_its_whole_time() -> None:
    searches = {
        "Onset": [_pick(100, 120, 6), _pick(180, 120, 12)],
        "resident": [_pick(50, 60, 6), _pick(200, 60, 12)],
        "process": [_pick(150, 40, 6), _pick(400, 120, 12)],
    }
    figures = compare({"castle": searches, "orb": searches})
    assert figures["ratios"] == {"resident": pytest.approx(0.5), "process": pytest.approx(0.25)}
    resident = figures["rows"]["resident"]
    assert (resident["as good"], resident["seconds for 6 trials"]) == (0, 100)
    assert resident["right after 6 trials"] == pytest.approx(60 / IMAGES)
    assert (figures["rows"]["process"]["as good"], figures["rows"]["Onset"]["seconds in all"]) == (2, 360)
