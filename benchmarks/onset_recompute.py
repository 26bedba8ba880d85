"""Trains the packs of the onset benchmark far past overfitting and keeps what was read at every checkpoint.

    python -m benchmarks.onset --recompute --minutes 8 --out /tmp/onset

One file per pack, written whole after each of its runs; a run that is there is read again only for what it lacks.
`--redraw` trains kept packs again for their images alone. Uses CUDA when there is one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import onset_loras
from benchmarks.onset_loras import Checkpoint, Runs
from benchmarks.onset_plan import BATCH_SIZE, ROUNDS, PackPlan, epoch_grid, plans
from benchmarks.onset_reader import Reader, calibrate_pack, detectors_see
from benchmarks.onset_truth import write_tables

if TYPE_CHECKING:
    from benchmarks.onset_world import World
    from trainer.config.config import TrainConfig
    from trainer.families.family import Base

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "studies" / "demo" / "base"
IMAGE_READINGS = 2  # counts up when what is read from images changes; 2: the weaker half of those in new contexts


def recompute(
    out: Path, *, minutes: float, processes: int, only: Sequence[str] = (), device: str = "auto", base: Path = BASE,
    rounds: int = ROUNDS, first: int | None = None, redraw: bool = False, looks: int | None = None,
    loras: Path | None = None,
) -> int:  # fmt: skip
    """Computes packs until the time is up; returns the number of packs in `out`. Packs are shared among processes.

    Of each pack the `first` runs are read, or all. With `redraw` kept packs are trained again and only their images are
    drawn and read anew, at `looks` checkpoints of each run or those that were drawn before. Checkpoints that lie in
    `loras` are not trained again, and those that are trained are kept there.
    """
    out.mkdir(parents=True, exist_ok=True)
    for claim in out.glob("*.claim"):
        claim.unlink()
    wanted = {
        "out": str(out), "end": time.time() + 60 * minutes, "device": device, "base_path": str(base),
        "only": list(only), "rounds": rounds, "first": first, "redraw": redraw, "looks": looks,
        "loras": loras and str(loras),
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.onset_recompute", json.dumps(wanted)]
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    children = [subprocess.Popen(command, cwd=ROOT, env=os.environ | threads) for _ in range(processes)]
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


def work(
    out: Path,
    end: float,
    device: str,
    base_path: Path,
    only: Sequence[str],
    rounds: int,
    first: int | None,
    *,
    redraw: bool,
    looks: int | None,
    loras: str | None,
) -> None:
    """One process: takes the next pack that nobody has claimed, until the time is up."""
    import torch

    from trainer.base_model.load import load_base

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    base = load_base(base_path, device=device)
    for plan in plans(rounds):
        if time.time() > end - 20:
            return
        if only and not any(part in plan.name for part in only):
            continue
        done = _redrawn(out, plan, looks) if redraw else _complete(out, plan, first)
        if done or not _claim(out, plan):
            continue
        started, kept = time.time(), Path(loras) if loras else None
        try:
            finished = compute_pack(plan, base, out, end, first, redraw=redraw, looks=looks, loras=kept)
        except Exception as error:  # one broken pack must not cost the others their time
            import traceback

            (out / f"{plan.name}.error.txt").write_text(traceback.format_exc())
            print(f"{plan.name}: {type(error).__name__}: {error}", flush=True)
            continue
        print(f"{plan.name}: {finished} runs in {time.time() - started:.0f} s", flush=True)


def _read(out: Path, plan: PackPlan) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What is there of a pack: its arrays, and what is said about it (nothing when there is none)."""
    path = out / f"{plan.name}.npz"
    if not path.is_file():
        return {}, {}
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(bytes(arrays.pop("about")))


def _complete(out: Path, plan: PackPlan, first: int | None) -> bool:
    arrays, about = _read(out, plan)
    wanted = list(plan.runs)[:first]
    return set(about.get("images", {})) >= set(wanted) and not any(_lacking(plan, arrays, name) for name in wanted)


def _lacking(plan: PackPlan, arrays: dict[str, np.ndarray], run: str) -> tuple[str, ...]:
    return tuple(name for name in detectors_see(plan) if f"{run}/{name}" not in arrays)


def _redrawn(out: Path, plan: PackPlan, looks: int | None = None) -> bool:
    """Whether what is kept of a pack's images is what is read today, at as many checkpoints of each run as are wanted
    (nothing kept is, too)."""
    arrays, about = _read(out, plan)
    current = not about or about.get("image_readings") == IMAGE_READINGS
    kept = about.get("images", {})
    return current and all(set(_looked_at(arrays, kept, name, looks)) <= set(map(int, kept[name])) for name in kept)


def _looked_at(arrays: dict[str, np.ndarray], kept: dict[str, Any], run: str, looks: int | None) -> list[int]:
    """Epochs of a run whose images are drawn: those that were, or `looks` evenly over its checkpoints."""
    if looks is None:
        return [int(epoch) for epoch in kept[run] if int(epoch)]
    epochs = arrays[f"{run}/epochs"][1:]
    return epochs[np.unique(np.linspace(0, len(epochs) - 1, min(looks, len(epochs))).round().astype(int))].tolist()


def _claim(out: Path, plan: PackPlan) -> bool:
    try:
        (out / f"{plan.name}.claim").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def compute_pack(
    plan: PackPlan, base: Base, out: Path, end: float, first: int | None = None, *, redraw: bool = False,
    looks: int | None = None, loras: Path | None = None,
) -> int:  # fmt: skip
    """Trains one pack, then reads its first runs one after the other, each kept as soon as it is read; returns how
    many are there.

    Of runs that are there, images are drawn and read anew where what is read of them has changed; their losses and true
    onsets stay, of the training that they were read in. With `redraw` that is all.

    Raises:
        FileNotFoundError: the judges are not built, so that what is true of kept images would be lost.
    """
    arrays, about = _read(out, plan)
    images, device = about.get("images", {}), _device_name(base.device)
    world, trained = trained_pack(plan, base, loras)
    reader = Reader(plan, world, base)
    arrays |= {f"{key}_photo": owners for key, owners in world.owners.items()}
    if not _redrawn(out, plan, looks):
        if reader.judges is None:
            raise FileNotFoundError("no judges: python -m studies.demo.build trains them")
        for name in images:
            wanted = [epoch for epoch in _looked_at(arrays, images, name, looks) if epoch in trained[name]]
            looked, images[name] = reader.look(trained[name], wanted)
            arrays |= {f"{name}/{key}": values for key, values in looked.items()}
        about["images_device"] = device
        _save(out, plan, arrays, images, about["device"], images_device=device)
    for name in list(plan.runs)[:first]:
        if redraw or time.time() > end or len(trained[name]) < 8:
            continue
        if name in images:
            lacking = _lacking(plan, arrays, name)
            if not lacking:
                continue
            kept = {key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")}
            more = reader.read_more(trained[name], kept, lacking)
            if more is not None:
                arrays |= {f"{name}/{key}": values for key, values in more.items()}
                _save(out, plan, arrays, images, about["device"], images_device=about["images_device"])
                continue
            print(f"{plan.name}/{name}: trained again it is another run, so all of it is read", flush=True)
            devices = {*about["device"].split(" and "), _device_name(base.device)}
            about["device"] = device = " and ".join(sorted(devices))
        read, images[name] = reader(trained[name])
        arrays |= {f"{name}/{key}": values for key, values in read.items()}
        _save(out, plan, arrays, images, device, images_device=device)
        print(f"{plan.name}/{name} read at {time.strftime('%H:%M:%S')}", flush=True)
    return len(images)


def trained_pack(plan: PackPlan, base: Base, loras: Path | None = None) -> tuple[World, Runs]:
    """A pack's world, and every run's checkpoints: those kept in `loras`, else trained (and kept there)."""
    from benchmarks.onset_world import make_world, write_photos

    world = make_world(plan, base)
    if loras and onset_loras.kept(loras, plan):
        return world, onset_loras.load(loras, plan)
    scratch = Path(tempfile.mkdtemp(prefix="onset-"))
    try:
        runs = _train(plan, base, write_photos(scratch / "photos", plan, world), scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if loras:
        onset_loras.keep(loras, plan, runs)
    return world, runs


def _train(plan: PackPlan, base: Base, photos: Path, scratch: Path) -> Runs:
    """Every run's checkpoints on the fine grid."""
    from trainer.data.dataset import scan_dataset
    from trainer.packing.builder import pack_settings, run_settings
    from trainer.packing.pack import Pack

    dataset = scan_dataset(photos)
    configs = {name: training_config(plan, name, dataset.root) for name in plan.runs}
    pack = Pack(base, dataset, pack_settings(next(iter(configs.values()))))
    runs = {name: pack.join(run_settings(config), run_dir=scratch / name) for name, config in configs.items()}
    found: Runs = {name: {} for name in runs}
    grids = {name: set(epoch_grid(plan.horizon(name))) for name in runs}
    while any(run.failed is None and not run.finished for run in runs.values()):
        pack.train_epoch()
        for name, run in runs.items():
            if run.failed is None and run.epoch in grids[name] and run.epoch not in found[name]:
                found[name][run.epoch] = Checkpoint(float(run.effort), run.lora_weights())
    return found


def training_config(plan: PackPlan, name: str, data: Path) -> TrainConfig:
    """How a run of a pack is trained."""
    from trainer.config.config import TrainConfig

    settings = {key: value for key, value in plan.runs[name].items() if key != "horizon"}
    return TrainConfig(
        base=str(BASE), data=str(data), resolution=64, batch_size=BATCH_SIZE, epochs=plan.horizon(name), seed=plan.seed,
        **settings,
    )  # fmt: skip


def rescore(out: Path) -> None:
    """The scores of kept packs anew from their kept channels, after `score_of` has changed; packs that lack channels it
    reads are left as they are and named."""
    from benchmarks.onset_world import draw, make_world
    from metrics.checkpoint.score import score_of
    from metrics.trajectory.readings import Reading
    from trainer.base_model.load import load_base

    base = load_base(BASE)
    for plan in plans():
        arrays, about = _read(out, plan)
        if not about:
            continue
        if not _redrawn(out, plan):
            print(f"{plan.name}: its images must be read anew: --redraw", flush=True)
            continue
        world = make_world(plan, base)
        drawn = draw(base, None, world.labels.prompts, world.labels.seeds)
        calibration = calibrate_pack(plan, world, base, drawn)
        for looks in about["images"].values():
            for seen in looks.values():
                names = [name for name in seen if f"{name}_low" in seen]
                channels = {name: Reading(seen[name], seen[f"{name}_low"], seen[f"{name}_high"]) for name in names}
                seen["score"] = score_of(calibration, channels)
        _save(out, plan, arrays, about["images"], about["device"], images_device=about["images_device"])
        print(f"{plan.name} scored anew", flush=True)
    write_tables(out)


def _save(
    out: Path, plan: PackPlan, arrays: dict[str, np.ndarray], images: dict[str, Any], device: str, *, images_device: str
) -> None:
    about = {
        "pack": plan.name, "concept": plan.concept, "num_photos": plan.num_photos, "seed": plan.seed,
        "runs": plan.runs, "images": images, "device": device, "images_device": images_device,
        "image_readings": IMAGE_READINGS,
    }  # fmt: skip
    aside = out / f".{plan.name}.{os.getpid()}"
    with aside.open("wb") as file:
        np.savez_compressed(
            file, allow_pickle=False, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays
        )
    os.replace(aside, out / f"{plan.name}.npz")


def _device_name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    work(**asked | {name: Path(asked[name]) for name in ("out", "base_path")})
