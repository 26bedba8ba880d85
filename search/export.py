"""The production run of a study's pick: train.yaml, the LoRA, and files for other trainers.

python -m search.export studies/demo.yaml --to exported
"""

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from search.command import add_study, study_command
from search.exports.ship_epoch import Ending
from search.record.json_files import write_bytes
from search.record.record import StudyFolder
from search.recovery.study_json import About
from search.study.find_study import locate
from search.study.flow_file import final_of
from search.study.moved_files import find_again
from trainer.arguments import Arguments, folder_to_write, whole
from trainer.command import Command, end

if TYPE_CHECKING:
    from search.exports.pick import Pick
    from search.exports.production_run import ProductionRun
    from trainer.config.config import TrainConfig
    from trainer.data.dataset import Dataset


_EXAMPLE = """example:
  python -m search.export studies/demo.yaml --to exported
  python -m search.export studies/demo.yaml --to exported --trial 1 --epoch 12"""


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        trial, epoch: what was exported; epoch is None when there is nothing to ship yet.
        said: what to know of it, first of all whether to ship it.
        files: (path, what it is).
        notices: what another trainer will do differently, and what is missing.
    """

    trial: int
    epoch: int | None
    said: tuple[str, ...]
    files: tuple[tuple[Path, str], ...]
    notices: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    command = study_command("search.export")
    return command.run(lambda: _main(arguments, command))


def _main(arguments: Sequence[str] | None, command: Command) -> int:
    options = command_line().parse_args(arguments)
    study = final_of(options.study)
    folder = locate(study, options.runs)
    command.folder = folder.path
    exported = export(
        folder,
        options.to,
        trial=options.trial,
        epoch=options.epoch,
        go_on=options.go_on,
        prepare_photos=options.prepare_photos,
        beside=Path(study),
    )
    width = max(len(str(path)) for path, _ in exported.files)
    for line in exported.said:
        print(line)
    for path, what in exported.files:
        print(f"  {path!s:<{width}}  {what}")
    for notice in exported.notices:
        print(f"note: {notice}")
    return 0


def export(
    folder: StudyFolder,
    to: Path,
    *,
    trial: int | None = None,
    epoch: int | None = None,
    go_on: bool = False,
    prepare_photos: Path | None = None,
    beside: Path | None = None,
) -> Exported:
    """Writes the production run into `to`.

    Args:
        trial: None takes the verdict's.
        epoch: None takes the trial's epoch to ship.
        go_on: train to the horizon, to compare; the run ends with the epoch to ship all the same.
        prepare_photos: a new folder for a copy of the photos that sd-scripts reads like our trainer; the run trains
            on it. None leaves the photos as they are.
        beside: the study file, for photos and a base that have moved with it.

    Raises:
        StudyError: no such trial, no checkpoint of that epoch, or `prepare_photos` is not empty.
        ModelError, DataError: the base or the photos are no longer where the study had them.
    """
    from search.exports.other_trainers import other_trainers
    from search.exports.photos import prepare
    from search.exports.pick import pick
    from search.exports.production_run import ProductionRun, TextFile
    from trainer.base_model.load import describe_base
    from trainer.data.dataset import scan_dataset

    picked, name, to = pick(folder, trial, epoch), folder.path.name, Path(to).resolve()
    config = _found(picked.config, folder, beside)
    traits = describe_base(config.base)
    dataset = scan_dataset(config.data, reg_data=config.reg_data, trigger=config.trigger, class_word=config.class_word)
    notices = _changed(folder, dataset)
    if prepare_photos is not None:
        prepared = prepare(dataset, Path(prepare_photos))
        config = config.model_copy(update={"data": str(prepared.resolve()), "reg_data": None})
        dataset = scan_dataset(config.data, trigger=config.trigger, class_word=config.class_word)
    batches = _batches_per_epoch(config, dataset)
    a_pass = ceil(batches / config.gradient_accumulation_steps)
    steps = config.steps_per_epoch or a_pass
    ending = Ending(picked.ship_epoch, go_on=go_on, steps_per_epoch=steps, steps_per_pass=a_pass)
    run = ProductionRun(config, dataset, traits, name, ending, picked.about, batches)
    translated = tuple(other_trainers(run, to))  # before anything is written
    lora, missing = _lora(picked, to, name)
    notices += missing
    texts = [TextFile(to / "train.yaml", _train_yaml(run, folder, to), "python -m trainer.run train.yaml")]
    for other in translated:
        notices += other.notices
        texts += other.files
    for file in texts:
        write_bytes(file.path, file.text.encode())
    written = [*lora, *((file.path, file.what) for file in texts)]
    if prepare_photos is not None:
        written.append((Path(config.data), "the photos, as every trainer reads them"))
    return Exported(picked.record.number, picked.epoch, picked.said, tuple(written), tuple(notices))


def _lora(picked: "Pick", to: Path, name: str) -> tuple[list[tuple[Path, str]], list[str]]:
    """The LoRA's copy and what it is; or why there is none, where one was to ship."""
    from trainer.checkpoint import lora_damage

    lora = picked.lora
    if lora is None:
        return [], []
    if not lora.is_file():
        why = "the study did not keep that checkpoint (keep.checkpoints)"
    elif lora_damage(lora.parent) is not None:
        why = f"the file of epoch {picked.epoch} is damaged ({lora})"
    else:
        return [(_copy_lora(lora, to / f"{name}.safetensors", name), f"the LoRA of epoch {picked.epoch}")], []
    return [], [f"no LoRA: {why}. train.yaml trains it again"]


def _train_yaml(run: "ProductionRun", folder: StudyFolder, to: Path) -> str:
    from search.study.config_yaml import train_yaml
    from search.verdict.best_files import novel_prompts

    return train_yaml(
        run.config,
        folder=to,
        name=run.name,
        epoch=run.ending.epoch,
        go_on=run.ending.go_on,
        about=run.about_training,
        prompts=novel_prompts(folder),
    )


def _found(config: "TrainConfig", folder: StudyFolder, beside: Path | None) -> "TrainConfig":
    """The config with its paths where base and photos are now: a project may have moved since the study ran."""
    near = [folder.path, *([] if beside is None else [beside])]
    now = {}
    for key in ("base", "data", "reg_data"):
        path = getattr(config, key)
        for start in near if path else ():
            path = find_again(path, start)
        now[key] = path
    return config.model_copy(update=now)


def _changed(folder: StudyFolder, dataset: "Dataset") -> list[str]:
    """What is no longer as the study had it."""
    begun = About.load(folder)
    if begun is None or begun.photos in (None, dataset.digest):
        return []
    return [f"{dataset.root}: photos or captions have changed since the study"]


def _copy_lora(source: Path, target: Path, name: str) -> Path:
    """The LoRA in fp16 under its new name, with everything that its metadata says about the training."""
    import torch

    from trainer.lora.kohya_file import load_lora, read_metadata, save_lora

    metadata = {**read_metadata(source), "ss_output_name": name, "modelspec.title": name}
    target.parent.mkdir(parents=True, exist_ok=True)
    return save_lora(target, load_lora(source), metadata, dtype=torch.float16)


def _batches_per_epoch(config: "TrainConfig", dataset: "Dataset") -> int:
    from trainer.data.buckets import assign_buckets, batches_per_epoch

    sizes = assign_buckets(
        dataset.photos,
        resolution=config.size,
        enable_bucket=config.enable_bucket,
        step=config.bucket_step,
        smallest=config.min_bucket_resolution,
        largest=config.max_bucket_resolution,
    )
    return batches_per_epoch(dataset.photos, sizes, config.batch_size)


def command_line() -> Arguments:
    """What the command line may say."""
    parser = Arguments(
        prog="python -m search.export",
        description="Write the production run of a study's pick: train.yaml for our trainer, the LoRA in kohya's\n"
        "format, and the run for sd-scripts, the kohya_ss GUI, OneTrainer, ai-toolkit and SimpleTuner.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_study(parser)
    parser.add_argument("--to", type=folder_to_write, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--trial", type=whole(0), metavar="N", help="trial to export (default: the verdict's)")
    parser.add_argument(
        "--epoch", type=whole(0), metavar="E", help="epoch to export (default: the trial's epoch to ship)"
    )
    parser.add_argument(
        "--go-on",
        action="store_true",
        help="train on to the end of the schedule, to compare; the LoRA stays that of the epoch",
    )
    parser.add_argument(
        "--prepare-photos",
        type=folder_to_write,
        metavar="DIR",
        help="also write a copy of the photos that sd-scripts reads like our trainer (upright, opaque, plain captions)",
    )
    return parser


if __name__ == "__main__":
    end(main)
