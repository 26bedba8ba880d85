"""Is the epoch that ships a better one, where twins say when memorising begins?

    python -m benchmarks.twins_shipped FOLDER [--json FILE]     runs what FOLDER lacks, then reports
    python -m benchmarks.twins_shipped FOLDER --device cuda --concepts bee duck     some of them, on a GPU
    python -m benchmarks.twins_shipped FOLDER --quick           one short study: whether it runs

Each study is the demo's with photos of another concept, none held out: two trials of 60 epochs, then three twins of the
winner. All checkpoints of the winner are judged by fresh images: the share in which all is right
(`benchmarks.strict_truth`). What counts is the share at the epoch that ships with twins against that without.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.demo import study_of
from benchmarks.demo_truth import Truth
from benchmarks.onset_plan import CHOOSING
from benchmarks.twins import SETS, TWINS
from metrics.onset.onset import find_onset
from search.record.record import StudyFolder, TrialRecord
from search.record.trial_progress import checkpoint_epochs
from search.record.twin_curve import read_by_twins, with_twin_losses

PHOTOS, EPOCHS, EVERY, FRESH = 15, 60, 6, 96
_STARTS = [
    {"optimizer": "AdamW", "learning_rate_scale": 40, "lr_scheduler": "constant", "rank": 16, "alpha_ratio": 1.0},
    {"optimizer": "Adafactor", "learning_rate_scale": 25, "lr_scheduler": "cosine", "rank": 16, "alpha_ratio": 1.0},
]


def changes(device: str, *, quick: bool) -> Mapping[str, Mapping[str, Any]]:
    """What these studies have other than the demo's."""
    epochs = EVERY if quick else EPOCHS
    return {
        "train": {"epochs": epochs, "save_every_n_epochs": epochs // 3 if quick else EVERY},
        "search": {"epochs": {"value": epochs, "when": {"lr_scheduler": ["cosine", "cosine_with_restarts"]}}},
        "score": {"holdout": 0, "holdout_contexts": []},
        "sampler": {"start_with": _STARTS},
        "budget": {"trials": 2, "startup_trials": 2},
        "workers": {"device": device} | ({} if device == "cpu" else {"count": 1, "pack": 2}),
    }


def studied(folder: Path, concept: str, seed: int, device: str, *, quick: bool = False) -> dict[str, Any]:
    """One study in `folder` and how good its winner's checkpoints truly are, read back where it is there; and which
    epochs ship, by the readings that lie there."""
    kept = folder / "row.json"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file = study_of(folder, concept, seed, changes(device, quick=quick), photos=PHOTOS)
        asked = ["--runs", str(folder / "runs"), "--set", f"finalists.twins={TWINS}", "--set", "finalists.strengths=[]"]
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "search.run", str(file), *asked], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr or done.stdout)
        about = {"concept": concept, "seed": seed, "seconds": time.perf_counter() - began}
        kept.write_text(json.dumps(about | _judged(folder / "runs" / "demo", concept, 8 if quick else FRESH, device)))
    row: dict[str, Any] = json.loads(kept.read_text())
    return row | _epochs(StudyFolder(folder / "runs" / "demo"), row["trial"])


def _epochs(folder: StudyFolder, number: int) -> dict[str, Any]:
    """The epoch to ship before and after the twins; `failed`: twins that say nothing."""
    trajectory, read = folder.trajectory(number), read_by_twins(folder, number, TWINS)
    before = find_onset(trajectory)
    by_twins = find_onset(with_twin_losses(trajectory, read)) if read else None
    failed = by_twins is None or by_twins.status == "never_learned"
    return {"before": before.best, "shipped": by_twins.best if by_twins and not failed else None, "failed": failed}


def _judged(study: Path, concept: str, fresh: int, device: str) -> dict[str, Any]:
    folder = StudyFolder(study)
    verdict = json.loads((study / "verdict.json").read_text())
    record = TrialRecord.load(folder.trial(verdict["decision"]["trial"]))
    truth, right = Truth(concept, fresh, device), {}
    for epoch in checkpoint_epochs(record.config):
        lora = folder.checkpoint(record.number, epoch) / "lora.safetensors"
        if epoch <= record.epochs_trained and lora.is_file():
            right[epoch] = float(truth.of_file(lora).mean())
    return {"trial": record.number, "right": right}


def summary(rows: Sequence[dict[str, Any]], resamples: int = 4000) -> dict[str, Any]:
    """Means over studies of the share that is right, and what twins change, with the 5th and 95th percentile over
    studies drawn anew."""
    told = [row for row in rows if not row["failed"]]
    if not told:
        return {"studies": len(rows), "with twins": 0}
    right = [{int(epoch): share for epoch, share in row["right"].items()} for row in told]
    means = {
        "without twins": [each[row["before"]] for each, row in zip(right, told, strict=True)],
        "with twins": [each[row["shipped"]] for each, row in zip(right, told, strict=True)],
        "last": [each[max(each)] for each in right],
        "best": [max(each.values()) for each in right],
    }
    change = np.subtract(means["with twins"], means["without twins"])
    drawn = np.random.default_rng(0).choice(change, (resamples, len(change))).mean(axis=1)
    return {
        "studies": len(rows),
        "with twins": len(told),
        "moved": sum(row["shipped"] != row["before"] for row in told),
        "later": sum(row["shipped"] > row["before"] for row in told),
        **{f"right {name}": float(np.mean(shares)) for name, shares in means.items()},
        "change": float(change.mean()),
        "low": float(np.quantile(drawn, 0.05)),
        "high": float(np.quantile(drawn, 0.95)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.twins_shipped",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--concepts", nargs="+", default=[concept for concept, _, _ in SETS])
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    rows = []
    for seed in args.seeds[:1] if args.quick else args.seeds:
        for concept in args.concepts[:1] if args.quick else args.concepts:
            folder = args.folder / ("quick" if args.quick else f"{concept}-{seed}")
            rows.append(studied(folder, concept, seed, args.device, quick=args.quick))
            print(json.dumps(rows[-1]), flush=True)
    found: dict[str, Any] = {"all": summary(rows)}
    for group in ("choosing", "reported"):
        found[group] = summary([row for row in rows if (row["concept"] in CHOOSING) == (group == "choosing")])
    print(json.dumps(found, indent=1))
    if args.json:
        from benchmarks.train import machine

        figures = {"machine": machine(), "quick": args.quick, "device": args.device, **found, "rows": rows}
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
