"""How many images does a look need while a search runs, when its finalists are drawn again on others?

python -m benchmarks.look_images [--quick] [--json FILE]     about a minute; --quick: five divisions
python -m benchmarks.look_images --keep FOLDER     writes `benchmarks/look-items.npz` from packs that
                                                   `benchmarks.strict --draw` drew

The runs of each of 21 drawn packs are a study's trials, in an order that a seed chooses, two at a time, with the
search's own pruner. Each has 36 images at seven checkpoints: ten captions of photos and eight new contexts, two seeds
each. One half of the prompts is what finals draw; of the other half the search sees so many images. A trial ships its
checkpoint with the best score; the four best are judged anew by the finals' images. Truth: the share of 104 fresh
images in which all is right. Excesses (copying, colours, layout) and losses are the same for all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.look_replay import SETTINGS
from benchmarks.onset_plan import CHOOSING
from benchmarks.strict_scores import spearman
from metrics.checkpoint.score import Limits, score_within
from search.tuning.peers import Curve, Peers
from search.tuning.pruner import PeerPruner

FILE = Path(__file__).with_name("look-items.npz")
ITEMS = ("recognised", "burn", "prompt", "diversity")  # [T, images], the last two of contexts and of prompts
CAPTIONS, CONTEXTS, SEEDS = 10, 8, 2
SEARCHED = {18: (5, 4), 12: (3, 3), 8: (2, 2), 4: (1, 1)}
"""Images of the search to how many captions and contexts."""
FINALISTS, DIVISIONS = 4, 40
_LIMITS = Limits(copying=0.95, colour=3.0, diversity=0.0, weights={})


@dataclass(frozen=True)
class Drawn:
    """One run's checkpoints without the base: `epochs`, `right`, `kept` (what excesses leave of a score) and `learned`
    are [T], `items` as `ITEMS`."""

    pack: str
    run: str
    epochs: np.ndarray
    right: np.ndarray
    kept: np.ndarray
    learned: np.ndarray
    items: Mapping[str, np.ndarray]

    def score(self, captions: Sequence[int], contexts: Sequence[int], luck: np.random.Generator) -> np.ndarray:
        """[T] of the images of some prompts. Which prompt a reading of diversity is of is not kept: as many of them."""
        of_captions, of_contexts = (
            [SEEDS * i + s for i in rows for s in range(SEEDS)] for rows in (captions, contexts)
        )
        images = [*of_captions, *(CAPTIONS * SEEDS + place for place in of_contexts)]
        pairs = self.items["diversity"].shape[1]
        share = len(images) / (SEEDS * (CAPTIONS + CONTEXTS))
        some = luck.permutation(pairs)[: max(1, round(pairs * share))]
        rows = {"recognised": images, "burn": images, "prompt": of_contexts, "diversity": some}
        seen = {name: self.items[name][:, np.asarray(rows[name])].mean(axis=1) for name in ITEMS}
        return self.kept * _plain_scores(seen)


def _plain_scores(seen: Mapping[str, np.ndarray]) -> np.ndarray:
    """[T] scores of channels within all limits."""
    count = len(seen["recognised"])
    return np.array([score_within(_LIMITS, {name: float(seen[name][row]) for name in ITEMS}) for row in range(count)])


def load(file: Path = FILE) -> list[Drawn]:
    with np.load(file) as arrays:
        keys = dict.fromkeys(name.rsplit("/", 1)[0] for name in arrays.files)
        own = {key: {part: arrays[f"{key}/{part}"].astype(float) for part in _PARTS} for key in keys}
    found = []
    for key, each in own.items():
        pack, run = key.split("/")
        items = {name: each[name] for name in ITEMS}
        found.append(Drawn(pack, run, each["epochs"], each["right"], each["kept"], each["learned"] > 0, items))
    return found


_PARTS = ("epochs", "right", "kept", "learned", *ITEMS)


def keep(folder: Path, file: Path) -> int:
    """Writes what drawn packs (`strict_drawn`) say image by image; returns how many runs that are."""
    from benchmarks.strict_drawn import read_drawn
    from benchmarks.strict_scores import LEARNED, right_shares

    kept: dict[str, np.ndarray] = {}
    for plan, arrays in read_drawn(folder):
        for run in plan.runs:
            own = {key.removeprefix(f"{run}/"): arrays[key] for key in arrays if key.startswith(f"{run}/")}
            items = {name: own[f"item_{name}"].astype(float) for name in ITEMS}
            plain = _plain_scores({name: values.mean(axis=1) for name, values in items.items()})
            left = np.divide(own["score"], plain, out=np.ones(len(plain)), where=plain > 0)
            parts = items | {
                "epochs": own["epochs"],
                "right": right_shares(own),
                "kept": left.clip(0, 1),
                "learned": own["probe_concept"].mean(axis=1) > LEARNED,
            }
            for name, values in parts.items():
                kept[f"{plan.name}/{run}/{name}"] = values[1:].astype(np.int32 if name == "epochs" else np.float16)
    with file.open("wb") as written:
        np.savez_compressed(written, allow_pickle=False, **kept)
    return sum(key.endswith("/epochs") for key in kept)


def measure(*, divisions: int) -> dict[str, dict[str, float]]:
    """Group and images of the search to what its studies came to: `ships`, mean truth of what ships, its `change` from
    the most images with a 90 % interval (packs are resampled), `without finals`, `pruned`, and `rank`, the score's over
    a pack's learned checkpoints."""
    runs, rows = load(), {}
    for group in ("choosing", "reported"):
        packs: dict[str, list[Drawn]] = {}
        for run in runs:
            if (run.pack.split("-")[0] in CHOOSING) == (group == "choosing"):
                packs.setdefault(run.pack, []).append(run)
        found = {
            images: np.array([[study(own, images, seed) for own in packs.values()] for seed in range(divisions)])
            for images in SEARCHED
        }
        for images, each in found.items():
            changes = (each[..., 0] - found[max(SEARCHED)][..., 0]).mean(axis=0)
            draws = changes[np.random.default_rng(0).integers(len(changes), size=(2000, len(changes)))].mean(axis=1)
            low, high = np.quantile(draws, [0.05, 0.95])
            names = ("ships", "without finals", "pruned", "rank")
            row = dict(zip(names, each.mean(axis=(0, 1)).tolist(), strict=True))
            row |= {"change": float(changes.mean()), "change, low": float(low), "change, high": float(high)}
            rows[f"{group}, {images} images"] = row
    return rows


def study(runs: Sequence[Drawn], images: int, seed: int) -> tuple[float, float, float, float]:
    """(truth of what ships, the same without finals, share of trials pruned, rank of learned checkpoints)."""
    luck = np.random.default_rng([seed, len(runs)])
    captions, contexts = luck.permutation(CAPTIONS).tolist(), luck.permutation(CONTEXTS).tolist()
    order = luck.permutation(len(runs))
    some, few = SEARCHED[images]
    searched = [run.score(captions[:some], contexts[:few], luck) for run in runs]
    ended, pruned = _search([runs[row] for row in order], [searched[row] for row in order])
    fresh = np.random.default_rng([seed, len(runs), 1])
    trials = []
    for place, row in enumerate(order):
        if place in ended:
            best = int(searched[row].argmax())
            final = runs[row].score(captions[CAPTIONS // 2 :], contexts[CONTEXTS // 2 :], fresh)[best]
            trials.append((float(searched[row][best]), float(final), float(runs[row].right[best])))
    trials.sort(reverse=True)
    learned = np.concatenate([run.learned for run in runs])
    rank = spearman(np.concatenate(searched)[learned], np.concatenate([run.right for run in runs])[learned])
    return max(trials[:FINALISTS], key=lambda each: each[1])[2], trials[0][2], pruned / len(runs), rank


def _search(runs: Sequence[Drawn], scores: Sequence[np.ndarray]) -> tuple[set[int], int]:
    """Trials on two workers: those that came to their ends, and how many were pruned."""
    asked = PeerPruner()
    peers = Peers(warmup=asked.warmup, min_peers=asked.min_peers, reports=asked.reports)
    waiting, at, ended, pruned = list(range(len(runs))), dict[int, int](), set[int](), 0
    while waiting or at:
        while waiting and len(at) < 2:
            number = waiting.pop(0)
            settings, run = SETTINGS[runs[number].run], runs[number]
            schedule, cycles = settings.get("lr_scheduler", "constant"), float(settings.get("num_cycles", 1))
            peers.see(number, Curve(int(run.epochs[-1]), schedule, cycles, {}, runs=True))
            at[number] = 0
        number = min(at, key=lambda one: (runs[one].epochs[at[one]], one))
        peers.reported(number, int(runs[number].epochs[at[number]]), float(scores[number][at[number]]))
        at[number] += 1
        whole = at[number] == len(runs[number].epochs)
        if whole or peers.behind(number):
            peers.ended(number, failed=False)
            del at[number]
            pruned += not whole
            ended |= {number} if whole else set()
    return ended, pruned


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.look_images", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="five divisions of the prompts")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="drawn packs to keep what images say of")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    if args.keep is not None:
        print(f"{keep(args.keep, FILE)} runs in {FILE}")
        return 0
    rows = measure(divisions=5 if args.quick else DIVISIONS)
    for name, row in rows.items():
        change = f"{row['change']:+.3f} ({row['change, low']:+.3f} to {row['change, high']:+.3f})"
        print(
            f"{name:<20} ships {row['ships']:.3f}, {change}; without finals {row['without finals']:.3f}; "
            f"pruned {row['pruned']:.2f}; rank of learned checkpoints {row['rank']:.2f}"
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
