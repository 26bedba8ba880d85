"""Run by sd-scripts' interpreter: what its own code makes of our exports. Imports nothing of ours."""

import argparse
import importlib
import json
import math
import sys
import traceback
from pathlib import Path


def main() -> None:
    checkout, work = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path.insert(0, str(checkout))
    asked = json.loads((work / "asked.json").read_text(encoding="utf-8"))
    scripts = {name: importlib.import_module(name.removesuffix(".py")) for name in _scripts(asked)}
    parsers = {name: script.setup_parser() for name, script in scripts.items()}
    found = {
        "options": {name: sorted(a.dest for a in parser._actions) for name, parser in parsers.items()},
        "cases": {case["name"]: _case(case, parsers[case["script"]]) for case in asked["cases"]},
        "photos": _photos(asked["cases"][0], parsers),
        "modules": {family: _modules(family, asked) for family in ("sd15", "sdxl")},
        "snr_weights": _snr_weights(),
    }
    (work / "found.json").write_text(json.dumps(found), encoding="utf-8")


def _scripts(asked: dict) -> list[str]:
    return sorted({case["script"] for case in asked["cases"]} | {"sd3_train_network.py"})


def _arguments(case: dict, parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The way of train_network.py: parse, check, read the file, check."""
    import os

    from library import train_util

    os.chdir(case["folder"])
    sys.argv = [case["script"], "--config_file=config.toml"]
    arguments = parser.parse_args()
    train_util.verify_command_line_training_args(arguments)
    return train_util.read_config_from_file(arguments, parser)


def _case(case: dict, parser: argparse.ArgumentParser) -> dict:
    import torch
    from library import train_util

    wrong = []
    arguments = _arguments(case, parser)
    try:
        train_util.verify_training_args(arguments)
        train_util.prepare_dataset_args(arguments, True)
    except AssertionError as error:
        wrong.append(f"refused: {error}")
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    try:
        name, _, optimizer = train_util.get_optimizer(arguments, [{"params": [parameter], "lr": arguments.unet_lr}])
    except ImportError as error:
        return {"missing": f"its optimizer needs a package: {error}"}
    except Exception as error:
        if "bitsandbytes" in traceback.format_exc():
            return {"missing": f"bitsandbytes: {error}"}
        return {"wrong": [f"its optimizer refuses: {error}"], "rates": [], "optimizer": ""}
    arguments.max_train_steps = case["steps"]
    rates = []
    try:
        schedule = train_util.get_scheduler_fix(arguments, optimizer, 1)
        if "schedulefree" not in arguments.optimizer_type.lower() and arguments.lr_scheduler != "adafactor":
            for _ in range(case["steps"]):
                rates.append(optimizer.param_groups[0]["lr"])
                schedule.step()
    except (ValueError, AssertionError, TypeError) as error:
        wrong.append(f"its schedule refuses: {error}")
    return {"wrong": wrong, "rates": rates, "optimizer": name.rsplit(".", 1)[-1]}


def _photos(case: dict, parsers: dict) -> dict:
    from library import config_util, strategy_base, strategy_sd

    arguments = _arguments(case, parsers[case["script"]])
    if strategy_base.LatentsCachingStrategy.get_strategy() is None:
        strategy_base.LatentsCachingStrategy.set_strategy(
            strategy_sd.SdSdxlLatentsCachingStrategy(True, False, 1, False)
        )
    generator = config_util.BlueprintGenerator(config_util.ConfigSanitizer(True, True, False, True))
    blueprint = generator.generate(config_util.load_user_config("dataset.toml"), arguments, tokenizer=None)
    group, _ = config_util.generate_dataset_group_by_blueprint(blueprint.dataset_group)
    group.verify_bucket_reso_steps(64)
    images = [
        {
            "path": str(Path(info.absolute_path).resolve()),
            "caption": info.caption,
            "is_reg": info.is_reg,
            "bucket": list(info.bucket_reso),
        }
        for dataset in group.datasets
        for info in dataset.image_data.values()
    ]
    return {"images": images, "batches": len(group)}


def _modules(family: str, asked: dict) -> dict:
    import torch
    from networks import lora
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    configs = Path(asked["configs"]) / family
    with torch.device("meta"):
        first = CLIPTextModel(CLIPTextConfig.from_pretrained(configs / "text_encoder"))
        encoders = first
        if family == "sdxl":
            from library.sdxl_original_unet import SdxlUNet2DConditionModel

            unet = SdxlUNet2DConditionModel()
            second = CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(configs / "text_encoder_2"))
            encoders = [first, second]
        else:
            from library.original_unet import UNet2DConditionModel

            unet = UNet2DConditionModel(64, 8, 768)
    network = lora.create_network(1.0, asked["rank"], asked["alpha"], None, encoders, unet)
    found = {}
    for module in [*network.text_encoder_loras, *network.unet_loras]:
        down, up = module.lora_down.weight, module.lora_up.weight
        fan_in = math.prod(down.shape[1:])
        found[module.lora_name] = {
            "down": list(down.shape),
            "up": list(up.shape),
            "alpha": float(module.alpha),
            "up_is_not_zero": bool(up.any()),
            "spread": float(down.std() * math.sqrt(3 * fan_in)),
        }
    return found


def _snr_weights() -> dict:
    import torch
    from diffusers import DDPMScheduler
    from library import custom_train_functions as custom

    found = {}
    for name in ("epsilon", "velocity", "zero terminal SNR"):
        scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
        custom.prepare_scheduler_for_custom_training(scheduler, "cpu")  # before the betas are rescaled, as it does
        if name == "zero terminal SNR":
            custom.fix_noise_scheduler_betas_for_zero_terminal_snr(scheduler)
        steps = torch.arange(1000)
        weights = custom.apply_snr_weight(torch.ones(1000), steps, scheduler, 5.0, name != "epsilon")
        debiased = custom.apply_debiased_estimation(torch.ones(1000), steps, scheduler, name != "epsilon")
        found[name] = {"min-SNR": weights.tolist(), "debiased": debiased.tolist()}
    return found


if __name__ == "__main__":
    main()
