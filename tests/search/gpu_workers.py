"""Real workers on a GPU, with a fault planted in them: what follows it is the product's own."""

import json
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

TOO_LARGE = 1024
"""Trials of this rank find too little memory on the card."""
_ROOM = 2**26


def short_of_memory(connection: Connection, slot: int, setup: tuple[Any, Any]) -> None:
    """While a trial of rank TOO_LARGE is at work, this process may take 64 MiB more than it holds; what is held after
    each trial is noted beside the study, in `memory-N.json`."""
    import torch

    from search.running import worker

    turn, notes = worker._Worker._turn, setup[1].path.parent
    whole = torch.cuda.get_device_properties(0).total_memory

    def limited(self: Any) -> None:
        ranks = {number: trial.spec.config.rank for number, trial in self._trials.items()}
        ranks |= {spec.number: spec.config.rank for spec in self._new}
        large = TOO_LARGE in ranks.values()
        if large and self._new:
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + _ROOM) / whole)
        turn(self)
        ended = [number for number in ranks if number not in self._trials]
        if not ended:
            return
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
        held = {
            "rank": ranks[ended[0]],
            "pid": os.getpid(),
            "allocated": torch.cuda.memory_allocated(),
            "reserved": torch.cuda.memory_reserved(),
        }
        place = len(list(notes.glob("memory-*.json")))
        (notes / f"memory-{place}.json").write_text(json.dumps(held))

    worker._Worker._turn = limited
    worker.main(connection, slot, *setup)


def lost_once(connection: Connection, slot: int, setup: tuple[Any, Any]) -> None:
    """Once, in trial 1, an index outside a tensor stops the GPU for the rest of the process."""
    import torch

    from search.running import worker

    checkpoint, mark = worker._Worker._checkpoint, Path(setup[1].path.parent) / "lost"

    def asserting(self: Any, trial: Any) -> None:
        checkpoint(self, trial)
        if trial.spec.number == 1 and trial.run.epoch == 2 and not mark.exists():
            mark.write_text(str(os.getpid()))
            wrong = torch.zeros(3, device="cuda")[torch.tensor([7], device="cuda")]
            float(wrong.sum())

    worker._Worker._checkpoint = asserting
    worker.main(connection, slot, *setup)
