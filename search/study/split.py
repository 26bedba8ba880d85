"""Which photos are held out: contexts as a whole, others spread over what the set shows, no near-duplicate on both
sides, fixed by a seed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

_DUPLICATE_SHARE = 0.05  # of the median squared distance between photos, so that it holds for any encoder
_ROUNDS, _STARTS = 25, 10


def in_contexts(captions: Sequence[str], contexts: Sequence[str]) -> list[int]:
    """Rows of the captions that say one of `contexts`, as whole words in any case."""
    said = [re.compile(rf"(?<!\w){re.escape(context.strip())}(?!\w)", re.IGNORECASE) for context in contexts]
    return [row for row, caption in enumerate(captions) if any(words.search(caption) for words in said)]


def with_twins(seen: np.ndarray, rows: Sequence[int], copies: np.ndarray | None = None) -> list[int]:
    """`rows` and those that repeat one of them, in rising order; `seen` and `copies` are as in `split`."""
    near = _twins(seen, copies)[:, list(rows)]
    return sorted({*rows, *np.flatnonzero(near.any(axis=1)).tolist()})


@dataclass(frozen=True)
class Split:
    """Rows in rising order.

    Attributes:
        trained, heldout: the two sides.
        repeats: on neither: they repeat one that is held out.
        note: what the user should know of it, or None.
    """

    trained: list[int]
    heldout: list[int]
    repeats: list[int] = field(default_factory=list)
    note: str | None = None


def split(
    features: np.ndarray,
    num_heldout: int,
    seed: int,
    apart: Sequence[int] = (),
    *,
    seen: np.ndarray | None = None,
    copies: np.ndarray | None = None,
) -> Split:
    """Which photos are trained on, and which are held out.

    Rows `apart` are neither: they are held out with their context. The others are grouped by likeness into
    `num_heldout` strata, and one is drawn from each; a photo that has a twin is not held out, because the twin would be
    trained on. Where too few have none, photos are held out with all their twins, fewer if need be, and where the set
    is one or two photos again and again, none.

    Args:
        features: `[N, D]`, any scale: image features, with caption features beside them.
        num_heldout: at most N - 2, less those apart.
        seen: image features alone, which say what repeats what: one photo under two captions is still one photo.
        copies: `[N, N]`, photos known to repeat each other (`metrics.comparison.twins`), beside those near by `seen`.
    """
    seen = features if seen is None else seen
    if apart:
        rest = [row for row in range(len(features)) if row not in set(apart)]
        among = None if copies is None else copies[np.ix_(rest, rest)]
        found = split(features[rest], num_heldout, seed, seen=seen[rest], copies=among)
        trained, heldout, repeats = (
            [rest[row] for row in side] for side in (found.trained, found.heldout, found.repeats)
        )
        return Split(trained, heldout, repeats, found.note)
    num_photos = len(features)
    if num_heldout <= 0:
        return Split(list(range(num_photos)), [])
    rng = np.random.default_rng([seed, num_photos])
    distances, twins = _distances(features), _twins(seen, copies)
    free = np.flatnonzero(~twins.any(axis=1))
    if len(free) >= num_heldout:
        heldout = _drawn(distances, free, num_heldout, rng)
        return Split([row for row in range(num_photos) if row not in heldout], heldout)
    return _split_families(distances, _families(twins), num_heldout, rng)


def families_of(seen: np.ndarray, copies: np.ndarray | None = None) -> list[list[int]]:
    """Rows that repeat each other, directly or through others; each family in rising order. `seen` and `copies` are as
    in `split`."""
    return _families(_twins(seen, copies))


def given_split(held: Sequence[int], apart: Sequence[int], seen: np.ndarray, copies: np.ndarray | None = None) -> Split:
    """The split of a run that is finished: `held` were not trained on, and those of them in `apart` are held out with
    their context. A photo that repeats a trained one, or one held out before it, measures nothing; others as in
    `split`."""
    twins = _twins(seen, copies)
    trained = [row for row in range(len(seen)) if row not in set(held)]
    leaked = [row for row in held if twins[row, trained].any()]
    alone = [row for row in held if row not in leaked and row not in set(apart)]
    heldout = [row for place, row in enumerate(alone) if not twins[row, alone[:place]].any()]
    repeats = sorted({*leaked, *alone} - set(heldout))
    note = f"{len(leaked)} of {len(held)} held-out photos repeat photos trained on: they are not measured with"
    return Split(trained, heldout, repeats, note if leaked else None)


def _split_families(
    distances: np.ndarray, families: list[list[int]], num_heldout: int, rng: np.random.Generator
) -> Split:
    """Photos held out with all that repeat them; the smallest families, so that much is left to train on."""
    rows = range(len(distances))
    count = min(num_heldout, len(families) - 2)
    if count < 1:
        return Split(
            list(rows),
            [],
            note=f"no photo is held out, so memorising cannot be measured: the {len(rows)} photos are "
            f"only {len(families)} different ones (saved anew, mirrored or a little changed): add other photos",
        )
    largest = sorted(map(len, families))[count - 1]
    first = {family[0]: family for family in families if len(family) <= largest}
    heldout = _drawn(distances, np.array(sorted(first)), count, rng)
    repeats = sorted(row for one in heldout for row in first[one][1:])
    fewer = f", {num_heldout - count} fewer than score.holdout says" if count < num_heldout else ""
    note = (
        f"the {len(rows)} photos are {len(families)} different ones, others are copies (saved anew, mirrored or a "
        f"little changed): {count} are held out with their {len(repeats)} copies{fewer}"
    )
    out = {*heldout, *repeats}
    return Split([row for row in rows if row not in out], heldout, repeats, note)


def _drawn(distances: np.ndarray, free: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """One of each of `count` strata of the rows `free`, in rising order."""
    owner = _strata(distances[np.ix_(free, free)], count, rng)
    strata = [free[owner == k] for k in range(count)]
    strata.sort(key=len, reverse=True)
    # a photo like no other (a stratum of one) stays in training as long as there is another choice
    order = [stratum for stratum in strata if len(stratum) > 1]
    chosen = [int(rng.choice(stratum)) for stratum in order]
    spare = [int(i) for stratum in (*order, *(s for s in strata if len(s) == 1)) for i in rng.permutation(stratum)]
    chosen += [i for i in spare if i not in chosen][: count - len(chosen)]
    return sorted(chosen)


def _twins(seen: np.ndarray, copies: np.ndarray | None) -> np.ndarray:
    """Which rows repeat which: `[N, N]`, false on the diagonal."""
    distances = _distances(seen)
    near = distances < _twin_limit(distances)
    np.fill_diagonal(near, False)
    return near if copies is None else near | copies


def _families(twins: np.ndarray) -> list[list[int]]:
    """Rows that repeat each other, directly or through others; each family in rising order."""
    from scipy.sparse.csgraph import connected_components

    number, owner = connected_components(twins)
    return [np.flatnonzero(owner == k).tolist() for k in range(number)]


def _distances(features: np.ndarray) -> np.ndarray:
    """Squared, between all pairs."""
    rows = features.astype(np.float64)
    return np.linalg.norm(rows[:, None] - rows[None], axis=2) ** 2


def _twin_limit(distances: np.ndarray) -> float:
    """Photos nearer than this repeat each other."""
    upper = distances[np.triu_indices(len(distances), 1)]
    return max(_DUPLICATE_SHARE * float(np.median(upper)), 1e-9) if len(upper) else 0.0


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
