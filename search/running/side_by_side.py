"""Trainings of the finals: side by side where trials share passes, else one after the other, each from its newest
checkpoint on."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from search.record.events import DrawAgain
from search.running.machine_faults import Fault, fault_in
from search.running.shared_passes import SharedPasses
from trainer.checkpoint import checkpoint_path, lora_damage
from trainer.config.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.packing.builder import run_settings, shares_a_pack
from trainer.packing.pack import Pack
from trainer.packing.training_run import Run


@dataclass(frozen=True)
class Training:
    """One of them.

    Attributes:
        config: what is trained. until: its last epoch.
        folder: where its checkpoints lie.
        place: of its seat.
        photos: other photos than the study's.
        look: called at each checkpoint before that is saved.
    """

    config: TrainConfig
    until: int
    folder: Path
    place: int
    photos: Dataset | None = None
    look: Callable[[Run], None] = lambda run: None


class SideBySide:
    """`passes`: in which the trainings sit. `name`: the study's. `seconds`: that each took."""

    def __init__(self, passes: SharedPasses, name: str) -> None:
        self.passes, self._name = passes, name
        self.seconds: dict[DrawAgain, float] = {}

    def train(
        self, asked: Sequence[DrawAgain], ready: Callable[[DrawAgain], Training | None], hear: Callable[[], None]
    ) -> Mapping[DrawAgain, Fault]:
        """Train each of these; returns what went wrong, and for whom.

        Args:
            ready: what is to be trained; None where it has been done before.
            hear: called between two steps.
        """
        faults: dict[DrawAgain, Fault] = {}
        together = len(asked) if self.passes.width is not None else 1
        for start in range(0, len(asked), max(1, together)):
            faults |= self._group(asked[start : start + together], ready, hear)
        return faults

    def _group(
        self, asked: Sequence[DrawAgain], ready: Callable[[DrawAgain], Training | None], hear: Callable[[], None]
    ) -> Mapping[DrawAgain, Fault]:
        left = list(asked)
        seats: dict[DrawAgain, tuple[Pack, Run]] = {}
        faults: dict[DrawAgain, Fault] = {}
        began = time.perf_counter()
        fault = fault_in(partial(self._train, left, seats, faults, ready, hear))
        self.seconds |= dict.fromkeys(asked, (time.perf_counter() - began) / len(asked))
        if fault is not None:  # whose it is, is not known
            for pack, run in seats.values():
                if run in pack.runs:
                    pack.leave(run)
                self.passes.drop(pack)
            faults |= dict.fromkeys(left, fault)
            if fault.memory and (self.passes.width or 1) > 1:
                self.passes.narrow()
        return faults

    def _train(
        self,
        left: list[DrawAgain],
        seats: dict[DrawAgain, tuple[Pack, Run]],
        faults: dict[DrawAgain, Fault],
        ready: Callable[[DrawAgain], Training | None],
        hear: Callable[[], None],
    ) -> None:
        """`left`: those that are not done yet; `seats`: of these, those that sit. `faults`: of those that blew up."""
        jobs = {each: job for each in left if (job := ready(each)) is not None}
        left[:] = jobs
        for each, job in jobs.items():
            seats[each] = self._seat(job)
        while seats:
            for each, (pack, run) in list(seats.items()):
                if run.failed is not None:
                    faults[each] = Fault(run.failed, again=False)
                elif run.due and lora_damage(checkpoint_path(run.run_dir / "checkpoints", run.epoch)) is not None:
                    jobs[each].look(run)
                    run.save()
                if run.failed is not None or run.epoch >= jobs[each].until:
                    del seats[each]
                    left.remove(each)
                    pack.leave(run)
            for pack in dict.fromkeys(pack for pack, _ in seats.values()):
                pack.train_epoch(lambda _: hear(), runs=[run for one, run in seats.values() if one is pack])

    def _seat(self, job: Training) -> tuple[Pack, Run]:
        settings, photos = run_settings(job.config, output_name=self._name), job.photos
        apart = photos is not None and (job.config.enable_bucket or not shares_a_pack(job.config))
        return self.passes.join(job.config, settings, job.folder, place=job.place, photos=photos, apart=apart)
