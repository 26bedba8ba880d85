"""ComfyUI: whether every module of our LoRAs finds its weight, and what is made of DoRA."""

from pathlib import Path
from typing import Any

from benchmarks.parity import ours
from benchmarks.parity.checks import Check, ask, verdict
from trainer.families.layout import CONFIGS
from trainer.lora.kohya_file import save_lora
from trainer.lora.lora import LoraModule, LoraWeights
from trainer.lora.merge import delta


def run(checkout: Path, python: str, work: Path) -> list[Check]:
    """All checks."""
    families = ("sd15", "sdxl")
    ours.note(work, {"modules": {f: ours.lora_modules(f) for f in families}, "configs": str(CONFIGS.resolve())})
    expected = _toy(work)
    found = ask("in_comfyui.py", checkout, python, work)
    return [*(_resolved(f, found["modules"][f]) for f in families), *_merged(expected, found["merged"])]


def _resolved(family: str, found: dict[str, Any]) -> Check:
    wrong = [f"{name} finds no weight" for name in found["unresolved"]]
    wrong += [f"{name}: a weight of {shape}" for name, shape in found["other shape"].items()]
    return verdict(f"LoRA modules of {family}", wrong, f"all {found['count']} find a weight of their shape")


def _toy(work: Path) -> dict[str, Any]:
    """Writes a LoRA and a DoRA of one layer; returns (weight, merged weight) of each, by the papers' formulas."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 16, generator=generator)
    down, up = torch.randn(4, 16, generator=generator), torch.randn(24, 4, generator=generator)
    magnitude = weight.norm(dim=1) * 1.1
    save_file({"weight": weight}, work / "weight.safetensors")
    expected = {}
    for name, scale in (("lora", None), ("dora", magnitude)):
        module = LoraModule(down=down, up=up, alpha=2.0, magnitude=scale)
        site = ("denoiser", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q")
        save_lora(work / f"{name}.safetensors", LoraWeights({site: module}, "sd15"), dtype=torch.float32)
        merged = weight + delta(module, tuple(weight.shape))
        if scale is not None:
            merged = scale[:, None] * merged / merged.norm(dim=1, keepdim=True)
        expected[name] = (weight, merged)
    return expected


def _merged(expected: dict[str, Any], found: dict[str, Any]) -> list[Check]:
    """Our merged weights against theirs; the error in units of the change."""
    import torch

    checks = []
    for name, (weight, merged) in expected.items():
        error = float((torch.tensor(found[name]) - merged).norm() / (merged - weight).norm())
        state = "ok" if error < 1e-4 else "told" if name == "dora" else "DIFFERS"
        checks.append(Check(state, f"merged {name}", f"off by {error:.2g} of the change"))
    return checks
