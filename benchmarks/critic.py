"""Which reading tells the images that show the subject: the demo's encoder, a critic (`score.critic`), or both.

python -m benchmarks.critic FOLDER [--json FILE]   every search that `benchmarks.demo FOLDER` has kept of the short form
python -m benchmarks.critic FOLDER --fresh 48      also how the score ranks checkpoints by so many fresh images of each
python -m benchmarks.critic FOLDER --quick         one concept: three short trials, made anew where FOLDER lacks them

All read `recognised` of the same kept images. Whether one really shows the concept, `studies.demo.judges` say, which
no part of the product sees. Told are two figures for each search, over checkpoints in which the judges see the concept
with a mean probability above LEARNED: the AUC over single images, and the rank correlation of the checkpoints' means.
With fresh images (kept beside each search) also the rank correlation of the score, as each reading makes it, with the
share of them in which all is right, over the same checkpoints.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.demo import QUICK, searched
from benchmarks.strict_drawn import CRITIC_STEPS
from benchmarks.strict_scores import LEARNED

if TYPE_CHECKING:
    from metrics.checkpoint.calibration import Calibration
    from search.record.record import StudyFolder


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.critic", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="one concept")
    parser.add_argument("--fresh", type=int, default=0, help="images of each checkpoint that the score is held against")
    parser.add_argument("--concepts", nargs="+", help="these alone")
    parser.add_argument("--steps", type=int, default=CRITIC_STEPS, help="of the critic's training")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    if args.quick:
        searched(args.folder / "quick" / "castle-0", "castle", 0, QUICK, 16)
    homes = sorted((args.folder / ("quick" if args.quick else "short")).glob("*/demo.yaml"))
    rows = []
    for file in homes:
        if args.concepts and concept_of(file) not in args.concepts:
            continue
        rows.append(compare(file, args.steps, args.fresh))
        print(json.dumps(rows[-1]), flush=True)
    if not rows:
        parser.error(f"{args.folder}: no searches of benchmarks.demo here")
    figures = {"steps": args.steps, "searches": rows, "over concepts": summary(rows)}
    print(json.dumps(figures["over concepts"], indent=1))
    if args.json:
        from benchmarks.train import machine

        args.json.write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n")
    return 0


def concept_of(file: Path) -> str:
    """The concept of a search, whose study file this is."""
    return file.parent.name.rpartition("-")[0]


def compare(file: Path, steps: int, fresh: int = 0) -> dict[str, Any]:
    """One search, read in each way."""
    from metrics.checkpoint.recognition import CRITIC_WIDTH, recognised, share_of
    from search.probe.probe import open_probe
    from search.record.record import StudyFolder
    from search.running.worker_process import load_models
    from search.study.study import load_study
    from studies.demo.judges import judge, load_judges
    from studies.demo.pool import LABELS

    concept = concept_of(file)
    study = load_study(file, [f"score.critic.steps={steps}"])
    folder = StudyFolder(file.parent / "runs" / "demo")
    models = load_models(study, folder, 0)
    with tempfile.TemporaryDirectory() as aside:
        began = time.perf_counter()
        probe = open_probe(study, models.base, Path(aside) / "cache", models.encoder, models.identity)
        built = time.perf_counter() - began
    places = [
        (record.number, epoch) for record in folder.records() for epoch in folder.sampled_epochs(record.number) if epoch
    ]
    looks = [folder.samples(*place) for place in places]
    images = [look.reshape(-1, *look.shape[2:]) for look in looks]
    shown = judge(load_judges(), np.concatenate(images))["concept"].numpy()[:, LABELS["concept"].index(concept)]
    began = time.perf_counter()
    gains = [probe.gains(each, probe.labels) for each in images]
    seconds = (time.perf_counter() - began) / len(shown)
    calibration = probe.calibration
    gained = np.concatenate([each for each in gains if each is not None]) / calibration.critic
    read = {
        "encoder": recognised(calibration.subject, models.encoder.images(np.concatenate(images))),
        "critic": share_of(gained, CRITIC_WIDTH),
    }
    read["both"] = read["encoder"] * read["critic"]
    found = agreement(shown, read, len(probe.labels))
    if fresh:
        scores = scored(folder, calibration, places, read)
        found |= ranked(shown, scores, right_of(file, concept, folder, places, fresh))
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


def scored(
    folder: StudyFolder,
    calibration: Calibration,
    places: Sequence[tuple[int, int]],
    read: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """`[checkpoints]` of scores by each reading: all else is what the search read."""
    from metrics.checkpoint.score import limits_of, score_within

    known = {
        (number, row.epoch): {name: reading.value for name, reading in row.channels.items()}
        for number in {number for number, _ in places}
        for row in folder.trajectory(number).readings
    }
    found = {}
    for name, values in read.items():
        means = values.reshape(len(places), -1).mean(axis=1)
        channels = [known[place] | {"recognised": float(mean)} for place, mean in zip(places, means, strict=True)]
        known_as = replace(calibration, critic=0.0) if name == "encoder" else calibration
        found[name] = np.array([score_within(limits_of(known_as, each), each) for each in channels])
    return found


def right_of(
    file: Path, concept: str, folder: StudyFolder, places: Sequence[tuple[int, int]], fresh: int
) -> np.ndarray:
    """`[checkpoints]`: the share of fresh images in which all is right; NaN where the checkpoint was not kept."""
    from benchmarks.demo_truth import Truth

    kept = file.with_name(f"right-{fresh}.json")
    known: dict[str, float] = json.loads(kept.read_text()) if kept.is_file() else {}
    truth: Truth | None = None
    for number, epoch in places:
        lora, key = folder.checkpoint(number, epoch) / "lora.safetensors", f"{number}/{epoch}"
        if key not in known and lora.is_file():
            truth = truth or Truth(concept, fresh)
            known[key] = float(truth.of_file(lora).mean())
            kept.write_text(json.dumps(known))
    return np.array([known.get(f"{number}/{epoch}", np.nan) for number, epoch in places])


def ranked(shown: np.ndarray, scores: Mapping[str, np.ndarray], right: np.ndarray) -> dict[str, float]:
    """Rank correlation of scores with the truth over learned checkpoints, and the truth of each one's best."""
    from scipy.stats import spearmanr

    learned = (shown.reshape(len(right), -1).mean(axis=1) > LEARNED) & np.isfinite(right)
    found = {"right, best": float(right[learned].max()), "right, mean": float(right[learned].mean())}
    for name, values in scores.items():
        found[f"{name}, score"] = float(spearmanr(values[learned], right[learned])[0])
        found[f"{name}, right of its best"] = float(right[learned][values[learned].argmax()])
    return found


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over concepts of the means over their searches, and the lowest of each."""
    found: dict[str, Any] = {}
    for name in (
        f"{by}, {of}"
        for by in ("encoder", "critic", "both")
        for of in ("images", "checkpoints", "score", "right of its best")
    ):
        means = [
            np.mean([row[name] for row in rows if row["concept"] == concept and name in row])
            for concept in sorted({row["concept"] for row in rows if name in row})
        ]
        if means:
            found[name] = {"mean": float(np.mean(means)), "lowest concept": float(np.min(means))}
    return found


if __name__ == "__main__":
    sys.exit(main())
