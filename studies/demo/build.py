"""Trains and writes the demo world's models: the tiny base, the tiny CLIP and the judges.

    python -m studies.demo.build                     # all of it; goes on where it stopped
    python -m studies.demo.build --minutes painter=240

Uses an accelerator when there is one (minutes), else the CPU (hours). Ends with the quality reached.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from studies.demo import judges as judging
from studies.demo import models, quality, stages
from studies.demo.boxes import Box
from studies.demo.pool import concept_pool, join, make_pool

HERE = Path(__file__).parent
STAGES = ("vae", "painter", "clip", "judges", "quality")
MINUTES = {"cpu": {"vae": 25, "painter": 180, "clip": 30, "judges": 15},
           "cuda": {"vae": 2, "painter": 6, "clip": 2, "judges": 1}}  # fmt: skip
COUNTS = {"cpu": {"vae": 20_000, "painter": 50_000, "clip": 40_000, "judges": 15_000},
          "cuda": {"vae": 60_000, "painter": 300_000, "clip": 200_000, "judges": 60_000}}  # fmt: skip
BATCHES = {"cpu": {"vae": 32, "painter": 32, "clip": 128, "judges": 64},
           "cuda": {"vae": 256, "painter": 512, "clip": 1024, "judges": 512}}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    args = _parse(argv)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    minutes, counts, batches = ({**table[device.type]} for table in (MINUTES, COUNTS, BATCHES))
    minutes.update(args.minutes)
    counts.update(args.counts)
    batches.update(args.batches)
    boxes = {name: Box(minutes[name], args.steps) for name in minutes}
    for folder in (args.work, args.out):  # before hours of training, not after
        folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()

    def say(stage: str) -> None:
        print(f"[{time.perf_counter() - started:5.0f} s] {stage} on {device}", flush=True)

    if "vae" in args.stages or "painter" in args.stages:
        say("vae")
        vae = stages.train_vae(args.work, boxes["vae"], count=counts["vae"], batch=batches["vae"], device=device)
        say("latents")
        data = stages.make_latents(args.work, vae, count=counts["painter"], device=device)
    if "painter" in args.stages:
        say("painter")
        painter = stages.train_painter(
            args.work, boxes["painter"], data, attention=args.attention, batch=batches["painter"], device=device
        )
        models.save_base(vae, painter.unet, painter.text, args.out / "base")
        del data
    if "clip" in args.stages:
        say("clip")
        clip = stages.train_clip(args.work, boxes["clip"], count=counts["clip"], batch=batches["clip"], device=device)
        models.save_clip(clip, args.out / "clip")
    if "judges" in args.stages:
        say("judges")
        judges = stages.train_judges(
            args.work, boxes["judges"], count=counts["judges"], batch=batches["judges"], device=device
        )
        judging.save_judges(judges, args.out / judging.FILE.name)
    if "quality" in args.stages:
        say("quality")
        measure(args.out, device, images=args.images)
    say("done")
    return 0


def measure(folder: Path, device: torch.device, *, images: int) -> None:
    """Measures what lies in `folder`, prints it, writes quality.json and samples.png."""
    import open_clip

    pipeline = quality.open_pipeline(folder / "base", device)
    judges = judging.load_judges(folder / judging.FILE.name, device)
    clip, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder / 'clip'}", device=device)
    fresh = join([make_pool(max(32, images), 9, device), concept_pool(max(2, images // 20), 9, device)])
    shares = {name: round(value, 4) for name, value in quality.obedience(pipeline, judges, images).items()}
    on_renders = judging.accuracy(judges, fresh.images.permute(0, 2, 3, 1), fresh.labels)
    shipped = [file for part in ("base", "clip") for file in (folder / part).rglob("*")]
    shipped.append(folder / judging.FILE.name)
    report = {
        "obedience of generated images": shares,
        "drawn with": {"images": images, "steps": quality.STEPS, "guidance": quality.GUIDANCE},
        "judges on fresh renders": {name: round(value, 4) for name, value in on_renders.items()},
        "clip retrieval top-1 of 64": round(quality.retrieval(clip.eval(), device), 4),
        "vae psnr": {name: round(value, 2) for name, value in quality.reconstruction(pipeline.vae, device).items()},
        "unet parameters": sum(p.numel() for p in pipeline.unet.parameters()),
        "bytes": sum(file.stat().st_size for file in shipped if file.is_file()),
    }
    (folder / "quality.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2), flush=True)
    quality.sheet(pipeline, folder / "samples.png")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m studies.demo.build", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("build/demo"), help="checkpoints to resume from")
    parser.add_argument("--out", type=Path, default=HERE, help="where base/, clip/ and judges.safetensors go")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--attention", choices=("8", "16"), default="8", help="see models.make_unet")
    parser.add_argument("--device", help="cuda or cpu (default: cuda where there is one)")
    parser.add_argument("--steps", type=int, help="steps of each stage instead of minutes")
    parser.add_argument("--images", type=int, default=256, help="pictures drawn to measure obedience")
    for name, kind in (("minutes", float), ("counts", int), ("batches", int)):
        meaning = {"counts": "scenes rendered for"}.get(name, f"{name} of")
        parser.add_argument(f"--{name}", nargs="+", default={}, action=_Table, kind=kind, metavar="STAGE=N",
                            help=f"{meaning} a stage, such as painter=30")  # fmt: skip
    return parser.parse_args(argv)


class _Table(argparse.Action):
    def __init__(self, *args, kind: type, **keywords) -> None:
        super().__init__(*args, **keywords)
        self.kind = kind

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        table = {}
        for value in values:
            stage, _, number = value.partition("=")
            if stage not in STAGES:
                parser.error(f"{option_string}: {stage!r} is not one of {', '.join(STAGES)}")
            table[stage] = self.kind(number)
        setattr(namespace, self.dest, table)


if __name__ == "__main__":
    raise SystemExit(main())
