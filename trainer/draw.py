"""Own prompts over LoRA files, into one picture:

    python -m trainer.draw dog.safetensors --base BASE --prompt "a photo of sks dog in the snow" --strength 0.6 0.8 1.0

Files and folders of any trainer; a row for each prompt and seed, a column for each checkpoint and strength.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
import re
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

from trainer.arguments import Arguments, folder_to_write, number, picture_to_write, whole
from trainer.command import DONE, Command, end
from trainer.errors import ConfigError, DataError, ModelError, TrainerError, mistake

_EXAMPLE = """example:
  python -m trainer.draw dog.safetensors --base BASE --prompt "a photo of sks dog in the snow" --strength 0.6 0.8 1.0
  python -m trainer.draw output --epochs 8 12 16 --base BASE --prompt "sks dog, watercolour" --seeds 3
  python -m trainer.draw runs/demo/trials/0010 --prompt "sks heart, small, on the left, snow, plain floor"

exit codes: 0 done, 1 failed while working, 2 the input is wrong, 130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code and prints one line on stderr for each error."""
    command = Command("trainer.draw", refused=(ConfigError, DataError, ModelError), failed=(TrainerError,))
    return command.run(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = command_line().parse_args(arguments)

    from trainer.devices import why_no_device
    from trainer.inference.checkpoint_choice import base_of, chosen

    if (expected := why_no_device(options.device)) is not None:
        raise ConfigError(None, "--device", options.device, expected)
    files = chosen(options.lora, options.epochs)
    base = options.base or base_of(options.lora)
    if base is None:
        raise ConfigError(None, "--base", None, "the base that the LoRA was trained on")
    if options.base is None and Path(base).is_absolute() and not Path(base).exists():
        why = f"it was {base}, where nothing is now"
        raise ConfigError(None, "--base", None, "the base that the LoRA was trained on", why)

    from trainer.inference.drawing import Drawing, draw

    draw(
        files,
        Drawing(
            base=base,
            prompts=tuple(options.prompt),
            strengths=tuple(options.strength),
            seeds=tuple(range(options.seed, options.seed + options.seeds)),
            size=options.size,
            steps=options.steps,
            guidance=options.guidance,
            scheduler=options.scheduler,
            negative=options.negative,
            precision=options.precision,
            clip_skip=options.clip_skip,
            with_base=not options.no_base,
        ),
        device=options.device,
        to=options.to,
        images=options.images,
    )
    return DONE


def command_line() -> Arguments:
    """What the command line may say."""
    parser = Arguments(
        prog="python -m trainer.draw",
        description="Draw your own prompts with LoRA files, with checkpoints of a run, or with epochs of a trial, "
        "at one or several strengths, and lay them out in one picture.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "lora", metavar="LORA", type=Path, nargs="+", help="LoRA files, folders of a run's files, or a trial's folder"
    )
    parser.add_argument("--prompt", nargs="+", required=True, help="what to draw; each prompt is a row")
    parser.add_argument("--base", help="hub id, diffusers folder or .safetensors (default: that of the trial)")
    parser.add_argument(
        "--strength", metavar="S", type=number(-4, 4), nargs="+", default=[1.0], help="each is a column (default: 1)"
    )
    parser.add_argument(
        "--epochs",
        metavar="N",
        type=whole(0),
        nargs="+",
        help="which checkpoints of a folder, by epoch, or by step where its files count steps (default: eight of them)",
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="the first seed (default: 0)")
    parser.add_argument("--seeds", metavar="N", type=whole(1, 64), default=1, help="images of a prompt (default: 1)")
    parser.add_argument("--size", type=_size, help="512, or 512x768: width x height (default: the base's)")
    parser.add_argument("--steps", type=whole(1, 1000), default=20, help="sampler steps (default: 20)")
    parser.add_argument("--guidance", type=number(0, 100), default=6.0, help="guidance scale (default: 6)")
    samplers = ["dpmpp_2m", "unipc", "ddim", "euler_a"]
    parser.add_argument("--scheduler", choices=samplers, default="dpmpp_2m", help="sampler (default: dpmpp_2m)")
    parser.add_argument("--negative", metavar="PROMPT", default="", help="what not to draw")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], help="default: fp32 on a CPU, else bf16")
    parser.add_argument("--clip-skip", metavar="N", type=whole(1, 12), help="as in training (default: as the base)")
    parser.add_argument("--no-base", action="store_true", help="leave out the column without LoRA")
    parser.add_argument(
        "--to", metavar="PNG", type=picture_to_write, help="the picture (default: a new drawn-1.png, drawn-2.png, …)"
    )
    parser.add_argument("--images", metavar="DIR", type=folder_to_write, help="also each image in a file of its own")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 or mps")
    return parser


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})(?:[x×,](\d{1,5}))?", text.strip())
    if found is None or not all(64 <= int(side) <= 8192 for side in found.groups() if side):
        expected = "a side from 64 to 8192, or width x height such as 512x768"
        raise ArgumentTypeError(mistake(None, "", text, expected))
    return int(found[1]), int(found[2] or found[1])


if __name__ == "__main__":
    end(main)
