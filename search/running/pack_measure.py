"""`workers.pack: auto`: how many trials share a pass here, from the study, the size of its images and the memory that a
few measured steps take. The clock has no say: the same study on the same machine shares passes alike."""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from search.probe.probe import Probe
from search.record.lock import locked
from search.record.pack_width import PackWidth
from search.record.record import StudyFolder
from search.running.machine_faults import out_of_memory
from search.running.sharing import Sharing, at_most, known, sharing_of
from search.study.study import Study
from trainer.config.config import TrainConfig
from trainer.packing.builder import pack_settings, run_settings
from trainer.packing.pack import Pack

_OTHERS_SECONDS = 3600.0
"""So long other workers wait for the one that measures."""
_STEPS = 2
"""Steps at each width: at the second one all of the memory is taken."""
_PIXELS = 2**23
"""Of all images in a pass: eight at 1024², up to which wider packs were measured to train faster (SDXL), 32 at 512²."""
_IMAGES_ON_CPU = 4
"""Of all images in a pass on a CPU: four trials at batch 1 train 1.5 times as fast, at batch 4 hardly."""
_MEMORY = 0.85
"""Share of the memory that a pack may need, as far as it grows evenly."""


def settled(study: Study, folder: StudyFolder, probe: Probe, say: Callable[[str], None] = lambda _: None) -> Sharing:
    """How trials share passes in this study; where the study leaves that to us, the first worker measures it, and the
    study keeps to it.

    Args:
        say: is told what takes time.
    """
    with locked(folder.path / ".pack.lock", wait_seconds=_OTHERS_SECONDS):
        sharing = known(study, folder)
        if sharing is None:
            say("measuring how many trials to train at once")
            sharing = measured(study, probe)
            PackWidth(study.workers.pack, sharing.places, sharing.width or 1).save(folder)
    return sharing


def measured(study: Study, probe: Probe) -> Sharing:
    """The widest pack that fits, up to `at_most` and `_PIXELS` in a pass."""
    most = at_most(study)
    if most.width is None or most.max_rank is None:
        return Sharing()
    packs = most.places // most.width  # that take turns
    config = study.config(next(study.space.combinations()))
    feed = pack_settings(config).feed
    widest = min(most.width, _PIXELS // (math.prod(feed.resolution) * config.batch_size))
    if probe.base.device.type == "cpu":
        widest = min(widest, _IMAGES_ON_CPU // config.batch_size)
    width, needed, at = 1, list[float](), 1
    while 1 < widest >= at:
        try:
            memory, room = _at(config, probe, at, most.max_rank)
        except Exception as error:
            if out_of_memory(error) is None:
                raise
            break
        needed.append(memory)
        width = at
        grows = needed[-1] - needed[-2] if len(needed) > 1 else 0.0
        if needed[-1] + 2 * grows > _MEMORY * room:  # half of the growth was this doubling's
            break
        at *= 2
    torch.cuda.empty_cache()
    return sharing_of(study, width * packs)


def _at(config: TrainConfig, probe: Probe, width: int, rank: int) -> tuple[float, float]:
    """(memory needed, memory there is), both in bytes."""
    device = probe.base.device
    settings = run_settings(config)
    settings = replace(
        settings,
        adapter=replace(settings.adapter, rank=rank),
        schedule=replace(settings.schedule, epochs=_STEPS + 1),
    )
    torch.cuda.empty_cache()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory(prefix="onset-pack-") as aside:
        pack = Pack(probe.base, probe.trained, pack_settings(config), cache=probe.cache, width=width, max_rank=rank)
        for seat in range(width):
            pack.join(settings, run_dir=Path(aside) / str(seat))
        step_seconds(pack, _STEPS)
    return _memory(device)


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

    return psutil.Process().memory_info().rss, psutil.virtual_memory().total
