"""What a base was trained to predict, told from its configurations and headers. Imports no torch, reads no weights.

The trainer builds its noise from `noise_settings`, so what is said here is what is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.errors import ModelError
from trainer.families import layout

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]

NOISE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
"""Keys of a scheduler's configuration that say which noise is trained; the rest is about sampling."""

_WIDTH_OF_V2 = 1024


@dataclass(frozen=True)
class BaseTraits:
    """What other tools have to be told about a base.

    Attributes:
        family: "sd15", "sdxl" or "sd3".
        prediction_type: what the denoiser predicts; "flow" is rectified flow.
        zero_terminal_snr: whether its betas are rescaled so that the last timestep is pure noise.
        v2: Stable Diffusion 2.x, which is of family "sd15" and differs in its text encoder.
        single_file: one .safetensors file in the original format; else a diffusers folder.
    """

    family: str
    prediction_type: Prediction
    zero_terminal_snr: bool
    v2: bool
    single_file: bool


def read_traits(path: Path, family: str) -> BaseTraits:
    """Traits of a base's file or folder on this machine. Raises ModelError when it is of a kind not trained here."""
    single = path.is_file()
    if family == "sd3":
        noise_settings(path, family)
        return BaseTraits(family, "flow", False, False, single)
    settings = noise_settings(path, family)
    return BaseTraits(
        family,
        settings["prediction_type"],
        settings.get("rescale_betas_zero_snr", False),
        not single and _cross_attention_width(path) == _WIDTH_OF_V2,
        single,
    )


def check_channels(path: Path, family: str) -> None:
    """Raises ModelError when a denoiser reads more channels than its VAE draws: an inpainting or edit base."""
    single = path.is_file()
    folder = layout.CONFIGS / family if single else path
    painter = "transformer" if family == "sd3" else "unet"
    configs = [layout.read_json(folder / part / "config.json") for part in (painter, "vae")]
    read, drawn = configs[0].get("in_channels", 4), configs[1].get("latent_channels", 4)
    if single:
        first = layout.read_header(path).shapes.get("model.diffusion_model.input_blocks.0.0.weight", ())
        read = first[1] if len(first) > 1 else read
    if read != drawn:
        raise ModelError(f"{path}: an inpainting or edit base ({read} channels in, {drawn} drawn) cannot be trained")


def noise_settings(path: Path, family: str) -> dict[str, Any]:
    """Settings of the noise that a base is trained with: keywords of diffusers' DDPMScheduler, for SD3 its flow's.

    A single file says by the marker keys `v_pred` and `ztsnr`, or by its metadata (`modelspec.prediction_type`), that
    it predicts velocity and ends in pure noise; without them it predicts epsilon.

    Raises:
        ModelError: the scheduler is of a kind that is not trained here.
    """
    single = path.is_file()
    file = (layout.CONFIGS / family if single else path) / "scheduler" / "scheduler_config.json"
    config = layout.read_json(file)
    kind = str(config.get("_class_name", ""))
    if family == "sd3":
        if "FlowMatch" not in kind:
            raise ModelError(
                f"{file}: a {kind or 'scheduler without a class'} is no flow matching, which SD3 is trained by"
            )
        return {key: value for key, value in config.items() if not key.startswith("_")}
    settings = {key: config[key] for key in NOISE if key in config}
    settings["prediction_type"] = config.get("prediction_type", "epsilon")
    if config.get("rescale_betas_zero_snr"):
        settings["rescale_betas_zero_snr"] = True
    if kind.startswith("EDM"):
        raise ModelError(f"{file}: a base trained by EDM ({kind}) cannot be trained here")
    if single:
        settings |= _marked(path)
    if settings["prediction_type"] not in ("epsilon", "v_prediction", "sample"):
        raise ModelError(
            f"{file}: prediction_type: {settings['prediction_type']!r} is not trained in this family: "
            "epsilon, v_prediction or sample"
        )
    return settings


def _marked(path: Path) -> dict[str, Any]:
    """What the marks of a single file change."""
    header = layout.read_header(path)
    found: dict[str, Any] = {}
    if any(key.startswith(("edm_vpred.", "edm_mean", "edm_std")) for key in header.shapes):
        raise ModelError(f"{path}: a base trained by EDM (it has the marks edm_…) cannot be trained here")
    if "v_pred" in header.shapes or header.metadata.get("modelspec.prediction_type") in ("v", "v_prediction"):
        found["prediction_type"] = "v_prediction"
    if "ztsnr" in header.shapes:
        found["rescale_betas_zero_snr"] = True
    return found


def _cross_attention_width(folder: Path) -> int | None:
    width = layout.read_json(folder / "unet" / "config.json").get("cross_attention_dim")
    return width if isinstance(width, int) else None
