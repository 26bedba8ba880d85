"""The demo study side by side with what people write themselves: time to a verdict, and how good the LoRA truly is.

python -m benchmarks.study [--json FILE]      all trials of the demo
python -m benchmarks.study --quick            two short trials, which say little of the LoRA
python -m benchmarks.study --loras FILE…      only the true quality of LoRAs of the demo's concept

Three searches of the same space with the same photos, probe, score and number of trials, one after the other, each
with two workers of one thread: a *process* for each trial with a plain diffusers + peft script; a *resident* Optuna
objective with MedianPruner (`benchmarks.study_rivals`); and *Onset*. True quality is the share of fresh images of the
LoRA that each of them ships in which all is right (`benchmarks.strict_truth`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.study_rivals import BASE, GUIDANCE, SIDE, STEPS, Plain, Task, open_study

if TYPE_CHECKING:
    from search.study.space import Entry
    from search.study.study import Study
    from trainer.lora.lora import LoraWeights

STUDY = BASE.parent.parent / "demo.yaml"
CONCEPT, FRESH = "mushroom", 64
QUICK = {
    "budget.trials": "2",
    "budget.startup_trials": "1",
    "train.epochs": "2",
    "train.save_every_n_epochs": "1",
    "sampler.start_with": "[]",
}
QUICK_HORIZONS = (1, 2)
GOALS = {"Onset over process": 0.1, "Onset over resident": 1 / 3}


def run_onset(work: Path, *, quick: bool) -> tuple[float, dict[str, Any]]:
    """(seconds, verdict)."""
    command = [sys.executable, "-m", "search.run", str(STUDY), "--runs", str(work)]
    changes = dict(QUICK)
    horizons = {"values": QUICK_HORIZONS, "when": {"lr_scheduler": ["cosine", "cosine_with_restarts"]}}
    changes["search.epochs"] = json.dumps(horizons)
    for key, value in changes.items() if quick else ():
        command += ["--set", f"{key}={value}"]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began, json.loads((work / "demo" / "verdict.json").read_text())


def task_of(folder: Path, *, quick: bool) -> Task:
    """What the rivals are given: the photos that Onset trained on and the probe that it drew."""
    from search.record.probe_description import ProbeDescription
    from search.study.study import load_study
    from trainer.data.dataset import scan_dataset

    study, about = load_study(STUDY), ProbeDescription.load(folder / "probe.json")
    photos = [photo for photo in scan_dataset(study.data).photos if not photo.is_reg]
    return Task(
        trials=2 if quick else study.budget.trials,
        startup=1 if quick else int(study.budget.startup_trials or 6),
        epochs=2 if quick else int(study.train["epochs"]),
        horizons=QUICK_HORIZONS if quick else tuple(_searched(study, "epochs").values),
        every=1 if quick else int(study.train["save_every_n_epochs"]),
        batch=int(study.train["batch_size"]),
        scales=(_searched(study, "learning_rate_scale").low, _searched(study, "learning_rate_scale").high),
        start=() if quick else tuple(study.sampler.start_with),
        photos=tuple(str(photo.path) for photo in photos),
        captions=tuple(photo.caption for photo in photos),
        trained=about.trained_rows,
        probe={name: list(values) for name, values in about.labels.items()},
    )


def _searched(study: Study, field: str) -> Entry:
    return next(entry for entry in study.space.entries if entry.field == field)


def run_rival(work: Path, kind: str, task: Task) -> tuple[float, Any]:
    """(seconds until the last trial has ended, the Optuna study)."""
    work.mkdir(parents=True)
    task.save(work)
    study = open_study(work, task, kind)
    for settings in task.start:
        study.enqueue_trial(settings)
    command = [sys.executable, "-m", "benchmarks.study_rivals", "worker", str(work), kind]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    began = time.perf_counter()
    workers = [subprocess.Popen([*command, str(slot)], env=one_thread) for slot in range(2)]
    ended = [worker.wait() for worker in workers]
    if any(ended):
        raise SystemExit(f"a worker of {kind} failed")
    return time.perf_counter() - began, open_study(work, task, kind)


class Truth:
    """Strict quality of a concept's LoRAs on so many prompts and seeds that no probe has."""

    def __init__(self, concept: str = CONCEPT, fresh: int = FRESH, device: str = "cpu") -> None:
        from studies.demo.scenes import concept_caption, draw_concept, find_concept
        from trainer.base_model.load import load_base

        self._name, self._concept = concept, find_concept(concept)
        scenes = draw_concept(concept, "new", 3 * fresh, 70_002)
        asked = [scene.attributes for scene in scenes if not scene.attributes.other][:fresh]
        self.prompts = [concept_caption(self._concept, attributes) for attributes in asked]
        self.seeds = list(range(70_002, 70_002 + len(asked)))
        self._base = load_base(BASE, device=device)
        self._plain = self._drawn(None)

    def right(self, images: np.ndarray) -> np.ndarray:
        """In which of the images, one for each prompt, all is right."""
        from benchmarks.strict_truth import damaged, judged, right, roughness
        from studies.demo.judges import load_judges

        seen = judged(load_judges(), images, self.prompts, self._name, self._concept.set_places)
        return right(seen, damaged(roughness(images), roughness(self._plain)))

    def of_file(self, file: Path) -> np.ndarray:
        """The same of a LoRA's images."""
        from trainer.lora.kohya_file import load_lora

        return self.right(self._drawn(load_lora(file)))

    def of_rival(self, plain: Plain, work: Path, study: Any) -> np.ndarray:
        """The same of the best LoRA of a rival's study, drawn by that rival."""
        best = study.best_trial
        file = work / str(best.number) / f"{best.user_attrs['epoch']:04d}.safetensors"
        plain.load(file, best.user_attrs["settings"])
        try:
            return self.right(plain.draw(self.prompts, self.seeds))
        finally:
            plain.pipeline.unet.delete_adapters("default")
            plain.pipeline.unet.unload_lora()

    def _drawn(self, lora: LoraWeights | None) -> np.ndarray:
        from trainer.inference.sample import sample

        size = (SIDE, SIDE)
        return sample(self._base, lora, self.prompts, self.seeds, size=size, steps=STEPS, guidance=GUIDANCE)


def compare(work: Path, *, quick: bool) -> dict[str, Any]:
    seconds, verdict = run_onset(work, quick=quick)
    print(f"Onset: {seconds:.0f} s, {verdict['headline']}", flush=True)
    rows: dict[str, dict[str, Any]] = {"Onset": {"seconds": seconds, "score": verdict["decision"]["score"]}}
    task = task_of(work / "demo", quick=quick)
    studies = {}
    for kind in ("resident", "process"):
        seconds, studies[kind] = run_rival(work / kind, kind, task)
        rows[kind] = {"seconds": seconds, "score": studies[kind].best_value, "trials": len(studies[kind].trials)}
        print(f"{kind}: {seconds:.0f} s, score {studies[kind].best_value:.3f}", flush=True)
    truth, plain = Truth(fresh=16 if quick else FRESH), Plain(task)
    rows["Onset"]["all right"] = float(truth.of_file(work / "demo" / "best" / "demo.safetensors").mean())
    for kind, study in studies.items():
        rows[kind]["all right"] = float(truth.of_rival(plain, work / kind, study).mean())
    return {
        "searches": rows,
        "fresh images": len(truth.prompts),
        "ratios": {f"Onset over {kind}": rows["Onset"]["seconds"] / rows[kind]["seconds"] for kind in studies},
        "goals": GOALS,
        "quick": quick,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two short trials")
    parser.add_argument("--loras", type=Path, nargs="+", help="LoRA files of the demo's concept, to judge alone")
    parser.add_argument("--work", type=Path, help="an empty folder to work in (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    if args.loras:
        truth = Truth()
        for file in args.loras:
            print(f"{file}: {truth.of_file(file).mean():.3f} of {len(truth.prompts)} images are all right")
        return 0
    from benchmarks.train import machine

    figures = {"machine": machine()} | compare(
        args.work or Path(tempfile.mkdtemp(prefix="onset-study-")), quick=args.quick
    )
    for name, row in figures["searches"].items():
        print(f"{name:>10}: {row['seconds']:7.0f} s   score {row['score']:.3f}   all right {row['all right']:.2f}")
    for name, ratio in figures["ratios"].items():
        print(f"{name:>20}: {ratio:.2f} of the time   goal {GOALS[name]:.2f}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
