"""`workers.pack: auto`: how many trials should share a pass here, from a few steps at each width and the memory they
take."""

import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from search.probe.probe import BUILD_SECONDS, Probe
from search.record.lock import locked
from search.record.pack_width import PackWidth
from search.record.record import StudyFolder
from search.running.machine_faults import out_of_memory
from search.running.sharing import Sharing, sharing_of
from search.study.study import Study
from trainer.packing.builder import pack_settings, run_settings
from trainer.packing.pack import Pack

_STEPS = 4
"""Steps at each width; the first one warms caches and does not count."""
_MOST = 16
"""Trials at once that are tried."""
_ROUNDS = 4
"""Trials of a study that follow one another in each place at least: else nothing is learned from the first ones."""
_WORTH = 0.93
"""A doubled width is taken where a trial's share of a step is at most so much of what it was."""
_MEMORY = 0.85
"""Share of the memory that a pack may need, as far as it grows evenly."""


def settled(study: Study, folder: StudyFolder, probe: Probe) -> Sharing:
    """How trials share passes in this study; where the study leaves that to us, the first worker measures it, and the
    study keeps to it."""
    asked = study.workers.pack
    if isinstance(asked, int):
        return sharing_of(study, asked)
    with locked(folder.path / ".pack.lock", wait_seconds=BUILD_SECONDS):
        kept = PackWidth.load(folder, asked)
        if kept is None:
            sharing = measured(study, probe)
            kept = PackWidth(asked, sharing.places, sharing.width or 1)
            kept.save(folder)
    return sharing_of(study, kept.trials)


def measured(study: Study, probe: Probe) -> Sharing:
    """The widest pack that still pays and fits, with at least `_ROUNDS` trials in turn in each place."""
    workers = min(study.workers.count, study.trials)
    most = sharing_of(study, max(1, min(_MOST, study.trials // (_ROUNDS * workers))))
    if most.width is None or most.max_rank is None:
        return Sharing()
    packs = most.places // most.width  # that take turns
    width, each, needed = 1, None, list[float]()
    at = 1
    while at <= most.width:
        try:
            found, memory, room = _at(study, probe, at, most.max_rank)
        except Exception as error:
            if out_of_memory(error) is None:
                raise
            break
        needed.append(memory)
        if each is not None and found > _WORTH * each:
            break
        width, each = at, found
        grows = needed[-1] - needed[-2] if len(needed) > 1 else 0.0
        if needed[-1] + 2 * grows > _MEMORY * room:  # half of the growth was this doubling's
            break
        at *= 2
    if probe.base.device.type == "cuda":
        torch.cuda.empty_cache()
    return sharing_of(study, width * packs)


def _at(study: Study, probe: Probe, width: int, rank: int) -> tuple[float, float, float]:
    """(a trial's seconds of a step, memory needed, memory there is), both in bytes."""
    device = probe.base.device
    config = study.config(next(study.space.combinations()))
    settings = run_settings(config)
    settings = replace(
        settings,
        adapter=replace(settings.adapter, rank=rank),
        schedule=replace(settings.schedule, epochs=_STEPS + 1),
    )
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory(prefix="onset-pack-") as aside:
        pack = Pack(probe.base, probe.trained, pack_settings(config), cache=probe.cache, width=width, max_rank=rank)
        for seat in range(width):
            pack.join(settings, run_dir=Path(aside) / str(seat))
        steps = step_seconds(pack, _STEPS)
    return (min(steps[1:]) / width, *_memory(device))


def step_seconds(pack: Pack, steps: int) -> list[float]:
    """Seconds of each of the first `steps` steps of a pack, or fewer where its runs end before. Then all have left."""
    device, marks = pack.base.device, list[float]()

    def mark(_: Any = None) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        marks.append(time.perf_counter())
        for run in list(pack.runs) if len(marks) > steps else []:
            pack.leave(run)

    mark()
    while any(not run.finished for run in pack.runs):
        pack.train_epoch(mark)
    return [after - before for before, after in pairwise(marks)]


def _memory(device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    import psutil

    own = psutil.Process().memory_info().rss
    return own, own + psutil.virtual_memory().available
