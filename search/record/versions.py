"""Which versions a trial was trained with."""

import importlib.metadata

_PACKAGES = ("onset-lora", "torch", "diffusers", "transformers", "peft", "open_clip_torch", "optuna", "numpy")


def installed() -> dict[str, str]:
    """Package to version, of those that are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def of_training() -> dict[str, str]:
    """Those that a training's numbers hang on: Optuna says what is trained, not how."""
    return {name: version for name, version in installed().items() if name != "optuna"}
