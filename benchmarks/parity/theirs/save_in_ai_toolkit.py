"""Run by ai-toolkit's interpreter: its own networks, saving code and file names. Imports nothing of ours."""

import copy
import os
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

from saving import Known, asked, each, exported, lost, parts, stand_in, unlike

# "locon" is not among them: of 27a03a9, LycorisSpecialNetwork has no network_type, and saving it fails
RUNS = {
    f"{family}-{name}": {"family": family, **settings}
    for family in ("sd15", "sdxl")
    for name, settings in (
        ("lora", {"kind": "lora", "text": True}),
        ("lora-conv", {"kind": "lora", "conv": True}),
        ("dora", {"kind": "dora", "scale": 1.0, "network_kwargs": {"target_lin_modules": ["BasicTransformerBlock"]}}),
        ("peft", {"kind": "lora", "scale": 1.0, "network_kwargs": {"peft_format": True}}),
    )
}


def main() -> None:
    checkout, work = Path(sys.argv[1]), Path(sys.argv[2])
    ask = asked(checkout, work)
    os.chdir(checkout)
    stand_in("albumentations", "torchaudio", "av", "lpips")
    each(RUNS, lambda folder, **settings: _save(ask, work, folder, **settings), work, _exports(work))


def _exports(work: Path) -> list[str]:
    import yaml
    from toolkit.config_modules import DatasetConfig, ModelConfig, NetworkConfig, SaveConfig, TrainConfig

    wrong = []
    for file in exported(work, "config.yaml"):
        (process,) = yaml.safe_load(file.read_text(encoding="utf-8"))["config"]["process"]
        sections = {"network": NetworkConfig, "train": TrainConfig, "model": ModelConfig, "save": SaveConfig}
        given = [(name, kind, process[name]) for name, kind in sections.items()]
        for name, kind, values in [*given, *(("dataset", DatasetConfig, one) for one in process["datasets"])]:
            wrong += lost(values, vars(kind(**values)), f"{name}.")
        wrong += _optimizer(file, TrainConfig(**copy.deepcopy(process["train"])))
    return wrong


def _optimizer(file: Path, train) -> list[str]:
    """What `BaseSDTrainProcess.run` makes of the options of the optimizer and the schedule."""
    import torch
    from toolkit.optimizer import get_optimizer
    from toolkit.scheduler import get_lr_scheduler

    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": train.lr}]
    optimizer = get_optimizer(groups, train.optimizer, learning_rate=train.lr, optimizer_params=train.optimizer_params)
    keywords = train.lr_scheduler_params
    if "max_iterations" not in keywords:
        keywords["total_iters"] = train.steps
    return unlike(file, optimizer, get_lr_scheduler(train.lr_scheduler, optimizer, **keywords), train.steps)


def _save(ask, work, folder, family, kind, text=False, conv=False, network_kwargs=None) -> None:
    import torch
    from jobs.process.BaseSDTrainProcess import BaseSDTrainProcess
    from toolkit.config_modules import ModelConfig, NetworkConfig, SaveConfig, TrainConfig
    from toolkit.lora_special import LoRASpecialNetwork
    from toolkit.stable_diffusion_model import StableDiffusion

    made = parts(Path(ask["bases"][family]), family)
    encoders = [made[f"text_encoder_{i}"] for i in range(2 if family == "sdxl" else 1)]
    base = object.__new__(StableDiffusion)
    base.model_config = ModelConfig(name_or_path=ask["bases"][family], arch="sdxl" if family == "sdxl" else "sd1")
    base.arch = base.model_config.arch
    base.is_transformer, base.unet, base.use_old_lokr_format = False, made["denoiser"], True
    base.text_encoder = encoders if family == "sdxl" else encoders[0]
    base.refiner_unet = None
    chosen = dict(network_kwargs or {})
    if ask["few"]:
        chosen["only_if_contains"] = ["lora_te", *ask["few"][family], *(ask["few_more"] if conv else ())]
    # a DoRA's file has no alpha, so it has to be the rank
    alpha = ask["rank"] if kind == "dora" else ask["alpha"]
    halves = {"conv": ask["rank"], "conv_alpha": alpha} if conv else {}
    config = NetworkConfig(type=kind, linear=ask["rank"], linear_alpha=alpha, network_kwargs=chosen, **halves)
    model = base.model_config
    lora = LoRASpecialNetwork(  # as BaseSDTrainProcess.run makes it
        text_encoder=base.text_encoder,
        unet=base.get_model_to_train(),
        lora_dim=config.linear,
        multiplier=1.0,
        alpha=config.linear_alpha,
        train_unet=True,
        train_text_encoder=text,
        conv_lora_dim=config.conv,
        conv_alpha=config.conv_alpha,
        is_sdxl=model.is_xl or model.is_ssd,
        is_v2=model.is_v2,
        is_v3=model.is_v3,
        is_pixart=model.is_pixart,
        is_auraflow=model.is_auraflow,
        is_flux=model.is_flux,
        is_lumina2=model.is_lumina2,
        is_ssd=model.is_ssd,
        is_vega=model.is_vega,
        dropout=config.dropout,
        use_text_encoder_1=model.use_text_encoder_1,
        use_text_encoder_2=model.use_text_encoder_2,
        use_bias=False,
        is_lorm=False,
        network_config=config,
        network_type=config.type,
        transformer_only=config.transformer_only,
        is_transformer=base.is_transformer,
        base_model=base,
        **config.network_kwargs,
    )
    lora.force_to(torch.device("cpu"), dtype=torch.float32)
    lora._update_torch_multiplier()
    lora.apply_to(base.text_encoder, base.unet, text, True)
    process = object.__new__(BaseSDTrainProcess)
    process.accelerator = SimpleNamespace(is_main_process=True)
    process.job = SimpleNamespace(name="toy")
    process.meta = OrderedDict({"name": "[name]", "version": "1.0"})
    process.save_root, process.sd, process.network, process.trigger_word = str(folder), base, lora, "zor"
    process.ema = process.adapter = process.embedding = process.decorator = process.snr_gos = process.optimizer = None
    process.is_fine_tuning, process.named_lora = False, False
    process.train_config, process.save_config = TrainConfig(), SaveConfig(dtype="float16")
    process.network_config, process.embed_config = config, None
    process.clean_up_saves = process.post_save_hook = process.save_optimizer = lambda *a, **k: None
    places = {layer: (component, path) for component, module in made.items() for path, layer in module.named_modules()}
    for epoch in ask["epochs"]:
        known = Known(work, family, epoch)
        for module in [*lora.text_encoder_loras, *lora.unet_loras]:
            magnitude = {"magnitude": module.magnitude} if hasattr(module, "magnitude") else {}
            known.fill(
                *places[module.org_module[0]], down=module.lora_down.weight, up=module.lora_up.weight, **magnitude
            )
        process.epoch_num, process.step_num = epoch - 1, epoch * ask["epoch_steps"]
        process.save(None if epoch == max(ask["epochs"]) else process.step_num)


if __name__ == "__main__":
    main()
