"""Trials that a real worker trains at once, in the process of the tests."""

import multiprocessing
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from search.record.events import Checkpointed, Doing, Failed, Note, Prepared, Quit, StopTrial, TrialSpec
from search.record.record import StudyFolder
from search.running.shared_passes import SharedPasses
from search.running.sharing import sharing_of
from search.running.worker import _Worker
from search.study.study import Study, load_study
from trainer.packing.pack import Pack

EPOCHS = 2
SETTINGS = [{"rank": 4}, {"rank": 8, "learning_rate_scale": 4.0}, {"rank": 2, "optimizer": "Lion"}]
Found = dict[int, bytes]


class Resident:
    """One real worker in this process, and what it says."""

    def __init__(
        self,
        home: Path,
        base: Path,
        clip: Path,
        photos: Path,
        device: str = "cpu",
        drop: tuple[str, ...] = (),
        **changes: Any,
    ) -> None:
        probe = {"seeds": 1, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class}, snow"]}
        values = {
            "study": "mini", "base": str(base), "data": str(photos),
            "train": {"resolution": 64, "epochs": EPOCHS, "batch_size": 8, "optimizer": "AdamW"},
            "search": {"rank": {"values": [2, 4, 8]}},
            "score": {"encoder": str(clip), "holdout": 2, "probe": probe, "losses": {"levels": 1, "draws": 1},
                      "shifted": {"composites": 0}},
            "budget": {"trials": 3}, "keep": {"samples": False},
            "workers": {"pack": 3, "threads": 1, "device": device},
        }  # fmt: skip
        values = {key: value for key, value in (values | changes).items() if key not in drop}
        file = home / "mini.yaml"
        file.write_text(yaml.safe_dump(values))
        self.study: Study = load_study(file)
        self.folder = StudyFolder(home / "runs" / "mini")
        self.folder.path.mkdir(parents=True)
        self._ours, self._theirs = multiprocessing.Pipe()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "cpu_count", lambda: 1)  # a fork of this process has none of torch's threads
            self.worker = _Worker(self._theirs, 0, self.study, self.folder)
        self.loading = list[Doing]()
        while not isinstance(message := self._ours.recv(), Prepared):
            self.loading += [message] if isinstance(message, Doing) else []

    def passes(self) -> SharedPasses:
        """As the worker makes them when it starts."""
        return SharedPasses(self.worker._probe, sharing_of(self.study, 3), 3, self.folder)

    def spec(self, number: int, **changes: Any) -> TrialSpec:
        config = self.study.config({}).model_copy(update=SETTINGS[number] | changes)
        return TrialSpec(number, self.folder.trial(number), config, place=number)

    def run(
        self, *specs: TrialSpec, stop: Mapping[int, int] | None = None, until: int = EPOCHS, go_on: bool = False
    ) -> tuple[Found, list[Any]]:
        """What the last checkpoint of each trial is, and what else was said.

        Args:
            stop: trials to the epoch after which they are stopped.
            until: the epoch whose checkpoints end the worker, wherever it is by then.
            go_on: from what an earlier run has left.
        """
        if not go_on:
            shutil.rmtree(self.folder.path / "trials", ignore_errors=True)
        said: list[Any] = []
        served = threading.Event()
        for spec in specs:
            spec.folder.mkdir(parents=True, exist_ok=True)
            self._ours.send(spec)
        listening = threading.Thread(target=self._until_all_have_ended, args=(specs, stop or {}, until, said, served))
        listening.start()
        try:
            self.worker.serve()
        finally:
            served.set()
            listening.join()
        for number in list(self.worker._trials):
            self.worker._let_go(number)
        found = {}
        for spec in specs:
            last = spec.folder / "checkpoints" / f"{EPOCHS:04d}"
            if last.is_dir():
                weights = load_file(last / "lora.safetensors")
                readings = Checkpointed.load(spec.folder, spec.number, EPOCHS).readings
                items = sorted((name, tuple(values)) for name, values in readings.items.items())
                found[spec.number] = repr((items, readings.effort)).encode() + b"".join(
                    weights[name].numpy().tobytes() for name in sorted(weights)
                )
        return found, [message for message in said if isinstance(message, Failed | Note)]

    def _until_all_have_ended(
        self,
        specs: tuple[TrialSpec, ...],
        stop: Mapping[int, int],
        until: int,
        said: list[Any],
        served: threading.Event,
    ) -> None:
        left = {spec.number for spec in specs}
        while left:
            message = self._ours.recv()
            said.append(message)
            if isinstance(message, Failed):
                left.discard(message.number)
            elif isinstance(message, Checkpointed) and message.epoch >= stop.get(message.number, until):
                left.discard(message.number)
                if message.number in stop:
                    self._ours.send(StopTrial(message.number, message.epoch))
        self._ours.send(Quit())
        while not served.is_set() or self._ours.poll():  # reads on, so that the worker's pipe never fills up
            if self._ours.poll(0.01):
                self._ours.recv()


def memory_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a pack takes one run; with another one memory ends."""
    join = Pack.join

    def full(pack: Pack, *args: Any, **named: Any) -> Any:
        if pack.runs:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return join(pack, *args, **named)

    monkeypatch.setattr(Pack, "join", full)
