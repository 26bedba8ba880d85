"""What scoring a checkpoint costs beside drawing its images, and how long an onset takes.

python -m benchmarks.score [--quick] [--json FILE]

Drawn and read in turn, round after round, with the demo study's own probe, base and encoder; held-out losses apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[1] / "studies" / "demo.yaml"
GOALS = {"scoring over drawing": 0.2, "onset of 40 checkpoints, seconds": 0.2}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 9")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    from benchmarks.train import machine

    figures = {"machine": machine(), **measure(3 if args.quick else 9)}
    for name, goal in GOALS.items():
        print(f"{name:>34}  {figures[name]:.3f}   goal at most {goal}")
    print(f"{'drawing, scoring, seconds':>34}  {figures['drawing']:.2f}, {figures['scoring']:.2f}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))
    return 0


def measure(rounds: int) -> dict[str, Any]:
    """Medians over rounds of seconds and of their ratio within a round."""
    from metrics.checkpoint.encoders import load_encoder
    from metrics.checkpoint.score import read_checkpoint
    from metrics.onset.onset import find_onset
    from search.probe.probe import open_probe
    from search.study.study import load_study
    from trainer.base_model.load import load_base
    from trainer.inference.sample import sample

    study = load_study(DEMO)
    base = load_base(DEMO.parent / "demo" / "base")
    encoder = load_encoder(str(DEMO.parent / "demo" / "clip"))
    drawing, scoring = [], []
    with tempfile.TemporaryDirectory() as folder:
        probe = open_probe(study, base, Path(folder), encoder, None)
        settings = study.score.probe
        for number in range(rounds):
            began = time.perf_counter()
            images = sample(
                base, None, probe.labels.prompts, [seed + number for seed in probe.labels.seeds],
                size=probe.config.size, steps=settings.steps, guidance=settings.guidance,
                scheduler=settings.scheduler, precision=probe.precision, cache=probe.cache,
            )  # fmt: skip
            drawn = time.perf_counter()
            read_checkpoint(probe.calibration, epoch=number, effort=0.0, images=images)
            drawing.append(drawn - began)
            scoring.append(time.perf_counter() - drawn)
    trajectory, seconds = _forty_checkpoints(), []
    for _ in range(rounds):
        began = time.perf_counter()
        find_onset(trajectory)
        seconds.append(time.perf_counter() - began)
    return {
        "images": len(probe.labels),
        "drawing": statistics.median(drawing),
        "scoring": statistics.median(scoring),
        "scoring over drawing": statistics.median(s / d for s, d in zip(scoring, drawing, strict=True)),
        "onset of 40 checkpoints, seconds": statistics.median(seconds),
        "rounds": rounds,
    }


def _forty_checkpoints() -> Any:
    """Six photos and 48 composites at 40 checkpoints, falling and rising again."""
    import numpy as np

    from metrics.trajectory.readings import Reading, Readings
    from metrics.trajectory.trajectory import Trajectory

    generator = np.random.default_rng(0)
    epochs = np.arange(41) * 3
    course = -0.4 * epochs / (10 + epochs) + 0.1 * (epochs / 60) ** 2
    readings = []
    for epoch, level in zip(epochs.tolist(), course, strict=True):
        items = {
            "heldout_loss": level + 0.03 * generator.normal(size=(6, 8, 2)) * (epoch > 0),
            "shifted_loss": level + 0.03 * generator.normal(size=(48, 4, 1)) * (epoch > 0),
            "shifted_loss_photo": np.arange(48) % 6,
        }
        channels = {name: Reading(level, level - 0.02, level + 0.02) for name in ("heldout_loss", "shifted_loss")}
        readings.append(Readings(epoch, float(epoch), channels, items, float("nan")))
    return Trajectory(tuple(readings))


if __name__ == "__main__":
    sys.exit(main())
