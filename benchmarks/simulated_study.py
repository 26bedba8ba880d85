"""How long a study of a real base takes on 1, 8 and 64 cards, searched in three ways: by simulation.

python -m benchmarks.simulated_study [--quick] [--json FILE]     --quick: two sets of photos, one order, few shapes

Three searches (`benchmarks.simulated_searches`): a *process* for each trial, a *resident* Optuna objective with
MedianPruner, and *Onset*. When a trial learns, turns, is pruned and is stopped comes from the kept runs of the onset
benchmark's reported concepts (`benchmarks.look_replay`), by the real pruners and the real onset. What a step and a look
cost comes from what was measured on cards (`benchmarks.simulated_times`). Nothing is trained here.

A study's trials are the four to seven kept runs of one set of photos. Where it has more trials than that, each run
comes equally often, in an order that a seed chooses.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.look_replay import Run, load_runs, losses_read_once
from benchmarks.simulated_searches import Bill, Rules, Task, by_processes, onset, resident
from benchmarks.simulated_times import LOOKS, SOURCES, Times, times_of

GOALS = {"onset over process": 0.1, "onset over resident": 1 / 3}
PUBLISHED = {
    "PLoRA": "at most 7.5 times shorter makespan (language models)",
    "ALTO": "4.7 to 13.8 times faster (language models)",
}
SHAPES = {
    "own trials, 1 card": (None, 1),
    "64 trials, 1 card": (64, 1),
    "64 trials, 8 cards": (64, 8),
    "64 trials, 64 cards": (64, 64),
    "512 trials, 64 cards": (512, 64),
}
"""Trials and cards of a study."""
VARIANTS = {
    "without packs": Rules(pack=1),
    "without pruning": Rules(prune=False),
    "without stopping": Rules(stop=False),
    "packs alone": Rules(prune=False, stop=False),
    "pruning alone": Rules(pack=1, stop=False),
    "stopping alone": Rules(pack=1, prune=False),
    "none of them": Rules(pack=1, prune=False, stop=False),
}
VARIED = "64 trials, 1 card"
PACKS, LOADS, REPEATS, FEW_IMAGES, FIRST = (2, 4, 16), (5.0, 120.0), 4, 8, 1 / 16
SEEDS = 3


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulated_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="two sets of photos, one order, the small shapes")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    figures = measure(quick=args.quick)
    print(told(figures))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def measure(*, quick: bool) -> dict[str, Any]:
    """`seconds`: base and card to `about`; `studies`: these to shape to `compare`; variants: what else was tried at
    `VARIED`, likewise."""
    studies: dict[str, Any] = {}
    variants: dict[str, Any] = {}
    with losses_read_once():
        packs = load_runs("reported", 2 if quick else None)
        late = {name: [from_share(run, FIRST) for run in runs] for name, runs in packs.items()}
        for name in SOURCES:
            times, seeds = times_of(name), 1 if quick else SEEDS
            studies[name] = {
                shape: compare(packs, *SHAPES[shape], times, seeds)
                for shape in (SHAPES if not quick else list(SHAPES)[:3])
            }
            variants[name] = _variants(packs, late, times)
    return {
        "trials": "kept runs of the onset benchmark, reported concepts",
        "sets of photos": len(packs),
        "orders of each": 1 if quick else SEEDS,
        "orders of each for the variants": 1,
        "goals": GOALS,
        "published": PUBLISHED,
        "seconds": {name: about(times_of(name), SOURCES[name][1]) for name in SOURCES},
        "studies": studies,
        f"variants of {VARIED}": variants,
    }


def about(times: Times, file: str) -> dict[str, Any]:
    """What a second was taken from."""
    return {
        "steps": file,
        "looks": f"{LOOKS} (an H200)",
        "plain step": times.plain,
        "step by width of pack": dict(times.steps),
        "look with images": times.drawn,
        "look with images and losses": times.looked,
        "images, losses of a look": [times.images, times.losses],
        "load, assumed": times.load,
    }


def compare(
    packs: Mapping[str, Sequence[Run]],
    trials: int | None,
    cards: int,
    times: Times,
    seeds: int,
    *,
    rules: Rules | None = None,
    repeats: int = 1,
) -> dict[str, Any]:
    """Means over studies of each search's hours, card-hours, samples, looks and true quality, and which share of its
    card-hours goes into looks; how long Onset takes as a
    share of the others, and how much better what it ships is, each with a 90 % interval (sets are resampled)."""
    names, bills = list[str](), list[dict[str, Bill]]()
    for name, runs in studies_of(packs, trials, seeds):
        task = Task(runs, repeats)
        found, _ = onset(task, cards, times, rules or Rules())
        names.append(name)
        bills.append(
            {
                "process": by_processes(task, cards, times),
                "resident": resident(task, cards, times),
                "onset": found,
            }
        )
    found_rows: dict[str, Any] = {
        search: {
            "hours": float(np.mean([each[search].seconds for each in bills])) / 3600,
            "card-hours": float(np.mean([each[search].card_seconds for each in bills])) / 3600,
            "samples": float(np.mean([each[search].trained for each in bills])),
            "looks": float(np.mean([each[search].looks for each in bills])),
            "share of looks": _share_of_looks(search, times, [each[search] for each in bills]),
            "quality": float(np.mean([each[search].quality for each in bills])),
        }
        for search in bills[0]
    }
    for other in ("process", "resident"):
        found_rows[f"onset over {other}"] = interval(
            [each["onset"].seconds / each[other].seconds for each in bills], names
        )
        found_rows[f"onset over {other}, card-hours"] = interval(
            [each["onset"].card_seconds / each[other].card_seconds for each in bills], names
        )
        found_rows[f"quality, more than {other}"] = interval(
            [each["onset"].quality - each[other].quality for each in bills], names
        )
    return found_rows


def _share_of_looks(search: str, times: Times, bills: Sequence[Bill]) -> float:
    """Of the card-hours, those in which checkpoints are looked at during the search."""
    look = times.looked if search == "onset" else times.drawn
    return sum(bill.looks for bill in bills) * look / sum(bill.card_seconds for bill in bills)


def studies_of(packs: Mapping[str, Sequence[Run]], trials: int | None, seeds: int) -> Iterator[tuple[str, list[Run]]]:
    """Studies of so many trials, None for each run once; of each set of photos in so many orders."""
    for name, runs in packs.items():
        count = trials or len(runs)
        for seed in range(seeds):
            luck = np.random.default_rng([seed, len(runs), count])
            rows = [row for _ in range(-(-count // len(runs))) for row in luck.permutation(len(runs))][:count]
            yield name, [runs[row] for row in rows]


def from_share(run: Run, share: float) -> Run:
    """A run without its checkpoints before a share of its horizon: kept runs have as many in each octave, while people
    mostly save them at even distances."""
    return Run(run.case, tuple(each for each in run.readings if each.epoch == 0 or each.epoch >= share * run.horizon))


def interval(values: Sequence[float], names: Sequence[str]) -> list[float]:
    """[mean, low, high] at 90 %, whole sets of photos resampled."""
    read, own = np.array(values), np.array(names)
    means = np.array([read[own == name].mean() for name in dict.fromkeys(names)])
    draws = means[np.random.default_rng(0).integers(len(means), size=(2000, len(means)))].mean(axis=1)
    return [float(read.mean()), *(float(end) for end in np.quantile(draws, [0.05, 0.95]))]


def _variants(packs: Mapping[str, Sequence[Run]], late: Mapping[str, Sequence[Run]], times: Times) -> dict[str, Any]:
    """At `VARIED`, each set in one order: Onset without some of its parts, with other packs; other loads, fewer images,
    longer trials, no early looks."""
    trials, cards = SHAPES[VARIED]

    def told_of(
        own: Times = times,
        repeats: int = 1,
        rules: Rules | None = None,
        those: Mapping[str, Sequence[Run]] = packs,
    ) -> dict[str, Any]:
        return compare(those, trials, cards, own, 1, rules=rules, repeats=repeats)

    found = {"as above": told_of()}
    found |= {name: told_of(rules=rules) for name, rules in VARIANTS.items()}
    widest = max(times.steps)
    found |= {f"packs of {pack}": told_of(rules=Rules(pack=pack)) for pack in PACKS if pack <= widest}
    found |= {f"load {load:g} s": told_of(times.with_load(load)) for load in LOADS}
    few = replace(times, images=FEW_IMAGES, fresh=times.fresh * FEW_IMAGES // times.images)
    found[f"{FEW_IMAGES} images for a look"] = told_of(few)
    found[f"trials {REPEATS} times as long"] = told_of(repeats=REPEATS)
    found["first look at a sixteenth of the horizon"] = told_of(those=late)
    return found


def told(figures: Mapping[str, Any]) -> str:
    """The figures for people."""
    lines = []
    for name, shapes in figures["studies"].items():
        lines.append(f"{name}: hours of process, resident, Onset; Onset over process, over resident (goals 0.10, 0.33)")
        lines += [f"  {shape}: {_row(row)}" for shape, row in shapes.items()]
        lines.append(f"  of these, at {VARIED}:")
        lines += [f"    {what}: {_row(row)}" for what, row in figures[f"variants of {VARIED}"][name].items()]
    return "\n".join(lines)


def _row(row: Mapping[str, Any]) -> str:
    searches = ("process", "resident", "onset")
    hours = ", ".join(f"{row[search]['hours']:.2f}" for search in searches)
    cards = ", ".join(f"{row[search]['card-hours']:.2f}" for search in searches)
    quality = ", ".join(f"{row[search]['quality']:.3f}" for search in searches)
    shares = ", ".join(f"{row[f'onset over {other}'][0]:.3f}" for other in ("process", "resident"))
    return f"{hours} h; {shares}; card-hours {cards}; quality {quality}"


if __name__ == "__main__":
    sys.exit(main())
