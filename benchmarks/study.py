"""The demo's search beside what people write themselves: how long until each ships as good a LoRA as any of them found.

python -m benchmarks.study FOLDER [--json FILE]     runs what FOLDER lacks, then reports (20 minutes for each concept)
python -m benchmarks.study FOLDER --quick           one concept, two short trials: whether it runs

Three searches of the same space with the same photos, probe, score and starts, one after the other, each with two
workers of one thread: *Onset*, which gives its verdict after six trials and, gone on with, after twelve; a *resident*
Optuna objective with MedianPruner, and a *process* for each trial with a plain diffusers + peft script, both of twelve
trials (`benchmarks.study_rivals`). A search's pick at any moment is the best checkpoint of the trials that have ended:
Onset's terminal names it, a rival's has the best score. Onset's verdict is a pick of its own, on fresh images.

True quality is the share of fresh images in which all is right (`benchmarks.demo_truth`). Which pick is the best that
any search of a concept found is judged on one half of the images. On the other half, a pick is as good if it has fewer
right images than that best one by no more than its paired standard error explains (1.645 of them). A search's time is
that of its first pick that is as good, which the search itself cannot know. One that never gets there counts with its
whole time, and is told.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.demo import CONCEPTS, study_of
from benchmarks.demo_truth import Truth
from benchmarks.study_rivals import Plain, Task, open_study
from search.record.record import StudyFolder, TrialRecord
from search.verdict.decision import best_so_far
from trainer.checkpoint import LORA_FILE

if TYPE_CHECKING:
    from search.study.space import Entry
    from search.study.study import Study

RIVALS = ("resident", "process")
TRIALS, FRESH = (6, 12), 192
QUICK: Mapping[str, Any] = {
    "train": {"epochs": 2, "save_every_n_epochs": 1},
    "search": {"epochs": {"values": [1, 2], "when": {"lr_scheduler": ["cosine", "cosine_with_restarts"]}}},
    "sampler": {"start_with": []},
    "budget": {"trials": 2, "startup_trials": 1},
}
GOALS = {"process": 0.1, "resident": 1 / 3}


@dataclass(frozen=True)
class Pick:
    """What a search would ship.

    Attributes:
        seconds: since the search began. trials: that had ended by then. score: by which it was picked.
        right: "1" for each fresh image in which all is right, "0" for each other.
    """

    seconds: float
    trials: int
    score: float
    right: str

    @property
    def images(self) -> np.ndarray:
        return np.array([image == "1" for image in self.right])


def search_onset(file: Path, work: Path, trials: Sequence[int], truth: Truth) -> list[Pick]:
    """A pick for each trial that has ended, and a verdict for each number of trials: one study gone on with."""
    command = [sys.executable, "-m", "search.run", str(file), "--runs", str(work), "--set"]
    seconds, found, known = 0.0, list[Pick](), dict[Path, str]()
    for number in trials:
        began, clock = datetime.now(), time.perf_counter()
        subprocess.run([*command, f"budget.trials={number}"], check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - clock
        for at, ended, score, lora in _best_so_far(StudyFolder(work / "demo")):
            if at > began:
                known[lora] = known.get(lora) or _kept(truth.of_file(lora))
                found.append(Pick(seconds + (at - began).total_seconds(), ended, score, known[lora]))
        seconds += took
        verdict = json.loads((work / "demo" / "verdict.json").read_text())
        lora = work / "demo" / "best" / "demo.safetensors"
        right = truth.of_file(lora) if lora.is_file() else np.zeros(len(truth.prompts), bool)
        found.append(Pick(seconds, number, verdict["decision"]["score"], _kept(right)))
    return found


def _best_so_far(folder: StudyFolder) -> Iterator[tuple[datetime, int, float, Path]]:
    """When each trial ended, how many had by then, and the best of them as the terminal tells it: score and LoRA."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name="demo", storage=f"sqlite:///{folder.path / 'study.db'}")
    ended = sorted((trial.datetime_complete, trial.number) for trial in study.trials if trial.datetime_complete)
    records = {number: TrialRecord.load(folder.trial(number)) for _, number in ended}
    for count, (at, _) in enumerate(ended, 1):
        best = best_so_far([records[number] for _, number in ended[:count]])
        if best is not None and best.trial is not None and best.epoch is not None:
            yield at, count, best.score or 0.0, folder.checkpoint(best.trial, best.epoch) / LORA_FILE


def task_of(study: Study, folder: Path, trials: int) -> Task:
    """What the rivals are given: the photos that Onset trained on and the probe that it drew."""
    from search.record.probe_description import ProbeDescription
    from trainer.data.dataset import scan_dataset

    about = ProbeDescription.load(folder / "probe.json")
    photos = [photo for photo in scan_dataset(study.data).photos if not photo.is_reg]
    scales = _searched(study, "learning_rate_scale")
    return Task(
        trials=trials,
        startup=int(study.budget.startup_trials or 6),
        epochs=int(study.train["epochs"]),
        horizons=tuple(_searched(study, "epochs").values),
        every=int(study.train["save_every_n_epochs"]),
        batch=int(study.train["batch_size"]),
        scales=(scales.low, scales.high),
        start=tuple(study.sampler.start_with),
        photos=tuple(str(photo.path) for photo in photos),
        captions=tuple(photo.caption for photo in photos),
        trained=about.trained_rows,
        probe={name: list(values) for name, values in about.labels.items()},
        seed=study.seed,
    )


def _searched(study: Study, field: str) -> Entry:
    return next(entry for entry in study.space.entries if entry.field == field)


def search_as_rival(kind: str, work: Path, task: Task, truth: Truth) -> list[Pick]:
    """A pick for each trial that has ended."""
    work.mkdir(parents=True)
    task.save(work)
    study = open_study(work, task, kind)
    for settings in task.start:
        study.enqueue_trial(settings)
    command = [sys.executable, "-m", "benchmarks.study_rivals", "worker", str(work), kind]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    began = datetime.now()
    workers = [subprocess.Popen([*command, str(slot)], env=one_thread) for slot in range(2)]
    ended = [worker.wait() for worker in workers]
    if any(ended):
        raise SystemExit(f"a worker of {kind} failed")
    found, plain = list[Pick](), Plain(task)
    for number, trial in enumerate(sorted(study.trials, key=lambda trial: trial.datetime_complete), 1):
        score, right = (found[-1].score, found[-1].right) if found else (-1.0, "")
        if trial.state.name == "COMPLETE" and trial.value > score:
            file = work / str(trial.number) / f"{trial.user_attrs['epoch']:04d}.safetensors"
            plain.load(file, trial.params["rank"], trial.params["alpha_ratio"])
            score, right = trial.value, _kept(truth.drawn_by(plain.draw))
            plain.unload()
        if right:
            found.append(Pick((trial.datetime_complete - began).total_seconds(), number, score, right))
    return found


def _kept(right: np.ndarray) -> str:
    return "".join(str(int(image)) for image in right)


def searched(folder: Path, concept: str, *, quick: bool) -> dict[str, list[Pick]]:
    """All three searches of a concept, read back where they are there."""
    from search.study.study import load_study

    trials = (2,) if quick else TRIALS
    truth: Truth | None = None
    found: dict[str, list[Pick]] = {}
    for kind in ("Onset", *RIVALS):
        kept = folder / f"{kind}.json"
        if not kept.exists():
            truth = truth or Truth(concept, 16 if quick else FRESH)
            if kind == "Onset":
                folder.mkdir(parents=True, exist_ok=True)
                picks = search_onset(
                    study_of(folder, concept, 0, QUICK if quick else {}), folder / "runs", trials, truth
                )
            else:
                task = task_of(load_study(folder / "demo.yaml"), folder / "runs" / "demo", trials[-1])
                picks = search_as_rival(kind, folder / kind, task, truth)
            kept.write_text(json.dumps([asdict(pick) for pick in picks]))
        found[kind] = [Pick(**pick) for pick in json.loads(kept.read_text())]
        told = ", ".join(f"{pick.images.mean():.3f} after {pick.seconds:.0f} s" for pick in found[kind])
        print(f"{concept}, {kind}: all right {told}", flush=True)
    return found


def first_as_good(searches: Mapping[str, Sequence[Pick]]) -> dict[str, Pick | None]:
    """Each search's first pick that is as good as the best that any of them found; none where no pick is."""
    best = max((pick for picks in searches.values() for pick in picks), key=lambda pick: pick.images[1::2].mean())

    def as_good(pick: Pick) -> bool:
        behind = best.images[::2].astype(float) - pick.images[::2]
        return bool(behind.mean() <= 1.645 * behind.std(ddof=1) / np.sqrt(len(behind)))

    return {kind: next((pick for pick in picks if as_good(pick)), None) for kind, picks in searches.items()}


def compare(concepts: Mapping[str, Mapping[str, Sequence[Pick]]]) -> dict[str, Any]:
    """Times, counts and shares of right images over concepts, and Onset's time over each rival's."""
    firsts = {concept: first_as_good(searches) for concept, searches in concepts.items()}
    rows = {}
    for kind in ("Onset", *RIVALS):
        ends = [searches[kind][-1] for searches in concepts.values()]
        until = [firsts[concept][kind] or searches[kind][-1] for concept, searches in concepts.items()]
        few = min(TRIALS[0], ends[0].trials)
        then = [[pick for pick in searches[kind] if pick.trials <= few][-1] for searches in concepts.values()]
        rows[kind] = {
            "as good": sum(firsts[concept][kind] is not None for concept in concepts),
            "seconds until as good": sum(pick.seconds for pick in until),
            "seconds in all": sum(pick.seconds for pick in ends),
            "right at the end": float(np.mean([pick.images.mean() for pick in ends])),
            f"right after {few} trials": float(np.mean([pick.images.mean() for pick in then])),
            f"seconds for {few} trials": sum(pick.seconds for pick in then),
        }
    ours = rows["Onset"]["seconds until as good"]
    return {"rows": rows, "ratios": {kind: ours / rows[kind]["seconds until as good"] for kind in RIVALS}}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="keeps each search")
    parser.add_argument("--quick", action="store_true", help="one concept, two short trials")
    parser.add_argument("--concepts", nargs="+", default=CONCEPTS)
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    names = args.concepts[:1] if args.quick else args.concepts
    under = args.folder / ("quick" if args.quick else "whole")
    concepts = {name: searched(under / name, name, quick=args.quick) for name in names}
    figures = compare(concepts)
    for kind, row in figures["rows"].items():
        print(f"{kind:>10}: " + "   ".join(f"{name} {value:.4g}" for name, value in row.items()))
    for kind, ratio in figures["ratios"].items():
        print(f"Onset over {kind}: {ratio:.2f} of the time   goal {GOALS[kind]:.2f}")
    if args.json:
        from benchmarks.train import machine

        kept = {c: {kind: [asdict(pick) for pick in picks] for kind, picks in of.items()} for c, of in concepts.items()}
        about = {"machine": machine(), "quick": args.quick, "goals": GOALS}
        args.json.write_text(json.dumps(about | figures | {"concepts": kept}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
