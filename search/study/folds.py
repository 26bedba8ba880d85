"""Which photos each of several cross-fitted twins leaves out: every photo once, none apart from its copies."""

import numpy as np

from search.study.split import families_of


def folds(count: int, seen: np.ndarray, seed: int, copies: np.ndarray | None = None) -> list[list[int]]:
    """The rows that each of `count` twins leaves out, in rising order; fewer lists where there are fewer different
    photos. Photos that repeat each other are left out together; sizes differ as little as that allows.

    Args:
        count: of twins, at least 2.
        seen, copies: as `search.study.split.split` takes them.

    >>> folds(2, np.eye(5), seed=0)
    [[0, 1, 4], [2, 3]]
    """
    families = families_of(seen, copies)
    order = np.random.default_rng([seed, len(seen), count]).permutation(len(families))
    left_out: list[list[int]] = [[] for _ in range(min(count, len(families)))]
    for family in sorted((families[at] for at in order), key=len, reverse=True):
        min(left_out, key=len).extend(family)
    return [sorted(rows) for rows in left_out]
