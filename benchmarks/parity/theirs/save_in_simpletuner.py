"""Run by SimpleTuner's interpreter: its own adapters and saving code. Imports nothing of ours."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import read_in_simpletuner
from saving import Known, asked, each, parts, stand_in

_MORE = ["to_k", "to_q", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
_NOT_NEEDED = (
    *("wandb", "skrample", "py3langid", "pypinyin", "hangul_romanize", "spacy", "music_vocoder", "torchaudio"),
    *("trainingsample", "torchsde", "datasets", "boto3", "botocore"),
)  # other model families and stores; the parser imports them all
RUNS = {
    f"{family}-{name}": {"family": family, **settings}
    for family in ("sd15", "sdxl")
    for name, settings in (
        ("diffusers", {}),
        ("diffusers-more", {"targets": _MORE}),
        ("comfyui", {"form": "comfyui"}),
        ("dora", {"dora": True}),
        ("comfyui-dora", {"form": "comfyui", "dora": True}),
        ("last-without-alpha", {"final": True, "refused": True}),
    )
}


def main() -> None:
    checkout, work = Path(sys.argv[1]), Path(sys.argv[2])
    ask = asked(checkout, work)
    os.chdir(checkout)
    stand_in(*_NOT_NEEDED)
    wrong = read_in_simpletuner.exports(work)
    os.chdir(checkout)
    each(RUNS, lambda folder, **settings: _save(ask, work, folder, **settings), work, wrong)


def _save(ask, work, folder, family, form="diffusers", targets=None, dora=False, final=False) -> None:
    from peft.utils import get_peft_model_state_dict
    from simpletuner.helpers.models.sd1x.model import StableDiffusion1
    from simpletuner.helpers.models.sdxl.model import SDXL
    from simpletuner.helpers.training.save_hooks import SaveHookManager, _materialize_state_dict_for_save
    from simpletuner.helpers.training.state_tracker import StateTracker

    if ask["few"]:
        kept = ask["few"][family]
        targets = [path for path in kept if path.endswith(tuple(targets or StableDiffusion1.DEFAULT_LORA_TARGET))]
    made = parts(Path(ask["bases"][family]), family)
    kind = SDXL if family == "sdxl" else StableDiffusion1
    settings = SimpleNamespace(
        controlnet=False, lora_type="standard", lora_rank=ask["rank"], lora_alpha=ask["alpha"], lora_dropout=0.0,
        use_dora=dora,
        lora_initialisation_style=True, peft_lora_target_modules=targets, lora_format=form, use_ema=False,
        init_lora=None, peft_lora_mode=None, ramtorch=False, slider_lora_target=False, model_type="lora",
        model_family=family.replace("sd15", "sd1x"), model_flavour="", resolution=1.0, output_dir=str(folder),
    )  # fmt: skip
    model = object.__new__(kind)
    model.config, model.model, model.accelerator, model.controlnet = settings, made["denoiser"], None, None
    model.text_encoders = [None, None]
    model.add_lora_adapter()
    hooks = object.__new__(SaveHookManager)
    hooks.args, hooks.model, hooks.accelerator, hooks.use_deepspeed_optimizer = settings, model, None, False
    hooks._tag_frequency_cache = {}
    steps = [epoch * ask["epoch_steps"] for epoch in ask["epochs"]]
    for epoch, step in zip(ask["epochs"], steps, strict=True):
        known = Known(work, family, epoch)
        for path, layer in model.model.named_modules():
            if hasattr(layer, "lora_A") and "default" in layer.lora_A:
                magnitude = {"magnitude": layer.lora_magnitude_vector["default"].weight} if dora else {}
                halves = {"down": layer.lora_A["default"].weight, "up": layer.lora_B["default"].weight}
                known.fill("denoiser", path, **halves, **magnitude)
        StateTracker.set_global_step(step)
        if final and step == steps[-1]:  # what Trainer.train does last
            saved = {f"{model.MODEL_TYPE.value}_lora_layers": _materialize_state_dict_for_save(
                get_peft_model_state_dict(model.model)
            )}  # fmt: skip
            model.save_lora_weights(save_directory=str(folder), **saved)
        else:  # Trainer.checkpoint_state_save names the folder
            hooks._save_lora([model.model], [], str(folder / f"checkpoint-{step}"))


if __name__ == "__main__":
    main()
