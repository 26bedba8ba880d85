"""Which reading tells the images that show the subject: the critic (`score.critic`), or the demo's encoder.

python -m benchmarks.critic FOLDER [--json FILE]   every search that `benchmarks.demo FOLDER` has kept of the short form
python -m benchmarks.critic FOLDER --quick         one concept: three short trials, made anew where FOLDER lacks them

Both read `recognised` of the same kept images. Whether one really shows the concept, `studies.demo.judges` say, which
no part of the product sees. Told are two figures for each search, over checkpoints in which the judges see the concept
with a mean probability above LEARNED: the AUC over single images, and the rank correlation of the checkpoints' means.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.demo import QUICK, searched
from benchmarks.strict_scores import LEARNED

STEPS = 120
"""Of the critic's training; the demo's trials have at most 105."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.critic", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="one concept")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the critic's training")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    if args.quick:
        searched(args.folder / "quick" / "castle-0", "castle", 0, QUICK, 16)
    homes = sorted((args.folder / ("quick" if args.quick else "short")).glob("*/demo.yaml"))
    rows = []
    for file in homes:
        rows.append(compare(file, args.steps))
        print(json.dumps(rows[-1]), flush=True)
    if not rows:
        parser.error(f"{args.folder}: no searches of benchmarks.demo here")
    figures = {"steps": args.steps, "searches": rows, "over concepts": summary(rows)}
    print(json.dumps(figures["over concepts"], indent=1))
    if args.json:
        from benchmarks.train import machine

        args.json.write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n")
    return 0


def compare(file: Path, steps: int) -> dict[str, Any]:
    """One search, read both ways."""
    from metrics.checkpoint.recognition import recognised, share_of
    from search.probe.probe import open_probe
    from search.record.record import StudyFolder
    from search.running.worker_process import load_models
    from search.study.study import load_study
    from studies.demo.judges import judge, load_judges
    from studies.demo.pool import LABELS

    concept = file.parent.name.rpartition("-")[0]
    study = load_study(file, [f"score.critic.steps={steps}"])
    folder = StudyFolder(file.parent / "runs" / "demo")
    models = load_models(study, folder, 0)
    with tempfile.TemporaryDirectory() as aside:
        began = time.perf_counter()
        probe = open_probe(study, models.base, Path(aside) / "cache", models.encoder, models.identity)
        built = time.perf_counter() - began
    looks = [
        folder.samples(record.number, epoch)
        for record in folder.records()
        for epoch in folder.sampled_epochs(record.number)
        if epoch
    ]
    images = [look.reshape(-1, *look.shape[2:]) for look in looks]
    shown = judge(load_judges(), np.concatenate(images))["concept"].numpy()[:, LABELS["concept"].index(concept)]
    began = time.perf_counter()
    gains = [probe.gains(each, probe.labels) for each in images]
    seconds = (time.perf_counter() - began) / len(shown)
    calibration = probe.calibration
    read = {
        "encoder": recognised(calibration.subject, models.encoder.images(np.concatenate(images))),
        "critic": share_of(np.concatenate([each for each in gains if each is not None]) / calibration.critic),
    }
    found = agreement(shown, read, len(probe.labels))
    return {"search": file.parent.name, "concept": concept, "building": built, "seconds an image": seconds, **found}


def agreement(shown: np.ndarray, read: Mapping[str, np.ndarray], at_once: int) -> dict[str, Any]:
    """AUC over images and rank correlation over checkpoints of each reading, over learned checkpoints.

    Args:
        shown: `[images]`, the judges' probability of the concept.
        at_once: images of a checkpoint.
    """
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    means = shown.reshape(-1, at_once).mean(axis=1)
    learned = means > LEARNED
    found: dict[str, Any] = {"checkpoints": len(means), "learned": int(learned.sum())}
    rows = np.repeat(learned, at_once)
    right = shown[rows] > 0.5
    for name, values in read.items():
        if 0 < right.sum() < len(right):
            found[f"{name}, images"] = float(roc_auc_score(right, values[rows]))
        if learned.sum() > 2:
            by_checkpoint = values.reshape(-1, at_once).mean(axis=1)
            found[f"{name}, checkpoints"] = float(spearmanr(by_checkpoint[learned], means[learned])[0])
    return found


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over concepts of the means over their searches, and the lowest of each."""
    found: dict[str, Any] = {}
    for name in (f"{by}, {of}" for by in ("encoder", "critic") for of in ("images", "checkpoints")):
        means = [
            np.mean([row[name] for row in rows if row["concept"] == concept and name in row])
            for concept in sorted({row["concept"] for row in rows if name in row})
        ]
        found[name] = {"mean": float(np.mean(means)), "lowest concept": float(np.min(means))} if means else None
    return found


if __name__ == "__main__":
    sys.exit(main())
