"""A production run without any search:

    python -m trainer.run train.yaml

Trains the LoRA that train.yaml describes, draws samples on the way, and goes on where it stopped when run again.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

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

exit codes: 0 done, 1 failed while working, 2 the input is wrong, 130 interrupted (checkpoints are kept)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code and prints one line on stderr for each error."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.run",
        description="Trains the LoRA that a train.yaml describes; goes on where it stopped.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="TRAIN.yaml", type=Path)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="folder of the run (default: beside the file, by its name)"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    parser.add_argument("--dry-run", action="store_true", help="measure a few steps, tell steps, time and memory, stop")
    options = parser.parse_args(arguments)

    from trainer.errors import ConfigError, DataError, ModelError, TrainerError

    try:
        from trainer.production_config import load_production

        config, output = load_production(options.config)
        for notice in config.notices():
            print(f"note: {notice}", file=sys.stderr)
        # the heavy libraries are imported after the file is known to be right
        from trainer.production import dry_run, train

        signal.signal(signal.SIGTERM, _interrupt)
        folder = options.out or options.config.with_suffix("")
        if options.dry_run:
            dry_run(config, output, folder, device=options.device)
        else:
            train(config, output, folder, device=options.device)
    except (ConfigError, DataError, ModelError) as error:
        return _say(error, WRONG_INPUT)
    except TrainerError as error:
        return _say(error, FAILED)
    except KeyboardInterrupt:
        return _say("interrupted; run the same command again to go on from the last checkpoint", INTERRUPTED)
    except OSError as error:
        return _say(error, FAILED)
    return DONE


def _say(message: object, code: int) -> int:
    print(f"error: {message}" if code != INTERRUPTED else str(message), file=sys.stderr)
    return code


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
