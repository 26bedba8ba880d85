"""How the score ranks drawn checkpoints by strict quality, beside single channels: `benchmarks/strict-scores.npz`.

For each run of 21 packs (PACK/RUN) it has a row per checkpoint, the base first, of `columns`: `right`, the share of 104
fresh images that are right in everything (`strict_truth.right`), the probe's mean probability of the concept
(`concept`) and share of right images in new contexts (`judged`), the score, channels, and losses (ln ratios to the
base). `python -m benchmarks.strict --draw --processes 14`, then `--keep`, wrote it on an H200.

`strict-critic.npz` has the same of seven packs that were trained and drawn again with a critic, on two CPU cores:
castle whole, the others `--brief`. Their `limits` were read from the same calibrations afterwards, by a script that is
not kept; packs that are drawn today have them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.onset_behaviour import NOVEL
from benchmarks.onset_plan import CHOOSING

FILE = Path(__file__).with_name("strict-scores.npz")
CRITIC_FILE = Path(__file__).with_name("strict-critic.npz")
WITH_CRITIC = ("score", "score, critic", "recognised", "recognised, critic", "judged")
LOSSES = ("heldout", "context", "shifted")
LEARNED = 0.3  # the probe's mean probability of the concept
SIGNS = {
    "score": 1, "recognised": 1, "fidelity": 1, "prompt": 1, "copying": 1, "clip_image": 1, "clip_text": 1,
    "diversity": -1, "burn": -1, "collapse": -1, "heldout": -1, "context": -1, "shifted": -1, "judged": 1,
}  # fmt: skip
"""Readings that are compared, and which way better images move each of them."""


@dataclass(frozen=True)
class ScoredRun:
    """One run: `[checkpoints]` of each column, the base first."""

    pack: str
    columns: dict[str, np.ndarray]

    @property
    def concept(self) -> str:
        return self.pack.split("-")[0]

    @property
    def learned(self) -> np.ndarray:
        found = self.columns["concept"] > LEARNED
        found[0] = False
        return found


def scored_runs(file: Path = FILE) -> list[ScoredRun]:
    with np.load(file) as arrays:
        names = arrays["columns"].tolist()
        return [
            ScoredRun(key.split("/")[0], dict(zip(names, arrays[key].astype(float).T, strict=True)))
            for key in arrays.files
            if key != "columns"
        ]


def keep_scores(drawn: Path, file: Path) -> int:
    """Writes what the packs in a folder say (`strict_drawn`); returns how many runs that are."""
    from benchmarks.strict_drawn import read_drawn

    kept: dict[str, np.ndarray] = {}
    columns: dict[str, np.ndarray] = {}
    for plan, arrays in read_drawn(drawn):
        for run in plan.runs:
            own = {key.removeprefix(f"{run}/"): arrays[key] for key in arrays if key.startswith(f"{run}/")}
            columns = {
                "epochs": own["epochs"], "right": right_shares(own), "concept": own["probe_concept"].mean(axis=1),
                "judged": _right_images(own, "probe")[:, NOVEL].mean(axis=1),
                "score": own["score"],
            }  # fmt: skip
            if "gains" in own:
                columns |= _by_critic(own, float(arrays["learned"]), arrays["limits"])
            for name, seen in own.items():
                if name in LOSSES:
                    columns[name] = seen.reshape(len(seen), -1).mean(axis=1, dtype=float)
                elif name not in columns and seen.shape == (len(seen), 3):  # a channel: value, low, high
                    columns[name] = seen[:, 0]
            columns = dict(sorted(columns.items()))
            kept[f"{plan.name}/{run}"] = np.stack([*columns.values()], axis=1).astype(np.float32)
    with file.open("wb") as written:
        np.savez_compressed(written, allow_pickle=False, columns=np.array(list(columns)), **kept)
    return len(kept)


def _by_critic(own: dict[str, np.ndarray], learned: float, limits: np.ndarray) -> dict[str, np.ndarray]:
    """[T] each: what a study with the pack's critic reads."""
    from metrics.checkpoint.recognition import CRITIC_WIDTH, share_of
    from metrics.checkpoint.score import Limits, score_within

    seen = share_of(own["gains"].astype(float) / learned, CRITIC_WIDTH)
    shown = (seen * own["item_recognised"].astype(float)).mean(axis=1)
    copying, colour, diversity = limits.tolist()
    within = Limits(copying, colour, diversity, {}, critic=True)
    values = {name: seen[:, 0].astype(float) for name, seen in own.items() if seen.shape == (len(seen), 3)}
    values["recognised"] = shown
    scores = [
        score_within(within, {name: float(column[row]) for name, column in values.items()}) for row in range(len(shown))
    ]
    return {"recognised, critic": shown, "score, critic": np.array(scores)}


def right_shares(own: dict[str, np.ndarray]) -> np.ndarray:
    """[T] share of fresh images that are right in everything, of a drawn run's arrays (`strict_drawn`)."""
    return _right_images(own, "fresh").mean(axis=1)


def _right_images(own: dict[str, np.ndarray], kind: str) -> np.ndarray:
    from benchmarks.strict_truth import damaged, right

    kinds = [each for each in ("probe", "fresh", "trained") if f"{each}_rough" in own]
    base = np.concatenate([own[f"{each}_rough"][0] for each in kinds]).astype(float)
    judged = {"concept": own[f"{kind}_concept"], "asked": own[f"{kind}_asked"].astype(float)}
    return right(judged, damaged(own[f"{kind}_rough"].astype(float), base))


def ranks(runs: list[ScoredRun], name: str) -> dict[str, float]:
    """Spearman's correlations of a reading (a key of `SIGNS`) with strict quality.

    `within` a run's learned checkpoints (median over runs with four or more), over all `learned` checkpoints of a pack
    and over `every` one (medians over packs); and `picked`, the share of the best strict quality that the checkpoint
    with the highest reading of a pack has (mean).
    """
    sign = SIGNS.get(name, 1)
    within, learned, every, picked = [], [], [], []
    for pack in dict.fromkeys(run.pack for run in runs):
        own = [run for run in runs if run.pack == pack]
        values = [np.nan_to_num(sign * run.columns[name], nan=-9.0) for run in own]
        truths = [run.columns["right"] for run in own]
        kept = [run.learned for run in own]
        for value, truth, rows in zip(values, truths, kept, strict=True):
            if rows.sum() >= 4 and np.ptp(truth[rows]) > 0:
                within.append(spearman(value[rows], truth[rows]))
        value, truth = (np.concatenate([each[1:] for each in side]) for side in (values, truths))
        rows = np.concatenate([each[1:] for each in kept])
        learned.append(spearman(value[rows], truth[rows]))
        every.append(spearman(value, truth))
        picked.append(truth[value.argmax()] / truth.max())
    means = {"within": within, "learned": learned, "every": every}
    return {name: float(np.median(found)) for name, found in means.items()} | {"picked": float(np.mean(picked))}


def score_table(file: Path = FILE, names: Collection[str] = SIGNS.keys()) -> dict[str, dict[str, float]]:
    """Group and reading to `ranks`."""
    runs = scored_runs(file)
    groups = {
        "choosing": [run for run in runs if run.concept in CHOOSING],
        "reported": [run for run in runs if run.concept not in CHOOSING],
    }
    return {f"{group}, {name}": ranks(own, name) for group, own in groups.items() for name in names}


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation; 0 where either side is all the same."""
    from scipy.stats import rankdata

    one, other = rankdata(first), rankdata(second)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
