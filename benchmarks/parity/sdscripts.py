"""sd-scripts: its option list, its reading of our files, its schedules, optimizers and LoRA modules."""

import json
from pathlib import Path
from typing import Any

from benchmarks.parity import ours
from benchmarks.parity.checks import Check, ask, verdict
from search.exports.option_check import OPTIONS_FILE
from trainer.data.dataset import scan_dataset
from trainer.families.layout import CONFIGS
from trainer.optimization.schedules import build_schedule
from trainer.packing.builder import run_settings

_RANK, _ALPHA = 4, 2.0


def run(checkout: Path, python: str, work: Path) -> list[Check]:
    """All checks."""
    made = list(ours.cases(work))
    ours.note(
        work,
        {
            "cases": [
                {"name": c.name, "folder": str(c.folder), "script": c.there.script, "steps": _steps(c)} for c in made
            ],
            "rank": _RANK,
            "alpha": _ALPHA,
            "configs": str(CONFIGS.resolve()),
        },
    )
    found = ask("in_sdscripts.py", checkout, python, work)
    checks = [_options(found["options"])]
    for case in made:
        theirs = found["cases"][case.name]
        checks.append(_case(case, theirs))
    checks.append(_photos(made[0], found["photos"]))
    checks += [_modules(family, found["modules"][family]) for family in ("sd15", "sdxl")]
    checks += _weights(found["snr_weights"])
    return checks


def _steps(case: ours.Case) -> int:
    return case.ending.steps_per_epoch * case.ending.last_epoch(case.config)


def _options(found: dict[str, list[str]]) -> Check:
    table = json.loads(OPTIONS_FILE.read_text(encoding="utf-8"))
    known = set().union(*found.values())
    gone = sorted(set(table["config"]) - known)
    new = sorted(known - set(table["config"]))
    said = (
        f"{len(table['config'])} of ours (version {table['version']}) exist; {len(new)} of theirs are not in our list"
    )
    return verdict("options", [f"{name} does not exist there" for name in gone], said)


def _case(case: ours.Case, theirs: dict[str, Any]) -> Check:
    if theirs.get("missing"):
        return Check("not run", case.name, theirs["missing"])
    wrong = list(theirs["wrong"])
    rates = _rates(case)
    if rates is not None and theirs["rates"]:
        worst = max(abs(a - b) for a, b in zip(rates, theirs["rates"], strict=True))
        if worst > 2e-5 * max(rates):
            wrong.append(f"learning rates differ by up to {worst:.3g}")
    return verdict(case.name, wrong, f"accepted; {theirs['optimizer']}, {len(theirs['rates'])} learning rates agree")


def _rates(case: ours.Case) -> list[float] | None:
    """Our learning rate at each step that is trained; None where the optimizer sets its own."""
    import torch

    config = case.config
    if config.relative_step or config.optimizer == "AdamWScheduleFree":
        return None
    rate = case.there.config["unet_lr"]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = build_schedule(
        optimizer, run_settings(config).schedule, total_steps=config.epochs * case.ending.steps_per_epoch
    )
    rates = []
    for _ in range(_steps(case)):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return rates


def _photos(case: ours.Case, found: dict[str, Any]) -> Check:
    dataset = scan_dataset(case.config.data)
    theirs = {entry["path"]: entry for entry in found["images"]}
    wrong = []
    for photo, size in zip(dataset.photos, ours.sizes(case.config, dataset), strict=True):
        entry = theirs.pop(str(photo.path.resolve()), None)
        if entry is None:
            wrong.append(f"{photo.path.name} is not read")
            continue
        if (entry["caption"], entry["is_reg"]) != (photo.caption, photo.is_reg):
            wrong.append(f"{photo.path.name}: {entry['caption']!r}, ours is {photo.caption!r}")
        if tuple(entry["bucket"]) != size:
            wrong.append(f"{photo.path.name}: bucket {entry['bucket']}, ours is {size}")
    wrong += [f"{path} is read there alone" for path in theirs]
    batches = ours.batches_per_epoch(dataset.photos, ours.sizes(case.config, dataset), case.config.batch_size)
    if found["batches"] != batches:
        wrong.append(f"{found['batches']} batches an epoch, ours are {batches}")
    return verdict("photos", wrong, f"{len(dataset.photos)} images, captions, buckets and {batches} batches agree")


def _modules(family: str, found: dict[str, Any]) -> Check:
    mine = ours.lora_modules(family)
    wrong = [f"{name} is ours alone" for name in sorted(mine.keys() - found.keys())]
    wrong += [f"{name} is theirs alone" for name in sorted(found.keys() - mine.keys())]
    for name in mine.keys() & found.keys():
        weight, there = mine[name], found[name]
        if (there["down"][1], there["up"][0], len(there["down"])) != (weight[1], weight[0], len(weight)):
            wrong.append(f"{name}: {there['down']} and {there['up']} for a weight of {weight}")
        if there["alpha"] != _ALPHA or there["down"][0] != _RANK or there["up_is_not_zero"]:
            wrong.append(f"{name}: other rank, alpha or initial values")
        if not 0.85 < there["spread"] < 1.15:
            wrong.append(f"{name}: initial values spread {there['spread']:.2f} of kaiming-uniform's")
    return verdict(f"LoRA modules of {family}", wrong, f"{len(mine)} names, shapes, alphas and initial values agree")


def _weights(found: dict[str, dict[str, list[float]]]) -> list[Check]:
    """min-SNR's and debiased weights at every timestep for ε, v, and v with zero terminal SNR."""
    import torch
    from diffusers import DDPMScheduler

    checks = []
    for name, theirs in found.items():
        kind = "epsilon" if name == "epsilon" else "v_prediction"
        base = ours.full_size_base("sd15")
        base.noise_scheduler = DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=kind,
            rescale_betas_zero_snr=name == "zero terminal SNR",
        )  # fmt: skip
        timesteps = torch.arange(1000)
        for weighting, mine in (
            ("min-SNR", base.family.loss_weight(base, timesteps, 5.0)),
            ("debiased", base.family.loss_weight(base, timesteps, None, debiased_estimation=True)),
        ):
            expected = torch.tensor(theirs[weighting])
            ratio, worst = float((mine / expected).mean()), float((mine - expected).abs().max())
            said = f"at most {worst:.2g} apart, mean ratio {ratio:.3f}"
            state = "ok" if worst < 1e-4 else "told" if name == "zero terminal SNR" else "DIFFERS"
            checks.append(Check(state, f"{weighting}, {name}", said))
    return checks
