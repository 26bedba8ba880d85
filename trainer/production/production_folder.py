"""The folder of a production run: for one trainer at a time, gone on with by the same run only, never half written."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer import checkpoint
from trainer.command import reason
from trainer.config.config import TrainConfig
from trainer.config.rules import follows_horizon
from trainer.errors import ConfigError, TrainerError
from trainer.files import clear_leftovers, shown, write_whole

_SETTINGS, _CONTENT, _LOG, _LOCK, _HOLDER = "train.json", "content", "log.csv", ".train.lock", ".train.holder"
# settings that may change between two sittings of the same run; epochs, where the schedule does not depend on them
_FREE_TO_CHANGE = ("epochs", "save_every_n_epochs", "base", "data", "reg_data", "family")
# faults of the machine, not of what it was given
_MACHINES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_NEW = "start a new run with --out DIR"
_CHANGE = f"to change that, {_NEW}"


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Makes the folder this process's own while the block runs; what a killed trainer left half written is removed.

    Raises:
        ConfigError: there is a file of this name.
        TrainerError: another process trains into it, by its number.
    """
    from filelock import FileLock, Timeout

    if folder.exists() and not folder.is_dir():
        raise ConfigError(None, "--out", shown(folder), "a folder", "a file of this name is there")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TrainerError(
            f"{shown(folder)}: another trainer{_holder(folder)} is at work in this folder: wait for it, or {_NEW}"
        ) from None
    except NotImplementedError:  # a file system without locks
        yield
        return
    try:
        # beside the lock: Windows lets nobody read a file that is locked
        about = json.dumps({"pid": os.getpid(), "host": platform.node()}).encode()
        write_whole(folder / _HOLDER, lambda file: file.write(about), durable=False)
        for place in (folder, folder / "checkpoints", folder / "samples"):
            clear_leftovers(place)
        yield
    finally:
        lock.release()


def check_settings(config: TrainConfig, folder: Path) -> None:
    """A folder that holds a run of other settings is not gone on with, nor one whose schedule would become another.

    Raises:
        ConfigError: the setting that differs.
    """
    before = _settings(folder)
    if before is None:
        return
    now = config.model_dump(mode="json")
    for key in sorted(now):
        known = before.get(key, TrainConfig.model_fields[key].default)  # begun before there was such a setting
        if key in _FREE_TO_CHANGE or known == now[key]:
            continue
        raise ConfigError(None, key, now[key], f"{known!r}, as the run in {shown(folder)} has it", _CHANGE)
    if before.get("epochs") != config.epochs and follows_horizon(config):
        raise ConfigError(
            None,
            "epochs",
            config.epochs,
            f"{before.get('epochs')}, as the run in {shown(folder)} has it",
            f"its learning rate ({config.lr_scheduler}) is planned over that many epochs; {_CHANGE}",
        )


def check_content(config: TrainConfig, folder: Path, content: dict[str, str]) -> None:
    """The same photos, captions and base as before, wherever they lie now; and no fewer epochs than are trained.

    Args:
        content: digests by what they are of: "photos and captions", "base".

    Raises:
        ConfigError: what differs.
    """
    settings = _settings(folder)
    if settings is None:
        return
    before = settings.get(_CONTENT, {})
    for what, key in (("photos and captions", "data"), ("base", "base")):
        if before.get(what, content[what]) != content[what]:
            raise ConfigError(None, key, getattr(config, key), f"the {what} of the run in {shown(folder)}", _CHANGE)
    done = int(checkpoint.checkpoints(folder / "checkpoints")[-1].name)
    if config.epochs < done:
        raise ConfigError(None, "epochs", config.epochs, f"at least {done}, which the run in {shown(folder)} has done")


def check_ship_epoch(ship_epoch: int | None, folder: Path) -> None:
    """A run that is past the epoch to ship has to have kept its LoRA.

    Raises:
        ConfigError: it has not.
    """
    trained = checkpoint.checkpoints(folder / "checkpoints")
    if ship_epoch is None or not trained or int(trained[-1].name) < ship_epoch:
        return
    if checkpoint.lora_damage(checkpoint.checkpoint_path(folder / "checkpoints", ship_epoch)) is None:
        return
    kept = ", ".join(str(int(path.name)) for path in trained if checkpoint.lora_damage(path) is None)
    raise ConfigError(
        None, "output.ship_epoch", ship_epoch, f"an epoch that the run in {shown(folder)} has kept ({kept or 'none'})"
    )


def note_settings(config: TrainConfig, folder: Path, content: dict[str, str]) -> None:
    """Writes down what `check_settings` and `check_content` compare with."""
    text = json.dumps(config.model_dump(mode="json") | {_CONTENT: content}, indent=2)
    write_whole(folder / _SETTINGS, lambda file: file.write(text.encode()))


def deliver(folder: Path, epoch: int, name: str) -> Path:
    """Copies the LoRA of a checkpoint to `name`.safetensors in the folder, and returns that file.

    Raises:
        TrainerError: the checkpoint's LoRA is damaged or gone.
    """
    source = checkpoint.checkpoint_path(folder / "checkpoints", epoch)
    if (damage := checkpoint.lora_damage(source)) is not None:
        raise TrainerError(f"{shown(source)}: {damage}: delete this folder and run again to train it anew")
    content, final = (source / checkpoint.LORA_FILE).read_bytes(), folder / f"{name}.safetensors"
    write_whole(final, lambda file: file.write(content))
    return final


def log_epoch(folder: Path, row: dict[str, Any]) -> None:
    """Adds an epoch's row to log.csv; `row` begins with `epoch`."""
    path = folder / _LOG
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if path.stat().st_size == 0:
            writer.writeheader()
        writer.writerow(row)


def forget_epochs_after(folder: Path, epoch: int) -> None:
    """Drops rows of log.csv behind `epoch`, which are trained again, and one that was cut off as the disk filled up."""
    path = folder / _LOG
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    head, *rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))) or [[]]
    kept = [row for row in rows if len(row) == len(head) and row[0].isdecimal() and int(row[0]) <= epoch]
    if len(kept) == len(rows) and text.endswith("\n"):
        return
    new = io.StringIO(newline="")
    csv.writer(new).writerows([head, *kept] if head else [])
    write_whole(path, lambda file: file.write(new.getvalue().encode()))


@contextlib.contextmanager
def saying_what_is_kept(folder: Path) -> Iterator[None]:
    """A disk that is full or gone while a run writes becomes one line that says how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in _MACHINES:
            raise
        where = shown(error.filename) if isinstance(error.filename, str) else shown(folder)
        kept = [
            path for path in checkpoint.checkpoints(folder / "checkpoints") if (path / checkpoint.STATE_FILE).exists()
        ]
        after = f"the checkpoint of epoch {int(kept[-1].name)} is kept: " if kept else ""
        raise TrainerError(f"{where}: {reason(error)}; {after}mend that and run the same command again") from error


def _settings(folder: Path) -> dict[str, Any] | None:
    """What the run in `folder` was begun with; None where none was, or where it can no longer be told."""
    if not checkpoint.checkpoints(folder / "checkpoints"):
        return None
    try:
        found = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(
            None,
            "--out",
            shown(folder),
            "a run's folder",
            f"its {_SETTINGS} is damaged; delete that file to go on, or {_NEW}",
        )
    return found


def _holder(folder: Path) -> str:
    """` (pid 123)` of who holds the folder; nothing where that is not known."""
    try:
        about = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
        pid, host = int(about["pid"]), str(about["host"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return f" (pid {pid})" if host == platform.node() else f" (pid {pid} on {shown(host)})"
