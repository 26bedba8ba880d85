"""What the coordinator itself costs for each event, however many trials a study has: real coordinator, real Optuna, a
real database, and workers that train nothing.

python -m benchmarks.coordinator [--trials 50 1500 10000] [--workers 32] [--events 300] [--verdict] [--quick]
    [--json FILE]

A study with so many trials behind it is written, as a search leaves it, and goes on for some events. Processor time is
told apart: the coordinator's own, Optuna's (samplers), the storage's (SQLAlchemy and the database's driver), that of
finding onsets, that of writing files. `--verdict` also times verdict and report where so many trials have ended and
none runs, and says how large the report is.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna

import metrics.trajectory.trajectory
import search.record.json_files
import search.tuning.ledger
from benchmarks.coordinator_stopwatch import Stopwatch, methods_of
from benchmarks.coordinator_study import Enough, StandIns, begun_study
from search.record.clock import Clock
from search.running import trial_end
from search.running.coordinator import Coordinator
from search.running.progress import Board
from search.tuning.pruner import PeerPruner

LAYERS = ("own", "optuna", "storage")


def main() -> int:
    """Prints a line for each size of study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[50, 1500, 10000], help="that have ended before")
    parser.add_argument("--workers", type=int, default=32, help="simulated ones, each with a trial")
    parser.add_argument("--events", type=int, default=300, help="checkpoints to take in")
    parser.add_argument("--verdict", action="store_true", help="also the verdict and the report")
    parser.add_argument("--quick", action="store_true", help="two sizes, 8 workers, 60 events: at most three minutes")
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.trials, arguments.workers, arguments.events = [50, 1500], 8, 60
    watch = watched()
    found = []
    for trials in arguments.trials:
        with tempfile.TemporaryDirectory() as home:
            figures = measured(watch, Path(home), trials, arguments.workers, arguments.events)
            print(told(figures), flush=True)
        if arguments.verdict:
            with tempfile.TemporaryDirectory() as home:
                figures |= verdict_of(Path(home), trials)
            print(told_verdict(figures), flush=True)
        found.append(figures)
        if arguments.json is not None:  # after each, since the largest takes long
            arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def watched() -> Stopwatch:
    """A stopwatch that sees what Optuna, the storage and the workers' stand-ins do."""
    from optuna.storages import RDBStorage
    from optuna.storages._cached_storage import _CachedStorage

    watch = Stopwatch()
    watch.watch(RDBStorage, methods_of(RDBStorage), "storage")
    watch.watch(_CachedStorage, methods_of(_CachedStorage), "optuna")
    watch.watch(optuna.Study, ["tell", "add_trial", "add_trials", "get_trials"], "optuna")
    watch.watch(optuna.trial.Trial, ["__init__", "_suggest", "relative_params", "report", "set_user_attr"], "optuna")
    watch.watch(search.tuning.ledger, ["sampler_for"], "optuna")  # which makes Optuna's samplers
    watch.watch(PeerPruner, ["prune"], "own")
    watch.watch(trial_end, ["confirmed_onset", "find_onset"], "onset")
    for module in (search.record.json_files, metrics.trajectory.trajectory):
        watch.watch(module, ["write_whole"], "files")
    watch.watch(StandIns, ["send", "receive"], "workers")
    watch.watch_task(Coordinator, "_fill", "ask")
    watch.watch_task(Coordinator, "_checkpointed", "checkpoint")
    watch.watch_task(Coordinator, "_end", "end")
    return watch


def measured(watch: Stopwatch, home: Path, trials: int, workers: int, events: int) -> dict[str, Any]:
    """Milliseconds of processor time for each task, by layer."""
    study, folder = begun_study(home, trials, workers)
    team, board = StandIns(folder, workers), Board(study.name, study.trials, workers)
    began = time.perf_counter()
    coordinator = Coordinator(study, folder, team, board, clock=Clock(folder))
    resumed = time.perf_counter() - began
    team.stop_after(2 * workers)  # everything has been imported, and seen once, after these
    _run(coordinator)
    team.told = 0
    team.stop_after(events)
    first_ask = len(coordinator.optuna_study.get_trials(deepcopy=False))
    watch.begin()
    began = time.perf_counter()
    _run(coordinator)
    figures: dict[str, Any] = {
        "trials": trials,
        "workers": workers,
        "events": team.told,
        "resume_seconds": round(resumed, 2),
        "wall_ms_per_event": round(1e3 * (time.perf_counter() - began) / team.told, 3),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    own = sum(spent for (_, layer), spent in watch.seconds.items() if layer == "own")
    figures["own_ms_per_event"] = round(1e3 * own / team.told, 3)
    asks = len(coordinator.optuna_study.get_trials(deepcopy=False)) - first_ask
    for task in ("checkpoint", "ask", "end"):
        times = len(watch.each[task]) if task != "ask" else asks
        layers = {layer for name, layer in watch.seconds if name == task}
        figures[task] = {"times": times} | {
            layer: round(1e3 * watch.seconds[task, layer] / max(1, times), 3) for layer in sorted(layers)
        }
        if watch.each[task]:
            figures[task]["own_median"] = round(1e3 * statistics.median(watch.each[task]), 3)
    figures["loop_own_ms_per_event"] = round(1e3 * watch.seconds["loop", "own"] / team.told, 3)
    return figures


def _run(coordinator: Coordinator) -> None:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.suppress(Enough):
        coordinator.run()


def told(figures: dict[str, Any]) -> str:
    """One size of study in a line."""
    parts = []
    for task in ("checkpoint", "ask", "end"):
        about = figures[task]
        parts.append(f"{task} ({about['times']}): " + " ".join(f"{k} {v}" for k, v in about.items() if k != "times"))
    head = f"{figures['trials']} trials, {figures['workers']} workers, {figures['events']} checkpoints"
    own = f"own {figures['own_ms_per_event']} for each (the loop {figures['loop_own_ms_per_event']})"
    last = f"wall {figures['wall_ms_per_event']} ms for each; going on took {figures['resume_seconds']} s"
    lines = [f"{head}; ms of processor time: {own}", *parts, f"{last}; peak {figures['peak_gib']} GiB"]
    return "\n  ".join(lines)


def verdict_of(home: Path, trials: int) -> dict[str, Any]:
    """Seconds of the verdict and of all that goes with it, where so many trials have ended; the report's size."""
    from search.verdict.verdict import finish, make_verdict

    _, folder = begun_study(home, trials, 0)
    began = time.perf_counter()
    make_verdict(folder)
    alone = time.perf_counter() - began
    began = time.perf_counter()
    finish(folder)
    return {
        "verdict_seconds": round(alone, 1),
        "finish_seconds": round(time.perf_counter() - began, 1),
        "peak_gib_with_verdict": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "report_mb": round(folder.report.stat().st_size / 1e6, 2),
    }


def told_verdict(figures: dict[str, Any]) -> str:
    """The end of one size of study in a line."""
    return (
        f"  verdict {figures['verdict_seconds']} s; verdict, best/, sheets and report {figures['finish_seconds']} s; "
        f"report {figures['report_mb']} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
