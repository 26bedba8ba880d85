"""The demo, short and long: time to its verdict, and how good the LoRA truly is that it ships.

python -m benchmarks.demo FOLDER [--json FILE]     runs what FOLDER lacks, then reports (a day on two cores)
python -m benchmarks.demo FOLDER --kinds short     one kind alone; --concepts, --seeds: fewer of them
python -m benchmarks.demo FOLDER --quick           one concept, three short trials: whether it runs

*Short* is `studies/demo.yaml` as it is. *Long* is the same study with LONG's settings, the demo's until 2026-11-28.
Each is run with photos of five concepts that chose nothing, under three seeds, with two workers of one thread each.
True quality is the share of fresh images of what ships in which all is right (`benchmarks.strict_truth`). True regret
is how far that is below the best LoRA that any search of the concept shipped; which one is best is judged by other
fresh images, so that it is not the luckiest.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.demo_truth import CONCEPT, STUDY, Truth

CONCEPTS, SEEDS = ("castle", "rocket", "cactus", "rabbit", "orb"), (0, 1, 2)
FRESH = 96
"""Images for each of the two judgements: one is told, one says which LoRA of a concept is best."""
_CONTEXTS = ("large, on the left, snow, striped floor", "small, on the right, sea, plain floor",
             "large, on the right, forest, plain floor")  # fmt: skip
LONG: Mapping[str, Any] = {
    "train": {"batch_size": 1, "epochs": 32, "save_every_n_epochs": 2},
    "search": {
        "epochs": {"values": [16, 32], "when": {"lr_scheduler": ["cosine", "cosine_with_restarts"]}},
        "learning_rate_scale": {
            "min": 4, "max": 80, "log": True, "when": {"optimizer": ["AdamW", "AdamW8bit", "Adafactor", "Lion"]}
        },
    },
    "score": {"losses": {"levels": 8}},
    "probe": {"trained": 2, "contexts": [f"{{trigger}} {{class}}, {context}" for context in _CONTEXTS]},
    "sampler": {"start_with": []},
    "budget": {"trials": 14, "startup_trials": 6},
}  # fmt: skip
QUICK: Mapping[str, Any] = {
    "train": {"epochs": 4, "save_every_n_epochs": 2},
    "search": {"epochs": {"values": [2, 4], "when": {"lr_scheduler": ["cosine", "cosine_with_restarts"]}}},
    "sampler": {"start_with": []},
    "budget": {"trials": 3, "startup_trials": 2},
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--kinds", nargs="+", choices=("short", "long"), default=("short", "long"))
    parser.add_argument("--concepts", nargs="+", default=CONCEPTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    rows = []
    for seed in args.seeds[:1] if args.quick else args.seeds:
        for concept in args.concepts[:1] if args.quick else args.concepts:
            for kind in args.kinds[:1] if args.quick else args.kinds:
                folder = args.folder / ("quick" if args.quick else kind) / f"{concept}-{seed}"
                changes = QUICK if args.quick else LONG if kind == "long" else {}
                rows.append({"kind": kind, **searched(folder, concept, seed, changes, 16 if args.quick else 2 * FRESH)})
                print(json.dumps(rows[-1]), flush=True)
    figures = {"quick": args.quick, "searches": with_regret(rows)}
    for kind in args.kinds:
        _report(kind, [row for row in figures["searches"] if row["kind"] == kind])
    if args.json:
        from benchmarks.train import machine

        args.json.write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n")
    return 0


def with_regret(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with "regret": negative where the best by other images is worse by these."""
    best = {}
    for row in sorted(rows, key=lambda row: row["choosing"]):
        best[row["concept"]] = row["right"]
    return [{**row, "regret": best[row["concept"]] - row["right"]} for row in rows]


def _report(kind: str, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        error = np.sqrt(np.mean([row["right"] * (1 - row["right"]) for row in rows]) / FRESH / len(rows))
        means = {name: np.mean([row[name] for row in rows]) for name in ("seconds", "right", "regret")}
        print(
            f"{kind:>6}: {len(rows):2} searches   {means['seconds']:5.0f} s   "
            f"all right {means['right']:.3f} ± {error:.3f}   regret {means['regret']:.3f}"
        )


def searched(folder: Path, concept: str, seed: int, changes: Mapping[str, Any], fresh: int) -> dict[str, Any]:
    """One search in `folder`, and what it ships judged by so many images; read back where it is there. A search that
    was ended goes on, and its seconds are those of the last start."""
    kept = folder / "row.json"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file, runs = study_of(folder, concept, seed, changes), folder / "runs"
        command = [sys.executable, "-m", "search.run", str(file), "--runs", str(runs)]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(done.stderr or done.stdout)
        row = {"concept": concept, "seed": seed, "seconds": seconds, **_shipped(runs / "demo", concept, fresh)}
        kept.write_text(json.dumps(row))
    return dict(json.loads(kept.read_text()))


def study_of(folder: Path, concept: str, seed: int, changes: Mapping[str, Any], *, photos: int | None = None) -> Path:
    """The demo's study with a concept's own photos. These are taken in places of its own, so other places play the
    parts that the demo's places have."""
    from studies.demo.photos import COUNT, write_photos
    from studies.demo.scenes import PLACES, find_concept

    own, theirs = ([p for p in PLACES if p not in find_concept(c).set_places] for c in (concept, CONCEPT))
    study = yaml.safe_load(STUDY.read_text())
    for part, values in changes.items():
        (study["score"] if part == "probe" else study)[part].update(values)
    text = yaml.safe_dump(study, sort_keys=False)
    text = re.sub(rf"\b({'|'.join(theirs)})\b", lambda found: own[theirs.index(found[0])], text)
    study = yaml.safe_load(text)
    data = folder / "photos"
    write_photos(data, concept=concept, count=photos or COUNT, elsewhere=study["score"]["holdout_contexts"])
    study |= {"data": str(data.resolve()), "base": str(STUDY.parent / study["base"]), "seed": seed}
    study["score"]["encoder"] = str(STUDY.parent / study["score"]["encoder"])
    file = folder / "demo.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    return file


def _shipped(study: Path, concept: str, fresh: int) -> dict[str, Any]:
    verdict = json.loads((study / "verdict.json").read_text())
    lora = study / "best" / "demo.safetensors"
    right = Truth(concept, fresh).of_file(lora) if lora.is_file() else np.zeros(fresh)
    return {
        "headline": verdict["headline"],
        "score": verdict["decision"]["score"],
        "trials": len(verdict["trials"]),
        "epochs": verdict["cost"]["epochs"],
        "right": float(right[::2].mean()),
        "choosing": float(right[1::2].mean()),
    }


if __name__ == "__main__":
    sys.exit(main())
