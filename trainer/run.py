"""A production run without any search:

    python -m trainer.run train.yaml

Trains the LoRA that train.yaml describes, draws samples on the way, and goes on where it stopped when run again.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.arguments import Arguments, folder_to_write
from trainer.command import DONE, FAILED, INTERRUPTED, WRONG_INPUT, Command, end
from trainer.errors import ConfigError, DataError, ModelError, TrainerError

__all__ = ["DONE", "FAILED", "INTERRUPTED", "WRONG_INPUT", "main"]

_HELP = """\
example train.yaml:

    base: stable-diffusion-v1-5/stable-diffusion-v1-5   # hub id, diffusers folder or .safetensors
    data: photos                                        # photos/20_sks dog/*.jpg and *.txt
    resolution: 512
    batch_size: 2
    rank: 16
    alpha: 8
    optimizer: AdamW
    lr_scheduler: cosine_with_restarts
    num_cycles: 3
    epochs: 30
    save_every_n_epochs: 5
    precision: bf16
    output:                                             # all of it optional
      name: my-dog
      sample_prompts: ["a photo of sks dog on the beach", "a painting of sks dog"]

    python -m trainer.run train.yaml            # train; run again to go on
    python -m trainer.run train.yaml --dry-run  # steps, time and memory, measured on a few steps
    accelerate launch -m trainer.run train.yaml # several GPUs
    python -m trainer.run kohya.toml            # a run of sd-scripts, or of the kohya_ss GUI (.json)

exit codes: 0 done, 1 failed while working, 2 the input is wrong, 130 interrupted (checkpoints are kept)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code and prints one line on stderr for each error."""
    command = Command(
        "trainer.run",
        refused=(ConfigError, DataError, ModelError),
        failed=(TrainerError,),
        interrupted="interrupted; run the same command again to go on from the last checkpoint",
    )
    return command.run(lambda: _main(arguments, command))


def _main(arguments: Sequence[str] | None, command: Command) -> int:
    options = command_line().parse_args(arguments)

    from trainer.base_model.load import check_base
    from trainer.devices import why_no_device
    from trainer.errors import ConfigError
    from trainer.production.production_config import load_production

    if (expected := why_no_device(options.device)) is not None:
        raise ConfigError(None, "--device", options.device, expected)
    config, output = load_production(options.config, tell=lambda note: print(f"note: {note}", file=sys.stderr))
    for notice in (*config.notices(), *config.cautions()):
        print(f"note: {notice}", file=sys.stderr)
    check_base(options.config, config.base, config.family)
    command.folder = folder = options.out or options.config.with_suffix("")
    # the heavy libraries are imported after the file is known to be right
    from trainer.production.production import dry_run, train

    if options.dry_run:
        dry_run(config, output, folder, device=options.device)
    else:
        train(config, output, folder, device=options.device)
    return DONE


def command_line() -> Arguments:
    """What the command line may say."""
    parser = Arguments(
        prog="python -m trainer.run",
        description="Train the LoRA that a train.yaml describes. Run again, it goes on where it stopped.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config",
        metavar="TRAIN.yaml",
        type=Path,
        help="the training file; or sd-scripts' config.toml, or the kohya_ss GUI's JSON",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=folder_to_write,
        help="folder of the run (default: one beside the file, named like it)",
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 or mps")
    parser.add_argument(
        "--dry-run", action="store_true", help="train a few steps only, and say what the run takes: steps, time, memory"
    )
    return parser


if __name__ == "__main__":
    end(main)
