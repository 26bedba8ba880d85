"""What stays on disk of a trial that has ended."""

import contextlib
import secrets
import shutil
from pathlib import Path

from search.record import TrialRecord
from search.settings import Keep

_ASIDE = ".deleted-"


def drop_after(folder: Path, epoch: int) -> None:
    """Delete what a worker trained beyond the epoch at which its trial was ended."""
    for path in [*folder.glob("checkpoints/[0-9]*"), *folder.glob("readings/[0-9]*"), *folder.glob("samples/[0-9]*")]:
        if int(path.stem) > epoch:
            _delete(path)


def tidy_trial(folder: Path, record: TrialRecord, keep: Keep, *, final: bool = False) -> None:
    """Keep what `keep` says of a trial that has ended; `final`: the study has, so `none` may delete the last LoRA."""
    drop_after(folder, record.epochs_trained)
    if not keep.samples:
        _delete(folder / "samples")
    for checkpoint in folder.glob("checkpoints/[0-9]*"):
        shipped = int(checkpoint.name) == record.epoch_shipped and record.state == "complete"
        if keep.checkpoints == "all" or (shipped and not (keep.checkpoints == "none" and final)):
            for state in checkpoint.glob("state.*"):  # only needed to go on training
                _delete(state)
        else:
            _delete(checkpoint)
    for aside in [*folder.glob(f"{_ASIDE}*"), *folder.glob(f"*/{_ASIDE}*")]:
        shutil.rmtree(aside, ignore_errors=True)
    _delete(folder / "readings")  # last: without them a trial is tidy


def _delete(path: Path) -> None:
    """Whole or not at all: a folder goes aside first, so that nobody ever takes half of it for a checkpoint."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    aside = path.with_name(f"{_ASIDE}{secrets.token_hex(6)}")
    with contextlib.suppress(FileNotFoundError):  # a worker may be at it, too
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
