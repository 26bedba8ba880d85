"""Losses of photos that are trained on elsewhere, measured as the study measures those of held-out photos."""

from collections.abc import Sequence

import numpy as np

from search.probe.probe import Probe
from search.probe.prompts import probe_seed
from trainer.data.dataset import load_pixels
from trainer.inference.evaluate import Evaluation


def evaluation_of(probe: Probe, rows: Sequence[int]) -> Evaluation:
    """Under the levels, noises and precision of `score.losses`.

    Args:
        rows: of the photos that the study trains on, regularisation images not counted.
    """
    own = [photo for photo in probe.trained.photos if not photo.is_reg]
    photos = [own[row] for row in rows]
    return Evaluation.prepare(
        probe.base,
        np.stack([load_pixels(photo, probe.config.size) for photo in photos]),
        [photo.caption for photo in photos],
        levels=probe.score.losses.levels,
        draws=probe.score.losses.draws,
        seed=probe_seed(probe.score, "heldout", 0),
        clip_skip=probe.config.clip_skip,
        cache=probe.cache,
    )
