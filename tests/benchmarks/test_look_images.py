"""Studies of drawn checkpoints by hand: finals decide among the best, and the search's pruner ends those behind."""

import numpy as np
import pytest

from benchmarks.look_images import CAPTIONS, CONTEXTS, FINALISTS, SEEDS, Drawn, load, measure, study

IMAGES = SEEDS * (CAPTIONS + CONTEXTS)


def drawn(quality: float, *, steps: int = 7, run: str = "adamw") -> Drawn:
    """A run whose images are all alike, and truly as good as they look."""
    share = quality * np.arange(1, steps + 1) / steps
    items = {
        "recognised": np.repeat(share[:, None], IMAGES, axis=1),
        "burn": np.zeros((steps, IMAGES)),
        "prompt": np.zeros((steps, SEEDS * CONTEXTS)),
        "diversity": np.ones((steps, 14)),
    }
    epochs = np.arange(1, steps + 1)
    return Drawn("bee-1-0", run, epochs, share, np.ones(steps), np.ones(steps, bool), items)


@pytest.mark.parametrize("images", [18, 4])
def test_images_that_never_err_find_the_best_with_any_number_of_them(images: int) -> None:
    ships, alone, pruned, rank = study([drawn(q) for q in (0.2, 0.9, 0.4, 0.6, 0.3, 0.1)], images, 0)
    assert ships == alone == pytest.approx(0.9)
    assert rank == pytest.approx(1, abs=0.01)
    assert 0 < pruned < 1


def test_finals_judge_by_images_that_the_search_did_not_see() -> None:
    flattered, good = drawn(0.5), drawn(0.6)
    lucky = np.zeros(IMAGES, bool)
    luck = np.random.default_rng([0, 2])
    captions, contexts = luck.permutation(CAPTIONS), luck.permutation(CONTEXTS)
    for prompt in [*captions[: CAPTIONS // 2], *(CAPTIONS + contexts[: CONTEXTS // 2])]:
        lucky[SEEDS * prompt : SEEDS * (prompt + 1)] = True
    flattered.items["recognised"][:, lucky] *= 1.8  # only where the search looks
    ships, alone, _, _ = study([flattered, good], 18, 0)
    assert (ships, alone) == pytest.approx((0.6, 0.5))


def test_few_images_with_finals_ship_as_well_as_many() -> None:
    """What docs/log.md says, of the runs that are kept."""
    assert len(load()) == 141
    assert FINALISTS == 4
    rows = measure(divisions=3)
    for group in ("choosing", "reported"):
        many, few = rows[f"{group}, 18 images"], rows[f"{group}, 8 images"]
        assert abs(few["ships"] - many["ships"]) < 0.03
        assert few["rank"] < many["rank"]
