"""Ranks by hand, and what the log says of the score holds for the checkpoints that are kept."""

import numpy as np
import pytest

from benchmarks.onset_plan import CHOOSING
from benchmarks.strict_scores import CRITIC_FILE, SIGNS, ScoredRun, _by_critic, ranks, scored_runs, spearman


def test_ranks_are_spearmans_within_runs_and_over_packs():
    right = np.array([0, 0.1, 0.2, 0.3, 0.4])
    concept = np.array([0.9, 0.9, 0.9, 0.9, 0.9])
    rising = ScoredRun("a-1-0", {"right": right, "concept": concept, "score": right, "burn": right})
    falling = ScoredRun("a-1-0", {"right": 2 * right, "concept": concept, "score": -right, "burn": right})
    assert ranks([rising], "score") == pytest.approx({"within": 1, "learned": 1, "every": 1, "picked": 1})
    assert ranks([rising], "burn") == pytest.approx({"within": -1, "learned": -1, "every": -1, "picked": 0.25})
    both = ranks([rising, falling], "score")
    assert both["within"] == pytest.approx(0)
    assert both["picked"] == pytest.approx(0.4 / 0.8)


@pytest.mark.parametrize("choosing", [True, False])
def test_the_score_ranks_like_strict_quality_better_than_each_single_reading(choosing: bool):
    runs = [run for run in scored_runs() if (run.concept in CHOOSING) == choosing]
    assert len({run.pack for run in runs}) == (8 if choosing else 13)
    score = ranks(runs, "score")
    for name in SIGNS.keys() - {"score", "judged"}:  # the judges know what is true
        single = ranks(runs, name)
        assert all(score[kind] > single[kind] for kind in ("within", "learned", "every")), name


def test_a_critic_and_the_encoder_are_multiplied_image_by_image_and_make_the_score():
    own = {
        "gains": np.array([[0.0, 0.05], [0.2, 0.1]]),
        "item_recognised": np.array([[0.1, 0.3], [0.9, 1.0]]),
        "prompt": np.array([[0.0, 0.0, 0.0], [0.2, 0.1, 0.3]]),
    }
    seen = _by_critic(own, learned=0.1, limits=np.array([0.7, 3.0, 0.25]))
    by_critic = 1 / (1 + np.exp(-(own["gains"] / 0.1 - 0.5) / 0.3))
    shown = (by_critic * own["item_recognised"]).mean(axis=1)
    assert seen["recognised, critic"] == pytest.approx(shown)
    assert seen["score, critic"] == pytest.approx(shown / (1 + np.exp(-own["prompt"][:, 0] / 0.2)))


def test_among_long_trained_checkpoints_a_critic_does_no_harm():
    runs = [run for run in scored_runs(CRITIC_FILE) if run.concept not in CHOOSING]
    assert {run.concept for run in runs} == {"castle", "orb", "shakers", "spider"}
    learned = [run for run in runs if run.learned.sum() > 3]
    within = {
        name: np.mean([spearman(run.columns[name][run.learned], run.columns["right"][run.learned]) for run in learned])
        for name in ("score", "score, critic")
    }
    assert within["score, critic"] > within["score"]
