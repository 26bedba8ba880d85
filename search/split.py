"""Which photos are held out: spread over what the set shows, no near-duplicate on both sides, fixed by a seed."""

import numpy as np

_DUPLICATE_SHARE = 0.1  # of the median distance: the rule of metrics.similarity.near_duplicates, for pairs
_ROUNDS = 25


def split(features: np.ndarray, num_heldout: int, seed: int) -> tuple[list[int], list[int]]:
    """(trained, held out), rows in rising order.

    The photos are grouped by likeness into `num_heldout` strata, and one is drawn from each; a photo that has a
    near-duplicate is never held out, because its twin would be trained on.

    Args:
        features: `[N, D]`, any scale: image features, with caption features beside them.
        num_heldout: at most N - 2.
    """
    num_photos = len(features)
    if num_heldout <= 0:
        return list(range(num_photos)), []
    rng = np.random.default_rng([seed, num_photos])
    distances = np.linalg.norm(features[:, None].astype(np.float64) - features[None].astype(np.float64), axis=2) ** 2
    free = _without_twin(distances)
    if len(free) < num_heldout:  # a set of twins: better a leaking split than none
        free = np.arange(num_photos)
    strata = _strata(distances[np.ix_(free, free)], num_heldout, rng)
    chosen: list[int] = []
    for stratum in sorted(strata, key=len, reverse=True):
        chosen.append(int(free[rng.choice(stratum)]))
    left = [int(i) for i in free if int(i) not in chosen]
    while len(chosen) < num_heldout:
        chosen.append(left.pop(int(rng.integers(len(left)))))
    heldout = sorted(chosen[:num_heldout])
    return [i for i in range(num_photos) if i not in heldout], heldout


def _without_twin(distances: np.ndarray) -> np.ndarray:
    others = distances + np.diag(np.full(len(distances), np.inf))
    upper = distances[np.triu_indices(len(distances), 1)]
    limit = max(_DUPLICATE_SHARE * float(np.median(upper)), 1e-9) if len(upper) else 0.0
    return np.flatnonzero(others.min(axis=1) >= limit)


def _strata(distances: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """k-medoids; a stratum of one is left out, so that a photo like no other stays in training."""
    medoids = [int(rng.integers(len(distances)))]
    while len(medoids) < count:
        nearest = distances[:, medoids].min(axis=1)
        medoids.append(int(nearest.argmax()))
    owner = distances[:, medoids].argmin(axis=1)
    for _ in range(_ROUNDS):
        moved = [_medoid(distances, np.flatnonzero(owner == k), medoids[k]) for k in range(count)]
        if moved == medoids:
            break
        medoids = moved
        owner = distances[:, medoids].argmin(axis=1)
    return [members for k in range(count) if len(members := np.flatnonzero(owner == k)) > 1]


def _medoid(distances: np.ndarray, members: np.ndarray, before: int) -> int:
    if not len(members):
        return before
    return int(members[distances[np.ix_(members, members)].sum(axis=1).argmin()])
