"""How many noises does the loss of a held-out photo need at each noise level? Runs of the demo, read with four.

python -m benchmarks.loss_draws [--quick] [--json FILE]     about 15 minutes; --quick: one short run

For each run and loss, the standard error of the curve's shape (of a checkpoint against the lowest one, median over
checkpoints): that of the photos, four noises each, and what one noise instead of infinitely many adds. And where the
onsets lie when one noise is read instead of all four.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from search.probe.probe import Probe, open_probe

STUDY = Path(__file__).parent.parent / "studies" / "demo.yaml"
DRAWS = 4
AS_IT_WAS = ("train.batch_size=1", "score.losses.levels=8")
"""Settings of the demo until 2026-11-28, with which this was measured."""
RUNS: Mapping[str, Mapping[str, Any]] = {
    "AdamW": {"optimizer": "AdamW", "learning_rate_scale": 20.0, "rank": 16},
    "AdamW, fast": {"optimizer": "AdamW", "learning_rate_scale": 80.0, "rank": 16},
    "Lion, fast": {"optimizer": "Lion", "learning_rate_scale": 80.0, "rank": 8},
}
EPOCHS = (1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 32)


@contextmanager
def opened() -> Iterator[Probe]:
    """The demo study's probe."""
    from search.record.record import StudyFolder
    from search.running.worker_process import load_models
    from search.study.study import load_study

    study = load_study(STUDY, AS_IT_WAS)
    with tempfile.TemporaryDirectory() as home:
        folder = StudyFolder(Path(home))
        models = load_models(study, folder, 0)
        yield open_probe(study, models.base, folder.cache, models.encoder, models.identity)


def read(probe: Probe, settings: Mapping[str, Any], epochs: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Loss to ln ratios `[T, N, levels, DRAWS]` at epoch 0 and these."""
    from metrics.channels.losses import log_ratios
    from trainer.inference.sample import with_lora
    from trainer.packing.builder import pack_settings, run_settings
    from trainer.packing.pack import Pack

    config = probe.config.model_copy(update={"epochs": epochs[-1], "lr_scheduler": "constant", **settings})
    ready = {name: replace(each, draws=DRAWS) for name, each in probe.losses.items()}
    at_base = {name: each.losses() for name, each in ready.items()}
    found: dict[str, list[np.ndarray]] = {name: [np.zeros(losses.shape)] for name, losses in at_base.items()}
    pack = Pack(probe.base, probe.trained, pack_settings(config), cache=probe.cache)
    with tempfile.TemporaryDirectory() as aside:
        run = pack.join(run_settings(config), run_dir=Path(aside))
        while not run.finished:
            pack.train_epoch()
            if run.epoch not in epochs:
                continue
            with with_lora(probe.base, run.lora_weights()):
                for name, each in ready.items():
                    found[name].append(log_ratios(each.losses(), at_base[name]))
    return {name: np.stack(rows) for name, rows in found.items()}


def shape_errors(ratios: np.ndarray) -> tuple[float, float]:
    """(of the photos as they were read, of one noise): medians over checkpoints of `[T, N, levels, DRAWS]`."""
    lowest = int(ratios.mean(axis=(1, 2, 3)).argmin())
    against = np.delete(ratios, [0, lowest], axis=0) - ratios[lowest]
    count, levels = against.shape[1:3]
    photos = against.mean(axis=(2, 3)).std(axis=1, ddof=1) / np.sqrt(count)
    noise = np.sqrt(against.var(axis=3, ddof=1).mean(axis=(1, 2)) / (count * levels))
    return float(np.median(photos)), float(np.median(noise))


def onsets(epochs: tuple[int, ...], losses: Mapping[str, np.ndarray], owners: np.ndarray) -> dict[str, float | None]:
    """Epochs of both onsets."""
    from metrics.channels.bootstrap import reading_of_items
    from metrics.onset.onset import find_onset
    from metrics.trajectory.readings import Readings
    from metrics.trajectory.trajectory import Trajectory

    readings = []
    for row, epoch in enumerate((0, *epochs)):
        items = {f"{name}_loss": each[row] for name, each in losses.items()}
        channels = {name: reading_of_items(values) for name, values in items.items()}
        readings.append(Readings(epoch, 1e-3 * epoch, channels, items | {"shifted_loss_photo": owners}))
    found = find_onset(Trajectory(tuple(readings)))
    return {"context": found.context.epoch, "memory": found.memory.epoch}


def measure(probe: Probe, name: str, epochs: tuple[int, ...]) -> dict[str, Any]:
    losses, owners = read(probe, RUNS[name], epochs), probe.calibration.shifted_photo
    ones = [{loss: each[..., [draw]] for loss, each in losses.items()} for draw in range(DRAWS)]
    return {
        "run": name,
        "errors": {loss: shape_errors(each) for loss, each in losses.items()},
        "onsets with all": onsets(epochs, losses, owners),
        "onsets with one": [onsets(epochs, each, owners) for each in ones],
    }


def told(row: Mapping[str, Any]) -> str:
    errors = "; ".join(f"{name} {photos:.4f}, {noise:.4f}" for name, (photos, noise) in row["errors"].items())
    lines = [f"{row['run']}: errors of photos, of one noise: {errors}"]
    for kind, epoch in row["onsets with all"].items():
        single = ", ".join("none" if one[kind] is None else f"{one[kind]:.1f}" for one in row["onsets with one"])
        every = "none" if epoch is None else f"{epoch:.1f}"
        lines.append(f"  {kind} onset with {DRAWS} noises: {every}; with one: {single}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loss_draws",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one short run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    args = parser.parse_args(arguments)
    rows = []
    with opened() as probe:
        for name in ("AdamW, fast",) if args.quick else RUNS:
            rows.append(measure(probe, name, EPOCHS[1:5] if args.quick else EPOCHS))
            print(told(rows[-1]), flush=True)
            if args.json:
                args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
