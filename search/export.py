"""The production run of a study's pick: train.yaml, the LoRA, files for sd-scripts and the kohya_ss GUI.

python -m search.export studies/demo.yaml --to exported
"""

import argparse
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.command import study_command
from search.errors import StudyError
from search.locate import locate
from search.record import StudyFolder, TrialRecord, write_bytes
from trainer.arguments import folder as folder_named
from trainer.arguments import folder_to_write, whole
from trainer.command import Command, end

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.dataset import Dataset


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        trial, epoch: what was exported.
        files: (path, what it is).
        notices: what another trainer will do differently, and what is missing.
    """

    trial: int
    epoch: int | None
    files: tuple[tuple[Path, str], ...]
    notices: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    command = study_command("search.export")
    return command.run(lambda: _main(arguments, command))


def _main(arguments: Sequence[str] | None, command: Command) -> int:
    options = _parser().parse_args(arguments)
    folder = locate(options.study, options.runs)
    command.folder = folder.path
    exported = export(folder, options.to, trial=options.trial, epoch=options.epoch)
    width = max(len(str(path)) for path, _ in exported.files)
    print(f"trial {exported.trial}, epoch {exported.epoch}")
    for path, what in exported.files:
        print(f"  {path!s:<{width}}  {what}")
    for notice in exported.notices:
        print(f"note: {notice}")
    return 0


def export(folder: StudyFolder, to: Path, *, trial: int | None = None, epoch: int | None = None) -> Exported:
    """Writes the production run into `to`.

    Args:
        trial: None takes the verdict's.
        epoch: None takes the trial's epoch to ship.

    Raises:
        StudyError: no such trial, or no checkpoint of that epoch.
        ModelError, DataError: the base or the photos are no longer where the study had them.
    """
    from search.best import novel_prompts
    from search.export_kohya_gui import to_kohya_gui
    from search.export_sdscripts import to_sdscripts, toml
    from search.space import FLAT_SCHEDULERS
    from search.train_yaml import train_yaml
    from trainer.base import detect_family
    from trainer.config import parse_train_config
    from trainer.dataset import scan_dataset

    record = _record(folder, trial)
    config = parse_train_config(record.config)
    epoch = _epoch(folder, record, epoch)
    family = config.family if config.family != "auto" else detect_family(config.base)
    dataset = scan_dataset(config.data, reg_data=config.reg_data, trigger=config.trigger, class_word=config.class_word)
    name = folder.path.name
    to = Path(to).resolve()
    kohya = to / "sd-scripts"
    v_prediction, zero_terminal_snr = _prediction(config.base)
    there = to_sdscripts(
        config, dataset, family=family, folder=kohya, name=name, v_prediction=v_prediction,
        zero_terminal_snr=zero_terminal_snr,
    )  # fmt: skip
    gui = to_kohya_gui(config, there, family=family, total_steps=_total_steps(config, dataset))
    about = f"Onset, study {name}, trial {record.number}" + (f", epoch {epoch}." if epoch else ".")
    horizon = f"Ship epoch {epoch} of {config.epochs}." if epoch else ""
    if config.lr_scheduler not in FLAT_SCHEDULERS:
        horizon += f" The learning rate follows the {config.epochs} epochs: do not shorten them."
    command = f"# in your checkout of sd-scripts:\n{shlex.join(there.command)}\n"
    written: list[tuple[Path, str]] = []

    def write(path: Path, text: str, what: str) -> None:
        write_bytes(path, text.encode())
        written.append((path, what))

    notices = list(there.notices)
    lora = None if epoch is None else folder.checkpoint(record.number, epoch) / "lora.safetensors"
    if lora is not None and lora.is_file():
        written.append((_copy_lora(lora, to / f"{name}.safetensors", name), f"the LoRA of epoch {epoch}"))
    else:
        notices.append(
            "no LoRA: the checkpoint of that epoch was not kept (keep.checkpoints); train it with train.yaml"
        )
    write(
        to / "train.yaml",
        train_yaml(config, epoch=epoch, about=about, name=name, prompts=novel_prompts(folder)),
        "python -m trainer.run train.yaml",
    )
    comment = "\n".join(line for line in (about, horizon.strip(), *there.notices) if line)
    write(kohya / "config.toml", toml(there.config, comment=comment), "sd-scripts: the run")
    write(kohya / "dataset.toml", toml(there.dataset, comment=about), "sd-scripts: the photos")
    write(kohya / "train.sh", f"# {about}\n{command}", "sd-scripts: the command")
    text = json.dumps(gui, indent=2, sort_keys=True) + "\n"
    write(to / "kohya_ss.json", text, "kohya_ss GUI, LoRA tab: open it there")
    return Exported(record.number, epoch, tuple(written), tuple(notices))


def _record(folder: StudyFolder, trial: int | None) -> TrialRecord:
    numbers = folder.numbers()
    if trial is not None:
        if trial not in numbers:
            known = ", ".join(map(str, numbers)) or "none"
            raise StudyError([f"{folder.path}: --trial: {trial} is not allowed: trials here are {known}"])
        return TrialRecord.load(folder.trial(trial))
    if folder.verdict_file.is_file():
        from search.verdict import Verdict

        picked = Verdict.load(folder.verdict_file).trial
        if picked is not None:
            return TrialRecord.load(folder.trial(picked))
    best = folder.best
    if best is None:
        raise StudyError([f"{folder.path}: there is no complete trial to export yet (--trial N takes any)"])
    return best


def _epoch(folder: StudyFolder, record: TrialRecord, epoch: int | None) -> int | None:
    if epoch is None or epoch == record.epoch_shipped:
        return record.epoch_shipped
    kept = sorted(int(p.parent.name) for p in folder.trial(record.number).glob("checkpoints/[0-9]*/lora.safetensors"))
    if epoch not in kept:
        have = ", ".join(map(str, kept)) or "none (keep.checkpoints: all keeps every one)"
        raise StudyError(
            [f"{folder.path}: --epoch: {epoch} is not allowed: checkpoints kept of trial {record.number}: {have}"]
        )
    return epoch


def _copy_lora(source: Path, target: Path, name: str) -> Path:
    """The LoRA in fp16 under its new name, with everything that its metadata says about the training."""
    import torch

    from trainer.kohya import load_lora, read_metadata, save_lora

    metadata = {**read_metadata(source), "ss_output_name": name, "modelspec.title": name}
    target.parent.mkdir(parents=True, exist_ok=True)
    return save_lora(target, load_lora(source), metadata, dtype=torch.float16)


def _prediction(base: str) -> tuple[bool, bool]:
    """(v prediction, zero terminal SNR) of a diffusers folder; a single file does not say."""
    path = Path(base) / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        return False, False
    scheduler: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return scheduler.get("prediction_type") == "v_prediction", bool(scheduler.get("rescale_betas_zero_snr"))


def _total_steps(config: "TrainConfig", dataset: "Dataset") -> int:
    from trainer.buckets import assign_buckets, batches_per_epoch

    sizes = assign_buckets(
        dataset.photos,
        resolution=config.size,
        enable_bucket=config.enable_bucket,
        step=config.bucket_step,
        smallest=config.min_bucket_resolution,
        largest=config.max_bucket_resolution,
    )
    batches = batches_per_epoch(dataset.photos, sizes, config.batch_size)
    return config.epochs * ceil(batches / config.gradient_accumulation_steps)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m search.export",
        description="Writes the production run of a study's pick: train.yaml for our trainer, the LoRA in kohya's "
        "format, config.toml, dataset.toml and the command for sd-scripts, and the JSON of the kohya_ss GUI.",
        epilog="example: python -m search.export studies/demo.yaml --to exported --trial 7 --epoch 12",
    )
    parser.add_argument("study", help="study file, or the study's folder (runs/demo)")
    parser.add_argument("--to", type=folder_to_write, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--trial", type=whole(0), metavar="N", help="default: the verdict's")
    parser.add_argument("--epoch", type=whole(0), metavar="E", help="default: the trial's epoch to ship")
    parser.add_argument(
        "--runs",
        type=folder_named,
        default="runs",
        metavar="DIR",
        help="where studies leave their folders (default runs)",
    )
    return parser


if __name__ == "__main__":
    end(main)
