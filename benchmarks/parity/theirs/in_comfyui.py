"""Run by ComfyUI's interpreter: where its loader puts the modules of our LoRAs. Imports nothing of ours."""

import json
import sys
from pathlib import Path


def main() -> None:
    checkout, work = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path.insert(0, str(checkout))
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    asked = json.loads((work / "asked.json").read_text(encoding="utf-8"))
    configs = Path(asked["configs"])
    found = {
        "modules": {family: _modules(family, modules, configs) for family, modules in asked["modules"].items()},
        "merged": {name: _merged(work, name) for name in ("lora", "dora")},
    }
    (work / "found.json").write_text(json.dumps(found), encoding="utf-8")


def _modules(family: str, modules: dict, configs: Path) -> dict:
    import comfy.lora
    import comfy.model_detection
    import torch
    from diffusers import UNet2DConditionModel

    folder = configs / family / "unet"
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder))
    unet_config = comfy.model_detection.unet_config_from_diffusers_unet(unet.state_dict(), torch.float16)
    config = comfy.model_detection.model_config_from_unet_config(unet_config)
    model = config.get_model({}, device="meta")
    key_map = comfy.lora.model_lora_keys_unet(model, {})
    clip = _clip(family)
    key_map = comfy.lora.model_lora_keys_clip(clip, key_map)
    weights = {**model.state_dict(), **clip.state_dict()}
    wrong, unresolved = {}, []
    for name, shape in modules.items():
        key = key_map.get(name)
        if key is None:
            unresolved.append(name)
        elif list(weights[key].shape) != shape:
            wrong[name] = list(weights[key].shape)
    return {"count": len(modules), "unresolved": unresolved, "other shape": wrong}


def _clip(family: str):
    import torch

    if family == "sdxl":
        from comfy.sdxl_clip import SDXLClipModel

        return SDXLClipModel(device="meta", dtype=torch.float16)
    from comfy.sd1_clip import SD1ClipModel

    return SD1ClipModel(device="meta", dtype=torch.float16)


def _merged(work: Path, name: str) -> list:
    """A weight with one of our files applied by ComfyUI's own patching."""
    import comfy.lora
    from safetensors.torch import load_file

    weight = load_file(work / "weight.safetensors")["weight"]
    lora = load_file(work / f"{name}.safetensors")
    (module,) = {key.split(".", 1)[0] for key in lora}
    patches = comfy.lora.load_lora(lora, {module: "weight"})
    return comfy.lora.calculate_weight([(1.0, patches["weight"], 1.0, None, None)], weight, "weight").tolist()


if __name__ == "__main__":
    main()
