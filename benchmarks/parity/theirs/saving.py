"""What the scripts share that let another trainer's own code save a LoRA. Imports nothing of ours.

The trainer's modules are made as its own set-up makes them, get known weights, and are saved under the names that it
gives its checkpoints. Nothing is trained.
"""

import importlib.abc
import importlib.machinery
import json
import sys
import types
from pathlib import Path


class _StandIn(types.ModuleType):
    """Any name is a class that can be inherited from, and any submodule is there."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {"__init__": lambda self, *a, **k: None})
        setattr(self, name, made)
        return made


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, packages: tuple[str, ...]) -> None:
        self.packages = packages

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.packages:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        made = _StandIn(spec.name)
        made.__path__ = []
        return made

    def exec_module(self, module) -> None:
        pass


def stand_in(*packages: str) -> None:
    """Lets `import` find these packages where they are not installed: saving never calls them."""
    import importlib.util

    missing = tuple(name for name in packages if importlib.util.find_spec(name) is None)
    sys.meta_path.append(_Finder(missing))


class Known:
    """The weights that every file of a checkpoint is to hold, by "component/path/down" and "…/up"."""

    def __init__(self, work: Path, family: str, step: int) -> None:
        from safetensors.torch import load_file

        self._tensors = load_file(work / "known" / family / f"{step}.safetensors")

    def fill(self, component: str, path: str, **parts) -> None:
        """Put them into a layer's parameters (`down`, `up`, `magnitude`, `magnitude_by_input`), in the tool's form."""
        import torch

        path = path.removeprefix("text_model.") if component != "denoiser" else path
        with torch.no_grad():
            for name, part in parts.items():
                part.copy_(self._tensors[f"{component}/{path}/{name}"].reshape(part.shape))


def parts(folder: Path, family: str) -> dict:
    """The base's U-Net and text encoders, by component."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    found = {
        "denoiser": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "text_encoder_0": CLIPTextModel.from_pretrained(folder / "text_encoder"),
    }
    if family == "sdxl":
        found["text_encoder_1"] = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2")
    return found


def asked(checkout: Path, work: Path) -> dict:
    """What we ask for; from here on the checkout's code is found first."""
    sys.path.insert(0, str(checkout))
    return json.loads((work / "asked.json").read_text(encoding="utf-8"))


def each(runs: dict, save, work: Path, exports: list[str]) -> None:
    """Calls `save(folder, **settings)` for each run and notes what is to be expected of its files.

    `exports` says what of our exports the tool does not take as it is written.

    `family` is one of the settings; `scale` (alpha / rank) and `refused` are not handed on.
    """
    found = {}
    for name, settings in runs.items():
        folder = work / "saved" / name
        folder.mkdir(parents=True)
        expect = {"scale": settings.pop("scale", 0.5), "refused": settings.pop("refused", False)}
        save(folder, **settings)
        found[name] = {"family": settings["family"], **expect}
    (work / "found.json").write_text(json.dumps({"runs": found, "exports": exports}), encoding="utf-8")


def lost(written: dict, read: dict, at: str = "") -> list[str]:
    """The options that are not there, or have another value, once the tool has read them."""
    found = []
    for key, value in written.items():
        if key not in read:
            found.append(f"{at}{key}: it does not know this")
        elif isinstance(value, dict) and isinstance(read[key], dict):
            found += lost(value, read[key], f"{at}{key}.")
        elif value != read[key] or isinstance(value, bool) != isinstance(read[key], bool):
            found.append(f"{at}{key}: {value!r} becomes {read[key]!r}")
    return found


def exported(work: Path, name: str) -> list[Path]:
    """Our exports for this tool, by the file that it is told to read."""
    return sorted((work / "exports").rglob(name))


def epoch_steps(file: Path) -> int:
    """Optimizer steps of an epoch of the run that an export is of."""
    return json.loads(file.with_name("expected.json").read_text(encoding="utf-8"))["epoch_steps"]


def unlike(file: Path, optimizer, schedule, steps: int) -> list[str]:
    """Where the tool's optimizer has other settings than ours, or its schedule another learning rate at some step.

    Args:
        file: an export; `expected.json` lies beside it.
        schedule: of `optimizer`; None where the tool gives it none.
        steps: that are trained.
    """
    expected = json.loads(file.with_name("expected.json").read_text(encoding="utf-8"))
    group, found = optimizer.param_groups[0], []
    for key, value in expected["optimizer"].items():
        theirs = group.get(key, value)
        if key not in ("lr", "initial_lr") and not _alike(value, theirs):
            found.append(f"optimizer: {key}: {value!r} becomes {theirs!r}")
    if expected["rates"] is None:
        return found
    for step, rate in enumerate(expected["rates"][:steps]):
        if abs(group["lr"] - rate) > 2e-5 * max(expected["rates"]):
            return [*found, f"learning rate of step {step}: {rate:.6g} becomes {group['lr']:.6g}"]
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return found


def _alike(one, other) -> bool:
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one == other or (not isinstance(one, bool) and abs(one - other) <= 1e-9 * abs(one))
