"""The production run of a study's pick: train.yaml, the LoRA, and files for other trainers.

python -m search.export studies/demo.yaml --to exported
"""

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from search.command import add_study, study_command
from search.errors import SearchError
from search.exports.base import about_base
from search.exports.ship_epoch import Ending, saved_as
from search.record.json_files import write_bytes
from search.record.record import StudyFolder
from search.recovery.study_json import About
from search.study.find_study import locate
from search.study.flow_file import final_of
from search.study.moved_files import find_again
from search.verdict.settings_sentences import leave_epochs
from trainer.arguments import Arguments, folder_to_write, whole
from trainer.command import Command, end
from trainer.config.rules import FLAT_SCHEDULERS

if TYPE_CHECKING:
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
    from search.exports.kohya_gui import absolute, to_kohya_gui
    from search.exports.other_trainers import other_trainers
    from search.exports.photos import prepare
    from search.exports.pick import pick
    from search.exports.production_run import ProductionRun
    from search.exports.sdscripts import to_sdscripts
    from search.exports.toml import toml
    from search.exports.train_sh import train_sh
    from search.study.config_yaml import train_yaml
    from search.verdict.best_files import novel_prompts
    from trainer.base_model.load import describe_base
    from trainer.checkpoint import lora_damage
    from trainer.data.dataset import scan_dataset

    picked = pick(folder, trial, epoch)
    record = picked.record
    config = _found(picked.config, folder, beside)
    traits = describe_base(config.base)
    dataset = scan_dataset(config.data, reg_data=config.reg_data, trigger=config.trigger, class_word=config.class_word)
    notices = _changed(folder, dataset)
    if prepare_photos is not None:
        prepared = prepare(dataset, Path(prepare_photos))
        config = config.model_copy(update={"data": str(prepared.resolve()), "reg_data": None})
        dataset = scan_dataset(config.data, trigger=config.trigger, class_word=config.class_word)
    name = folder.path.name
    to = Path(to).resolve()
    kohya = to / "sd-scripts"
    batches = _batches_per_epoch(config, dataset)
    a_pass = ceil(batches / config.gradient_accumulation_steps)
    steps = config.steps_per_epoch or a_pass
    ending = Ending(picked.ship_epoch, go_on=go_on, steps_per_epoch=steps, steps_per_pass=a_pass)
    there = gui = None
    try:
        there = to_sdscripts(config, dataset, traits=traits, folder=kohya, name=name, ending=ending)
    except SearchError as error:  # it lacks the optimizer or the family: our own files are written all the same
        notices.append(f"no files for sd-scripts and the kohya_ss GUI: {error}")
    gui_dataset = to / "kohya_ss-dataset.toml"
    trained = ending.last_epoch(config)
    if there is not None:
        notices += [*there.notices, *_photos(dataset), *about_base(config.base, traits)]
        notices += _differently(config, ending, batches, name)
        try:
            gui = to_kohya_gui(
                config, there, family=traits.family, folder=kohya, dataset_file=gui_dataset, total_steps=trained * steps
            )
        except SearchError as error:
            notices.append(f"no file for the kohya_ss GUI: {error}")
    run = ProductionRun(config, dataset, traits, name, ending, picked.about)
    others = tuple(other_trainers(run, to))
    written: list[tuple[Path, str]] = []

    def write(path: Path, text: str, what: str) -> None:
        write_bytes(path, text.encode())
        written.append((path, what))

    lora = picked.lora
    damage = None if lora is None or not lora.is_file() else lora_damage(lora.parent)
    if damage is not None:
        notices.append(f"no LoRA: the file of epoch {picked.epoch} is damaged ({lora}). train.yaml trains it again")
    elif lora is not None and lora.is_file():
        written.append((_copy_lora(lora, to / f"{name}.safetensors", name), f"the LoRA of epoch {picked.epoch}"))
    elif lora is not None:
        notices.append("no LoRA: the study did not keep that checkpoint (keep.checkpoints). train.yaml trains it again")
    about = picked.about
    if config.lr_scheduler not in FLAT_SCHEDULERS:
        about += f"\n{leave_epochs(config.epochs, None)}"
    write(
        to / "train.yaml",
        train_yaml(
            config,
            folder=to,
            name=name,
            epoch=picked.ship_epoch,
            go_on=go_on,
            about=about,
            prompts=novel_prompts(folder),
        ),
        "python -m trainer.run train.yaml",
    )
    if there is not None:
        comment = "\n".join((about, *notices))
        write(kohya / "config.toml", toml(there.config, comment=comment), "sd-scripts: the run")
        write(kohya / "dataset.toml", toml(there.dataset, comment=about), "sd-scripts: the photos")
        text = train_sh(there, about=about, name=name, config=config, ending=ending)
        write(kohya / "train.sh", text, "sd-scripts: the command")
    if there is not None and gui is not None:
        write(gui_dataset, toml(absolute(there.dataset, kohya), comment=about), "kohya_ss GUI: the photos")
    for other in others:
        if other.export is None:
            notices.append(f"no files for {other.tool}: {other.why}")
        else:
            notices += other.export.notices
            for number, (file, text) in enumerate(other.export.files.items()):
                write(other.folder / file, text, f"{other.tool}: the photos" if number else other.export.command)
    if prepare_photos is not None:
        written.append((Path(config.data), "the photos, as every trainer reads them"))
    if gui is not None:
        text = json.dumps(gui, indent=2, sort_keys=True) + "\n"
        write(to / "kohya_ss.json", text, "kohya_ss GUI, LoRA tab: open it there")
    return Exported(record.number, picked.epoch, picked.said, tuple(written), tuple(notices))


def _photos(dataset: "Dataset") -> list[str]:
    """Where sd-scripts reads this set differently, one line each, and what helps."""
    from search.exports.photos import differences

    found = [str(difference) for difference in differences(dataset)]
    return [*found, "--prepare-photos DIR writes a copy of the photos that both tools read the same"] if found else []


def _differently(config: "TrainConfig", ending: Ending, batches: int, name: str) -> list[str]:
    """What else goes differently there, for the length of an epoch and of the run."""
    said = []
    if batches % config.gradient_accumulation_steps:
        said.append(
            f"gradient_accumulation_steps: {config.gradient_accumulation_steps}: the photos make {batches} batches, so "
            "the last step of a pass has fewer of them. sd-scripts gives that step less weight; we give it as much as "
            "the others"
        )
    if ending.needs_copy(config):
        said.append(
            f"kohya_ss.json: the GUI's {name}.safetensors is the last epoch, {ending.last_epoch(config)}. The epoch to "
            f"ship is {saved_as(config, name, ending.epoch or 0)} beside it"
        )
    return said


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
