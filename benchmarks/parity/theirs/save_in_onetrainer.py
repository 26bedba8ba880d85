"""Run by OneTrainer's interpreter: its own LoRA modules, savers and file names. Imports nothing of ours."""

import copy
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from saving import Known, asked, each, epoch_steps, exported, lost, parts, stand_in, unlike

RUNS = {
    f"{family}-{form.lower()}{more}": {"family": family, "form": form, "text": text, **settings}
    for family in ("sd15", "sdxl")
    for form, text, more, settings in (
        ("KOHYA_LORA", True, "", {}),
        ("LEGACY_LORA", True, "", {}),
        ("DIFFUSERS_LORA", True, "", {}),
        ("COMFY_LORA", True, "", {}),
        ("ORIGINAL_LORA", False, "", {}),
        ("KOHYA_LORA", True, "-full", {"layers": ""}),
        ("KOHYA_LORA", False, "-dora", {"dora": True}),
        ("DIFFUSERS_LORA", False, "-dora", {"dora": True}),
        ("KOHYA_LORA", False, "-dora-by-input", {"dora": True, "by_output": False}),
    )
}


def main() -> None:
    checkout, work = Path(sys.argv[1]), Path(sys.argv[2])
    ask = asked(checkout, work)
    os.chdir(checkout)
    stand_in("mgds", "av", "gguf", "customtkinter", "scenedetect", "imagesize")
    each(RUNS, lambda folder, **settings: _save(ask, work, folder, **settings), work, _exports(work))


def _exports(work: Path) -> list[str]:
    from modules.util.config.ConceptConfig import ConceptConfig
    from modules.util.config.TrainConfig import TrainConfig

    wrong = []
    for file in exported(work, "config.json"):
        written = json.loads(file.read_text(encoding="utf-8"))
        config = TrainConfig.default_values().from_dict(copy.deepcopy(written))
        wrong += [*lost(written, config.to_dict()), *_optimizer(file, config)]
        for concept in json.loads(file.with_name("concepts.json").read_text(encoding="utf-8")):
            read = ConceptConfig.default_values().from_dict(copy.deepcopy(concept)).to_dict()
            wrong += lost(concept, read, "concept.")
    return wrong


def _optimizer(file: Path, config) -> list[str]:
    """What `GenericTrainer` makes of the options of the optimizer and the schedule."""
    import torch
    from modules.util import create
    from modules.util.NamedParameterGroup import NamedParameterGroup, NamedParameterGroupCollection

    part, groups = config.transformer if config.transformer.train else config.unet, NamedParameterGroupCollection()
    groups.add_group(NamedParameterGroup("unet", [torch.nn.Parameter(torch.zeros(1))], part.learning_rate))
    try:
        optimizer = create.create_optimizer(groups, None, config)
    except TypeError as error:  # it is written for an older bitsandbytes, whose 8-bit optimizers took this
        if "percentile_clipping" not in str(error):
            raise
        decay = config.optimizer.weight_decay
        optimizer = torch.optim.SGD(groups.parameters_for_optimizer(config), weight_decay=decay)
    batches = config.gradient_accumulation_steps * epoch_steps(file)
    schedule = create.create_lr_scheduler(
        config=config,
        optimizer=optimizer,
        learning_rate_scheduler=config.learning_rate_scheduler,
        warmup_steps=config.learning_rate_warmup_steps,
        num_cycles=config.learning_rate_cycles,
        min_factor=config.learning_rate_min_factor,
        num_epochs=config.epochs,
        approximate_epoch_length=batches,
        batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        global_step=0,
    )
    return unlike(file, optimizer, schedule, config.epochs * epoch_steps(file))


def _save(ask, work, folder, family, form, text, layers=None, dora=False, by_output=True) -> None:
    from modules.module.LoRAModule import LoRAModuleWrapper
    from modules.trainer.GenericTrainer import GenericTrainer
    from modules.util import create
    from modules.util.config.TrainConfig import TrainConfig
    from modules.util.enum.DataType import DataType
    from modules.util.enum.ModelFormat import ModelFormat
    from modules.util.enum.ModelType import ModelType
    from modules.util.enum.TrainingMethod import TrainingMethod
    from modules.util.TrainProgress import TrainProgress

    kind = ModelType.STABLE_DIFFUSION_15 if family == "sd15" else ModelType.STABLE_DIFFUSION_XL_10_BASE
    config = TrainConfig.default_values()
    config.model_type, config.training_method = kind, TrainingMethod.LORA
    config.lora_rank, config.lora_alpha = ask["rank"], ask["alpha"]
    config.lora_decompose, config.lora_decompose_output_axis = dora, by_output
    config.output_model_format, config.output_dtype = ModelFormat[form], DataType.FLOAT_16
    config.workspace_dir, config.output_model_destination = str(folder), str(folder / "save")
    config.train_device = config.temp_device = "cpu"
    config.layer_filter = "attentions" if layers is None else layers  # its presets "attn-mlp" and "full"
    if ask["few"]:
        more = () if layers is None else (one for one in ask["few_more"] if family == "sdxl" or "add_" not in one)
        config.layer_filter = ",".join([*ask["few"][family], *more])
    made = parts(Path(ask["bases"][family]), family)
    model = _model(kind, made)
    model.train_config = config
    wrappers = {"denoiser": ("unet", model.unet, config.layer_filter.split(","))}
    if text:
        names = ("text_encoder",) if family == "sd15" else ("text_encoder", "text_encoder_2")
        wrappers |= {f"text_encoder_{i}": (name, made[f"text_encoder_{i}"], None) for i, name in enumerate(names)}
    loras = {}
    for component, (name, module, chosen) in wrappers.items():
        # as modules/modelSetup/StableDiffusion(XL)LoRASetup.py makes them
        lora = LoRAModuleWrapper(module, name, config, chosen) if chosen else LoRAModuleWrapper(module, name, config)
        loras[component] = lora
        attribute = "text_encoder_1" if family == "sdxl" and name == "text_encoder" else name
        setattr(model, f"{attribute}_lora", lora)
    trainer = SimpleNamespace(
        callbacks=SimpleNamespace(on_update_status=lambda text: None),
        config=config,
        model=model,
        model_saver=create.create_model_saver(kind, TrainingMethod.LORA),
        parameters=[],
        one_step_trained=True,
    )
    os.makedirs(folder / "save")
    for epoch in ask["epochs"]:
        known = Known(work, family, epoch)
        for component, lora in loras.items():
            for path, module in lora.lora_modules.items():
                kind = "magnitude" if by_output else "magnitude_by_input"
                magnitude = {kind: module.dora_scale} if dora else {}
                known.fill(component, path, down=module.lora_down.weight, up=module.lora_up.weight, **magnitude)
        time.sleep(1.1)  # its names have seconds
        GenericTrainer._GenericTrainer__save(trainer, TrainProgress(epoch, 0, 0, epoch * ask["epoch_steps"]), False)
    for path in (folder / "save").iterdir():
        path.rename(folder / path.name)
    (folder / "save").rmdir()


def _model(kind, made):
    from modules.util.modelSpec.ModelSpec import ModelSpec

    if "text_encoder_1" in made:
        from modules.model.StableDiffusionXLModel import StableDiffusionXLModel

        model = StableDiffusionXLModel(kind)
        model.text_encoder_1, model.text_encoder_2 = made["text_encoder_0"], made["text_encoder_1"]
    else:
        from modules.model.StableDiffusionModel import StableDiffusionModel

        model = StableDiffusionModel(kind)
        model.text_encoder = made["text_encoder_0"]
    model.unet, model.ema = made["denoiser"], None
    name = "sd_xl_base_1.0-lora" if "text_encoder_1" in made else "sd_1.5-lora"  # as its loaders take it
    model.model_spec = ModelSpec.from_dict(json.loads(Path(f"resources/sd_model_spec/{name}.json").read_text()))
    return model


if __name__ == "__main__":
    main()
