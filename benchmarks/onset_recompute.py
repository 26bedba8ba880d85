"""Trains the packs of the onset benchmark far past overfitting and keeps what was read at every checkpoint.

    python -m benchmarks.onset --recompute --minutes 8 --out /tmp/onset

One file per pack, written whole; a pack that is there is not computed again. Uses CUDA when there is one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.onset_plan import BATCH_SIZE, HELD_OUT, PackPlan, epoch_grid, plans
from benchmarks.onset_truth import write_tables

ROOT = Path(__file__).resolve().parent.parent
BASE, CLIP = ROOT / "studies" / "demo" / "base", ROOT / "studies" / "demo" / "clip"
LOSS_ROWS = {"cuda": 4096, "cpu": 96}
IMAGE_EVERY = 5  # checkpoints of the grid
REPLICATES = 40  # of the truth, for its own interval


def recompute(
    out: Path, *, minutes: float, processes: int, only: str | None = None, device: str = "auto", base: Path = BASE,
    rounds: int = 2,
) -> int:  # fmt: skip
    """Computes packs until the time is up; returns the number of packs in `out`. Packs are shared among processes."""
    out.mkdir(parents=True, exist_ok=True)
    for claim in out.glob("*.claim"):
        claim.unlink()
    end = time.time() + 60 * minutes
    command = [sys.executable, "-m", "benchmarks.onset_recompute", str(out), str(end), device, str(base), str(rounds)]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    children = [subprocess.Popen([*command, only or ""], cwd=ROOT, env=alone) for _ in range(processes)]
    try:
        for child in children:
            child.wait()
    except KeyboardInterrupt:
        for child in children:
            child.terminate()
    for claim in out.glob("*.claim"):
        claim.unlink()
    write_tables(out)
    return len(list(out.glob("*.npz")))


def work(out: Path, end: float, device: str, base_path: Path, only: str | None, rounds: int) -> None:
    """One process: takes the next pack that nobody has claimed, until the time is up."""
    import torch

    from trainer.base import load_base

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1 if device == "cuda" else max(1, (os.cpu_count() or 2)))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    base = load_base(base_path, device=device)
    for plan in plans(rounds):
        if time.time() > end - 20:
            return
        if (only and only not in plan.name) or _complete(out, plan) or not _claim(out, plan):
            continue
        started = time.time()
        try:
            finished = compute_pack(plan, base, out, end)
        except Exception as error:  # one broken pack must not cost the others their time
            import traceback

            (out / f"{plan.name}.error.txt").write_text(traceback.format_exc())
            print(f"{plan.name}: {type(error).__name__}: {error}", flush=True)
            continue
        print(f"{plan.name}: {finished} epochs in {time.time() - started:.0f} s", flush=True)


def _complete(out: Path, plan: PackPlan) -> bool:
    """Whether the pack was read to its last epoch; one that ran out of time before is computed anew."""
    path = out / f"{plan.name}.npz"
    if not path.is_file():
        return False
    with np.load(path) as arrays:
        return bool(arrays["epochs"][-1] >= plan.epochs)


def _claim(out: Path, plan: PackPlan) -> bool:
    try:
        (out / f"{plan.name}.claim").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def compute_pack(plan: PackPlan, base: Any, out: Path, end: float) -> int:
    """Trains and reads one pack, keeping what was read at every tenth checkpoint; returns the epochs reached."""
    from benchmarks.onset_world import Losses, make_world, write_photos
    from trainer.dataset import scan_dataset
    from trainer.pack import Pack

    scratch = Path(tempfile.mkdtemp(prefix="onset-"))
    try:
        world = make_world(plan, base)
        losses = Losses(base, world, plan.seed, LOSS_ROWS[base.device.type])
        record = _Record(plan, world, base, losses([None])[0])
        dataset = scan_dataset(write_photos(scratch / "photos", plan, world))
        pack = Pack(base, dataset, batch_size=BATCH_SIZE, resolution=(64, 64), seed=plan.seed)
        for module in (base.vae, *base.text_encoders):  # the pack parks them; here they are needed all the time
            module.to(base.device)
        runs = {name: pack.join(run_dir=scratch / name, **_keywords(plan, name, dataset.root)) for name in plan.runs}
        grid = epoch_grid(plan.epochs)
        for epoch in range(1, plan.epochs + 1):
            pack.train_epoch()
            if epoch in grid:
                alive = {name: run for name, run in runs.items() if run.failed is None and run.epoch == epoch}
                loras = {name: run.lora_weights() for name, run in alive.items()}
                record.read_losses(epoch, alive, losses(list(loras.values())))
                if grid.index(epoch) % IMAGE_EVERY == 2 or epoch == plan.epochs:
                    record.read_images(epoch, loras)
                if len(record.epochs) % 10 == 0:
                    record.save(out)
                for name in [name for name, run in alive.items() if epoch >= plan.horizon(name)]:
                    pack.leave(runs.pop(name))
            if time.time() > end or not runs:
                break
        record.save(out)
        return record.epochs[-1]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _keywords(plan: PackPlan, name: str, data: Path) -> dict[str, Any]:
    from trainer.config import TrainConfig
    from trainer.pack import build_run_keywords

    settings = {key: value for key, value in plan.runs[name].items() if key != "horizon"}
    config = TrainConfig(
        base=str(BASE), data=str(data), resolution=64, batch_size=BATCH_SIZE, epochs=plan.horizon(name), seed=plan.seed,
        **settings,
    )  # fmt: skip
    return build_run_keywords(config)


class _Record:
    """What is kept of a pack, run by run."""

    def __init__(self, plan: PackPlan, world: Any, base: Any, base_losses: dict[str, np.ndarray]) -> None:
        from benchmarks.onset_world import draw
        from metrics.encoders import load_encoder
        from metrics.score import calibrate

        self.plan, self.world, self.base, self.base_losses = plan, world, base, base_losses
        self.epochs: list[int] = [0]
        self.effort: dict[str, list[float]] = {name: [0.0] for name in plan.runs}
        zero = {name: np.zeros(losses.shape) for name, losses in base_losses.items()}
        self.ratios: dict[str, list[dict[str, np.ndarray]]] = {name: [zero] for name in plan.runs}
        self.images: dict[str, dict[int, dict[str, float]]] = {name: {} for name in plan.runs}
        self.encoder = load_encoder(str(CLIP), device=base.device.type) if CLIP.is_dir() else None
        labels = world.labels
        drawn = draw(base, [None], labels.prompts, labels.seeds)[0]
        trained = np.arange(plan.num_photos + HELD_OUT) < plan.num_photos
        self.calibration = calibrate(
            list(world.photos), world.captions, trained, drawn, labels, self.encoder, base_losses=None
        )
        self.judges = _judges(base.device)
        for name in plan.runs:
            self.images[name][0] = self._look(0, 0.0, drawn)

    def read_losses(self, epoch: int, runs: dict[str, Any], losses: list[dict[str, np.ndarray]]) -> None:
        from metrics.losses import log_ratios

        self.epochs.append(epoch)
        for (name, run), found in zip(runs.items(), losses, strict=True):
            self.effort[name].append(float(run.effort))
            self.ratios[name].append({key: log_ratios(value, self.base_losses[key]) for key, value in found.items()})

    def read_images(self, epoch: int, loras: dict[str, Any]) -> None:
        from benchmarks.onset_world import draw

        labels = self.world.labels
        drawn = draw(self.base, list(loras.values()), labels.prompts, labels.seeds)
        for name, images in zip(loras, drawn, strict=True):
            self.images[name][epoch] = self._look(epoch, self.effort[name][-1], images)

    def _look(self, epoch: int, effort: float, images: np.ndarray) -> dict[str, float]:
        """Channels (value, low, high), the score, and the true quality that the judges see."""
        from metrics.score import read_checkpoint

        readings = read_checkpoint(self.calibration, epoch=epoch, effort=effort, images=images)
        found = {"score": readings.score}
        for channel, reading in readings.channels.items():
            found |= {channel: reading.value, f"{channel}_low": reading.low, f"{channel}_high": reading.high}
        return found | true_quality(self.judges, images, self.world.labels, self.plan.concept)

    def save(self, out: Path) -> None:
        from benchmarks.onset_world import MOVED_SETS

        arrays: dict[str, np.ndarray] = {"epochs": np.array(self.epochs)}
        generator = np.random.default_rng(0)
        for name, ratios in self.ratios.items():
            stacked = {key: np.stack([at[key] for at in ratios]) for key in ratios[0]}
            arrays[f"{name}/effort"] = np.array(self.effort[name])
            for key in ("heldout", "train"):
                arrays[f"{name}/{key}"] = stacked[key].mean(axis=3).astype(np.float16)  # [T, photos, levels]
            arrays[f"{name}/prior"] = stacked["prior"].mean(axis=(2, 3)).astype(np.float16)  # [T, images]
            for key in (f"{kind}{part}" for kind in MOVED_SETS for part in ("", "_inside")):
                arrays[f"{name}/{key}"] = stacked[key].mean(axis=(2, 3)).astype(np.float16)  # [T, composites]
            for key in ("true_set", "true_new"):
                each = stacked[key].mean(axis=(2, 3))  # [T, renders]
                weights = generator.normal(size=(each.shape[1], REPLICATES)) / each.shape[1]
                mean = each.mean(axis=1)
                arrays[f"{name}/{key}"] = mean
                arrays[f"{name}/{key}_replicates"] = ((each - mean[:, None]) @ weights).astype(np.float32)
        about = {
            "pack": self.plan.name, "concept": self.plan.concept, "num_photos": self.plan.num_photos,
            "seed": self.plan.seed, "runs": self.plan.runs, "images": self.images,
            "device": _device_name(self.base.device),
        }  # fmt: skip
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        for key, owners in self.world.owners.items():
            arrays[f"{key}_photo"] = owners
        aside = out / f".{self.plan.name}.{os.getpid()}"
        with aside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        os.replace(aside, out / f"{self.plan.name}.npz")


def _judges(device: Any) -> Any:
    from studies.demo.judges import FILE, load_judges

    return load_judges(device=device) if FILE.is_file() else None


def true_quality(judges: Any, images: np.ndarray, labels: Any, concept: str) -> dict[str, float]:
    """What the laboratory's judges see in the probe's images: is it the concept, and where it was asked to be?

    `true_fidelity`: mean probability of the concept over all images. `true_obedience`: mean probability of the asked
    place, floor, position and size over the images of new contexts. `true_quality`: their product image by image, over
    the images of new contexts.
    """
    if judges is None:
        return {}
    from studies.demo.judges import judge
    from studies.demo.pool import LABELS

    seen = {head: probabilities.cpu().numpy() for head, probabilities in judge(judges, images).items()}
    right = seen["concept"][:, list(LABELS["concept"]).index(concept)]
    obeyed = np.zeros(len(images))
    for row, prompt in enumerate(labels.prompts):
        words = prompt.replace(",", " ").split()
        asked = [
            probabilities[row, list(LABELS[head]).index(word)]
            for head, probabilities in seen.items()
            if head not in ("concept", "shape", "colour")
            for word in words
            if word in LABELS[head]
        ]
        obeyed[row] = np.mean(asked)
    novel = np.array([kind == "C" for kind in labels.sets])
    return {
        "true_fidelity": float(right.mean()),
        "true_obedience": float(obeyed[novel].mean()),
        "true_quality": float((right * obeyed)[novel].mean()),
    }


def _device_name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


if __name__ == "__main__":
    folder, deadline, where, base_folder, number, wanted = sys.argv[1:]
    work(Path(folder), float(deadline), where, Path(base_folder), wanted or None, int(number))
