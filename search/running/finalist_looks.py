"""A worker's part of the finals: draws a checkpoint with fresh seeds and prompts, and keeps what it reads."""

from functools import partial

from search.probe.fresh_probe import FreshProbe, open_fresh_probe
from search.probe.probe import Probe
from search.record.events import DrawAgain, DrawnAgain
from search.record.finalists import FreshLook
from search.record.record import StudyFolder, write_samples
from search.running.coordinator_line import Line
from search.running.strength_look import show_strengths
from search.study.study import Study
from trainer.checkpoint import LORA_FILE
from trainer.lora.kohya_file import load_lora


class FinalistLooks:
    """What is done for each finalist. `line`: told what is being done, and of each that is done."""

    def __init__(self, study: Study, folder: StudyFolder, probe: Probe, line: Line) -> None:
        self._study, self._folder, self._probe, self._line = study, folder, probe, line
        self._fresh: FreshProbe | None = None

    def look(self, asked: DrawAgain) -> None:
        """Draw, score, keep, tell; what was drawn from the same prompts before is only told."""
        say = partial(self._line.say, number=asked.number, epoch=asked.epoch)
        if self._fresh is None:
            say("drawing the base again")
            self._fresh = open_fresh_probe(self._study, self._folder, self._probe)
        fresh, place = self._fresh, (asked.number, asked.epoch)
        if asked.strengths and asked.number is not None:
            show_strengths(self._study, self._folder, fresh, asked.number, asked.epoch, say)
            self._line.send(DrawnAgain(*place))
            return
        file, picture = FreshLook.file(self._folder, *place), FreshLook.picture(self._folder, *place)
        kept = FreshLook.load(file)
        if kept is None or kept.asked != fresh.asked or not picture.is_file():
            lora = searched = None
            if asked.number is not None:
                searched = self._searched(asked.number, asked.epoch)
                path = self._folder.checkpoint(asked.number, asked.epoch) / LORA_FILE
                lora = load_lora(path, family=self._probe.base.family.name)
            found, images = fresh.look(lora, asked.epoch, say, searched)
            labels = fresh.prompts.labels
            write_samples(picture, images, fresh.prompts.num_seeds, prompts=labels.prompts, seeds=labels.seeds)
            found.save(file)  # last: with it the look is there
        self._line.send(DrawnAgain(*place))

    def _searched(self, number: int, epoch: int) -> dict[str, float] | None:
        """What the search read of a checkpoint; None where only our own score is made, which needs nothing of it."""
        if self._probe.objective is None:
            return None
        rows = (row for row in self._folder.trajectory(number).readings if row.epoch == epoch)
        return {name: reading.value for row in rows for name, reading in row.channels.items()}
