"""A LoRA file before it is passed on:

    python -m trainer.deliver dog.safetensors --base stable-diffusion-v1-5/stable-diffusion-v1-5

Looks it over and says what keeps it from being passed on; with an option that changes something, writes another file.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.arguments import Arguments, number, whole
from trainer.command import DONE, FAILED, Command, end
from trainer.errors import ModelError, TrainerError

if TYPE_CHECKING:
    from trainer.delivery.architecture import Architecture
    from trainer.delivery.gate import LoraFile

_HELP = """\
examples:

    python -m trainer.deliver dog.safetensors                      # look it over
    python -m trainer.deliver dog.safetensors --clean --repair     # dog-delivered.safetensors, which passes
    python -m trainer.deliver dog.safetensors --rank auto          # the smallest rank that loses nothing
    python -m trainer.deliver dog.safetensors --plain-lora --rank 64 --base BASE   # of a DoRA
    python -m trainer.deliver dog.safetensors --unet 0.8 --text-encoder 0.6
    python -m trainer.deliver dog.safetensors --blocks 1,1,1,1,0.5,0,0,1,1,1,1,1,1,1,1,1,1

exit codes: 0 it passes, 1 it has faults, 2 the input is wrong, 130 interrupted; nothing is ever overwritten
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code and prints one line on stderr for each error."""
    command = Command("trainer.deliver", refused=(ModelError,), failed=(TrainerError,))
    return command.run(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = command_line().parse_args(arguments)
    from trainer.lora.architectures import check_lora_file

    if options.lora.is_file():  # told before torch loads
        check_lora_file(options.lora)
    from trainer.delivery.edits import Edits, check_free, write_edited
    from trainer.delivery.gate import read_file

    edits = Edits(
        clean=options.clean,
        drop_photos=options.no_photos,
        repair=options.repair,
        plain_lora=options.plain_lora,
        rank=options.rank,
        loss=options.loss,
        per_layer=options.per_layer,
        unet=options.unet,
        text_encoder=options.text_encoder,
        blocks=options.blocks,
        dtype=options.dtype,
    )
    path: Path = options.lora
    if options.to is not None and not edits.any:
        raise ModelError("--to: expected an option that changes something, such as --clean, got none")
    to: Path = options.to or path.with_name(f"{path.stem}-delivered.safetensors")
    if edits.any:
        check_free(to)
    file = read_file(path)
    architecture = _architecture(options.base, file)
    passes = _show(file, architecture)
    if not edits.any:
        return DONE if passes else FAILED
    written = write_edited(file, edits, to, base=options.base)
    print(f"\n{written.path}: written; {path.name} stays as it is")
    for sentence in written.said:
        print(f"  {sentence}")
    print()
    return DONE if _show(read_file(to), architecture) else FAILED


def _architecture(base: str | None, file: LoraFile) -> Architecture | None:
    from trainer.delivery.architecture import architecture_of, usual_architecture

    return usual_architecture(file.family) if base is None else architecture_of(base)


def _show(file: LoraFile, architecture: Architecture | None) -> bool:
    """Print what the gate finds; returns whether the file passes."""
    from trainer.delivery.gate import look

    lora = file.lora
    ranks = sorted({module.rank for module in lora.modules.values()}) if lora is not None else []
    rank = f", rank {ranks[0]}" + (f" to {ranks[-1]}" if len(ranks) > 1 else "") if ranks else ""
    count = 0 if lora is None else len(lora.modules)
    print(f"{file.path}: a LoRA for {file.family}, {count} layers{rank}, {file.path.stat().st_size / 2**20:.1f} MiB")
    found = look(file, architecture)
    for finding in found:
        print(f"  {finding.line}")
    faults = sum(not finding.passes for finding in found)
    print("  it passes" if not faults else f"  it does not pass yet: {faults} fault{'s' * (faults > 1)}")
    return not faults


def command_line() -> Arguments:
    """What the command line may say."""
    parser = Arguments(
        prog="python -m trainer.deliver",
        description="Look a LoRA file over before it is passed on, and write a clean, lighter or weaker one.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("lora", metavar="LORA.safetensors", type=Path, help="the file: LoRA, LoCon or DoRA, any keys")
    parser.add_argument(
        "--base",
        help="the base it is for, to check its layers against (default: the usual SD 1.5 or SDXL)",
    )
    parser.add_argument(
        "--to", metavar="FILE", type=Path, help="the file to write (default: NAME-delivered.safetensors beside it)"
    )
    parser.add_argument(
        "--clean", action="store_true", help="leave out private paths, names, mail addresses, keys and foreign tensors"
    )
    parser.add_argument(
        "--no-photos", action="store_true", help="leave out what the metadata says of the photos' folders and tags"
    )
    parser.add_argument("--repair", action="store_true", help="write missing alphas, family, rank and hashes")
    parser.add_argument(
        "--plain-lora",
        action="store_true",
        help="make a DoRA a LoRA that all programs draw alike, of --rank (default: four times its own); needs --base",
    )
    parser.add_argument(
        "--rank",
        metavar="N|auto",
        type=_rank,
        help="reduce the rank; auto: to the smallest that loses no more than --loss",
    )
    parser.add_argument(
        "--loss",
        metavar="SHARE",
        type=number(0, 1),
        default=0.001,
        help="how much of the LoRA's change --rank auto may lose (default: 0.001)",
    )
    parser.add_argument("--per-layer", action="store_true", help="with --rank auto: each layer has a rank of its own")
    parser.add_argument(
        "--unet", metavar="X", type=number(-4, 4), default=1.0, help="strength of the U-Net's layers (default: 1)"
    )
    parser.add_argument(
        "--text-encoder", metavar="X", type=number(-4, 4), default=1.0, help="and of the text encoders' (default: 1)"
    )
    parser.add_argument(
        "--blocks",
        metavar="WEIGHTS",
        help="weight of each block, as a WebUI's lbw= has them: 17 for SD 1.5, 12 for SDXL",
    )
    parser.add_argument("--dtype", choices=("fp16", "bf16", "fp32"), help="of the weights (default: as they are)")
    return parser


def _rank(text: str) -> int | Literal["auto"]:
    return "auto" if text == "auto" else whole(1, 1024)(text)


if __name__ == "__main__":
    end(main)
