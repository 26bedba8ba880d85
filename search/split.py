"""Which photos are held out: contexts as a whole, others spread over what the set shows, no near-duplicate on both
sides, fixed by a seed."""

import re
from collections.abc import Sequence

import numpy as np

_DUPLICATE_SHARE = 0.05  # of the median squared distance between photos, so that it holds for any encoder
_ROUNDS, _STARTS = 25, 10


def in_contexts(captions: Sequence[str], contexts: Sequence[str]) -> list[int]:
    """Rows of the captions that say one of `contexts`, as whole words in any case."""
    said = [re.compile(rf"(?<!\w){re.escape(context.strip())}(?!\w)", re.IGNORECASE) for context in contexts]
    return [row for row, caption in enumerate(captions) if any(words.search(caption) for words in said)]


def with_twins(seen: np.ndarray, rows: Sequence[int]) -> list[int]:
    """`rows` and those that nearly repeat one of them, in rising order; `seen` is as in `split`."""
    distances = _distances(seen)
    near = distances[:, list(rows)] < _twin_limit(distances)
    return sorted({*rows, *np.flatnonzero(near.any(axis=1)).tolist()})


def split(
    features: np.ndarray,
    num_heldout: int,
    seed: int,
    apart: Sequence[int] = (),
    *,
    seen: np.ndarray | None = None,
) -> tuple[list[int], list[int]]:
    """(trained, held out), rows in rising order.

    Rows `apart` are neither: they are held out with their context. The others are grouped by likeness into
    `num_heldout` strata, and one is drawn from each; a photo that has a near-duplicate is never held out, because its
    twin would be trained on.

    Args:
        features: `[N, D]`, any scale: image features, with caption features beside them.
        num_heldout: at most N - 2, less those apart.
        seen: image features alone, which say what repeats what: one photo under two captions is still one photo.
    """
    seen = features if seen is None else seen
    if apart:
        rest = [row for row in range(len(features)) if row not in set(apart)]
        trained, heldout = split(features[rest], num_heldout, seed, seen=seen[rest])
        return [rest[row] for row in trained], [rest[row] for row in heldout]
    num_photos = len(features)
    if num_heldout <= 0:
        return list(range(num_photos)), []
    rng = np.random.default_rng([seed, num_photos])
    distances = _distances(features)
    free = _without_twin(_distances(seen))
    if len(free) < num_heldout:  # a set of twins: better a leaking split than none
        free = np.arange(num_photos)
    owner = _strata(distances[np.ix_(free, free)], num_heldout, rng)
    strata = [free[owner == k] for k in range(num_heldout)]
    strata.sort(key=len, reverse=True)
    # a photo like no other (a stratum of one) stays in training as long as there is another choice
    order = [stratum for stratum in strata if len(stratum) > 1]
    chosen = [int(rng.choice(stratum)) for stratum in order]
    spare = [int(i) for stratum in (*order, *(s for s in strata if len(s) == 1)) for i in rng.permutation(stratum)]
    chosen += [i for i in spare if i not in chosen][: num_heldout - len(chosen)]
    heldout = sorted(chosen)
    return [i for i in range(num_photos) if i not in heldout], heldout


def _distances(features: np.ndarray) -> np.ndarray:
    """Squared, between all pairs."""
    rows = features.astype(np.float64)
    return np.linalg.norm(rows[:, None] - rows[None], axis=2) ** 2


def _twin_limit(distances: np.ndarray) -> float:
    """Photos nearer than this repeat each other."""
    upper = distances[np.triu_indices(len(distances), 1)]
    return max(_DUPLICATE_SHARE * float(np.median(upper)), 1e-9) if len(upper) else 0.0


def _without_twin(distances: np.ndarray) -> np.ndarray:
    others = distances + np.diag(np.full(len(distances), np.inf))
    return np.flatnonzero(others.min(axis=1) >= _twin_limit(distances))


def _strata(distances: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """k-medoids, the best of several starts: which stratum each row is in, `[N]`."""
    best, lowest = np.zeros(len(distances), int), np.inf
    for _ in range(_STARTS):
        medoids = [int(rng.integers(len(distances)))]
        while len(medoids) < count:  # as k-means++ draws its centres
            nearest = distances[:, medoids].min(axis=1)
            share = nearest / nearest.sum() if nearest.sum() > 0 else None
            medoids.append(int(rng.choice(len(distances), p=share)))
        for _ in range(_ROUNDS):
            owner = distances[:, medoids].argmin(axis=1)
            moved = [_medoid(distances, np.flatnonzero(owner == k), medoids[k]) for k in range(count)]
            if moved == medoids:
                break
            medoids = moved
        cost = float(distances[:, medoids].min(axis=1).sum())
        if cost < lowest:
            best, lowest = distances[:, medoids].argmin(axis=1), cost
    return best


def _medoid(distances: np.ndarray, members: np.ndarray, before: int) -> int:
    if not len(members):
        return before
    return int(members[distances[np.ix_(members, members)].sum(axis=1).argmin()])
