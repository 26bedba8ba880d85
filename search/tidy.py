"""What stays on disk of a trial that has ended."""

import shutil
from pathlib import Path

from search.record import TrialRecord
from search.settings import Keep


def drop_after(folder: Path, epoch: int) -> None:
    """Delete what a worker trained beyond the epoch at which its trial was ended."""
    for path in [*folder.glob("checkpoints/[0-9]*"), *folder.glob("readings/[0-9]*"), *folder.glob("samples/[0-9]*")]:
        if int(path.stem) > epoch:
            _delete(path)


def tidy_trial(folder: Path, record: TrialRecord, keep: Keep, *, final: bool = False) -> None:
    """Keep what `keep` says of a trial that has ended; `final`: the study has, so `none` may delete the last LoRA."""
    drop_after(folder, record.epochs_trained)
    _delete(folder / "readings")
    if not keep.samples:
        _delete(folder / "samples")
    for checkpoint in folder.glob("checkpoints/[0-9]*"):
        shipped = int(checkpoint.name) == record.epoch_shipped and record.state == "complete"
        if keep.checkpoints == "all" or (shipped and not (keep.checkpoints == "none" and final)):
            for state in checkpoint.glob("state.*"):  # only needed to go on training
                _delete(state)
        else:
            _delete(checkpoint)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
