"""A worker's part of cross-fitted twins: trains one at a trial's settings without some of the photos, and reads its
losses on these at every checkpoint. Nothing is drawn."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from metrics.channels.losses import log_ratios
from metrics.checkpoint.calibration import VERSION
from metrics.comparison.twins import twins
from search.probe.heldout_losses import evaluation_of
from search.probe.probe import Probe
from search.record.events import DrawAgain, DrawnAgain
from search.record.finalists import LOOKS_FOLDER
from search.record.json_files import digest_of, write_bytes
from search.record.record import StudyFolder, TrialRecord
from search.record.trial_progress import checkpoint_epochs
from search.record.twin_curve import last_epoch
from search.record.twins import TwinLosses
from search.running.coordinator_line import Line
from search.running.machine_faults import Fault
from search.running.side_by_side import SideBySide, Training
from search.study.folds import folds
from search.verdict.disk_cleanup import delete
from trainer.checkpoint import checkpoints
from trainer.config.config import TrainConfig
from trainer.data.dataset import load_pixels
from trainer.errors import TrainerError
from trainer.inference.evaluate import Evaluation
from trainer.lora.lora import LoraWeights
from trainer.packing.training_run import Run


class TwinTrainings:
    """`line`: told what is being done, and of each that is done. `side`: trains them."""

    def __init__(self, folder: StudyFolder, probe: Probe, line: Line, side: SideBySide) -> None:
        self._folder, self._probe, self._line, self._side = folder, probe, line, side
        self._left_out: dict[int, list[list[int]]] = {}

    def train(self, asked: Sequence[DrawAgain], hear: Callable[[], None]) -> Mapping[DrawAgain, Fault]:
        """Train each of these, from its newest checkpoint on; returns what went wrong, and for whom."""
        return self._side.train(asked, self._ready, hear)

    def keep(self, asked: DrawAgain) -> None:
        """Keep what a twin has read, and tell."""
        if not self._is_kept(asked):
            rows = self.rows(asked)
            epochs = [0, *self._epochs(asked)] if rows else [0]
            losses = [np.load(self._measured(asked, epoch), allow_pickle=False) for epoch in epochs if rows]
            ratios = np.stack([log_ratios(each, losses[0]) for each in losses]) if rows else np.zeros((1, 0, 1, 1))
            if not np.isfinite(ratios).all():
                raise TrainerError("the losses of a twin are NaN or infinite")
            seconds = self._side.seconds.pop(asked, 0.0)
            found = TwinLosses(self._asked(asked), np.array(rows, np.int64), np.array(epochs), ratios, seconds)
            found.save(self._file(asked))  # last: with it all is read
        delete(self._training(asked))
        self._line.send(DrawnAgain(asked.number, asked.epoch, asked.twin))

    def rows(self, asked: DrawAgain) -> list[int]:
        """Rows of the photos that it leaves out, among those trained on; none where there are fewer different photos
        than twins."""
        left_out = self._folds(asked)
        return left_out[asked.place] if asked.place < len(left_out) else []

    def _folds(self, asked: DrawAgain) -> list[list[int]]:
        """Those of all twins."""
        if asked.twins not in self._left_out:
            calibration, config = self._probe.calibration, self._probe.config
            traits = calibration.photos.rows(calibration.trained)
            seen = traits.identity if traits.identity.shape[1] else traits.layouts
            own = [photo for photo in self._probe.trained.photos if not photo.is_reg]
            copies = twins([load_pixels(photo, config.size) for photo in own])
            parts = folds(asked.twins, seen, self._probe.score.seed, copies)
            self._left_out[asked.twins] = parts if len(parts) > 1 else []  # a twin without any photo learns nothing
        return self._left_out[asked.twins]

    def _ready(self, asked: DrawAgain) -> Training | None:
        rows = self.rows(asked)
        if self._is_kept(asked) or not rows:
            return None
        self._line.say("training a twin", asked.number, self._until(asked))
        photos, home, mark = self._probe.trained, self._training(asked), self._training(asked) / "asked"
        if not mark.is_file() or mark.read_text() != self._asked(asked) or not self._goes_on(asked):
            delete(home)  # of other settings, or with a gap in what was read
            write_bytes(mark, self._asked(asked).encode())
        own = [row for row, photo in enumerate(photos.photos) if not photo.is_reg]
        out = {own[row] for row in rows}
        kept = photos.subset(row for row in range(len(photos.photos)) if row not in out)
        evaluation = evaluation_of(self._probe, rows)

        def look(run: Run) -> None:
            """Losses of the base first, once, then of this checkpoint; a checkpoint is saved after they are kept."""
            for epoch in (0, run.epoch):
                if not self._measured(asked, epoch).is_file():
                    self._measure(asked, evaluation, epoch, run.lora_weights() if epoch else None)

        return Training(self._config(asked), self._until(asked), home, asked.place, photos=kept, look=look)

    def _measure(self, asked: DrawAgain, evaluation: Evaluation, epoch: int, lora: LoraWeights | None) -> None:
        self._line.say("measuring a twin", asked.number, epoch)
        out = io.BytesIO()
        np.save(out, evaluation.losses(lora, precision=self._probe.precision), allow_pickle=False)
        write_bytes(self._measured(asked, epoch), out.getvalue())

    def _goes_on(self, asked: DrawAgain) -> bool:
        """Whether all that its checkpoints come after has been read."""
        newest = max((int(path.name) for path in checkpoints(self._training(asked) / "checkpoints")), default=0)
        needed = [0, *(epoch for epoch in self._epochs(asked) if epoch <= newest)] if newest else []
        return all(self._measured(asked, epoch).is_file() for epoch in needed)

    def _epochs(self, asked: DrawAgain) -> list[int]:
        """Of its checkpoints."""
        last = self._until(asked)
        return [epoch for epoch in checkpoint_epochs(self._config(asked)) if epoch <= last]

    def _until(self, asked: DrawAgain) -> int:
        """Its last epoch."""
        photos, rows = sum(map(len, self._folds(asked))), self.rows(asked)
        return last_epoch(self._config(asked), asked.epoch, photos, len(rows)) if rows else 0

    def _config(self, asked: DrawAgain) -> TrainConfig:
        assert asked.number is not None
        return TrialRecord.load(self._folder.trial(asked.number)).config

    def _asked(self, asked: DrawAgain) -> str:
        """Digest of how it is trained, and of what is measured."""
        probe = self._probe
        content = [photo.content for photo in probe.trained.photos]
        losses = probe.score.losses.model_dump(mode="json")
        config = self._config(asked).model_dump(mode="json")
        said = [
            VERSION,
            config,
            self._until(asked),
            self.rows(asked),
            content,
            losses,
            probe.score.seed,
            probe.precision,
        ]
        return digest_of(said)

    def _is_kept(self, asked: DrawAgain) -> bool:
        kept = TwinLosses.load(self._file(asked))
        return kept is not None and kept.asked == self._asked(asked)

    def _file(self, asked: DrawAgain) -> Path:
        assert asked.number is not None
        return TwinLosses.file(self._folder.path / LOOKS_FOLDER, asked.number, asked.twins, asked.place)

    def _training(self, asked: DrawAgain) -> Path:
        """The folder of its training while that lasts."""
        assert asked.number is not None
        return TwinLosses.training(self._folder.path / LOOKS_FOLDER, asked.number, asked.twins, asked.place)

    def _measured(self, asked: DrawAgain, epoch: int) -> Path:
        return self._training(asked) / "losses" / f"{epoch:04d}.npy"
