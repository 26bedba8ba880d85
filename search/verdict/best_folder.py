"""`best/` is replaced as a whole, or stays as it was."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.record.record import StudyFolder
from trainer.files import flush_folder, move

_NEW, _OLD = ".best-new", ".best-old"


@contextmanager
def replacing_best(folder: StudyFolder) -> Iterator[Path]:
    """A folder to put the new content into; it takes the place of `best/` when the block ends without an error."""
    restore_best(folder)
    new, old = folder.path / _NEW, folder.path / _OLD
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    flush_folder(new)
    if folder.best_folder.exists():
        move(folder.best_folder, old)
    move(new, folder.best_folder)
    flush_folder(folder.path)
    shutil.rmtree(old, ignore_errors=True)


def restore_best(folder: StudyFolder) -> None:
    """Put the old `best/` back where a kill came between taking it away and putting the new one there."""
    old = folder.path / _OLD
    if old.is_dir() and not folder.best_folder.exists():
        move(old, folder.best_folder)
