"""sd-scripts trains our exports, and we train the same: losses, weights and files are compared.

Side by side both train a narrow SD 1.5 with random weights: sd-scripts' U-Net has its widths as constants, which are
set smaller in its process. Both start from the same LoRA and see the same noise, timesteps and order of photos. The
exported command itself then trains an SD 1.5 of full size, with nothing replaced.
"""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.parity import ours
from benchmarks.parity.checks import Check, ask, verdict
from search.exports.sdscripts import to_sdscripts
from search.exports.ship_epoch import Ending
from search.exports.toml import toml
from search.exports.train_sh import train_sh
from trainer.base_model.load import describe_base, load_base
from trainer.config.config import TrainConfig, parse_train_config
from trainer.data.buckets import epoch_batches
from trainer.data.dataset import Dataset, scan_dataset
from trainer.families.layout import CONFIGS
from trainer.families.tokenizers import clip_tokenizer
from trainer.lora.kohya_file import save_lora
from trainer.packing.builder import pack_settings, run_settings
from trainer.packing.pack import Pack
from trainer.streams import stream

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_SIDE, _FULL_SIZE_SIDE, _EPOCHS = 256, 64, 3
_WIDTHS = (32, 64, 64, 64)  # of the U-Net's four levels; sd-scripts normalises in 32 groups
_CLOSE = 0.03  # of the change: AdamW makes something of what two programs round otherwise
_EPS = {"eps": 1e-4}  # far above the gradients' rounding: otherwise AdamW makes whole steps of it
_USUAL: dict[str, Any] = {"rank": 4, "alpha": 2.0, "epochs": _EPOCHS, "learning_rate": 1e-3, "optimizer_args": _EPS}
CASES: dict[str, dict[str, Any]] = {
    "AdamW": {},
    "cosine, two photos, min-SNR, noise offset of random strength, input perturbation": {
        "batch_size": 2, "lr_scheduler": "cosine", "min_snr_gamma": 5.0,
        "noise_offset": 0.2, "noise_offset_random_strength": True, "ip_noise_gamma": 0.15,
    },
    "text encoder, accumulation, debiased estimation, half the weight for regularisation images": {
        "train_text_encoder": True, "gradient_accumulation_steps": 2, "debiased_estimation_loss": True,
        "prior_loss_weight": 0.5,
    },
}  # fmt: skip


@dataclass(frozen=True)
class _Trained:
    """One run of ours: mean loss of each epoch up to each of its optimizer steps; kohya's names → fp32 tensors."""

    losses: list[list[float]]
    start: dict[str, "Tensor"]
    end: dict[str, "Tensor"]


def run(checkout: Path, python: str, work: Path) -> list[Check]:
    """All checks. The last one takes 9 GiB of memory and 2 GB of disk."""
    from safetensors.torch import load_file

    base = make_base(work / "base", widths=_WIDTHS)
    dataset = scan_dataset(_photos(work / "photos", _SIDE, photos=4, regularisation=2))
    checks: list[Check] = []
    for number, (name, changes) in enumerate(CASES.items()):
        config = parse_train_config(
            {"base": str(base), "data": str(dataset.root), "resolution": _SIDE, **_USUAL, **changes}
        )
        folder = work / f"case-{number}"
        script = _export(config, dataset, folder, Ending())
        mine = _train(config, dataset, folder)
        asked = {
            "folder": str(folder), "script": script, "draws": str(folder / "draws.safetensors"), "widths": _WIDTHS,
            "order": _order(config, dataset),
            "more": [f"--network_weights={folder / 'start.safetensors'}", "--save_precision=float"],
        }  # fmt: skip
        ours.note(folder, asked)
        found = ask("train_in_sdscripts.py", checkout, python, folder)
        checks += _compare(name, mine, found, load_file(folder / "output" / "toy.safetensors"))
    return [*checks, _by_command(work, checkout, python)]


def make_base(folder: Path, *, widths: tuple[int, ...] | None = None) -> Path:
    """SD 1.5 in diffusers' layout with weights drawn from seed 0, in fp16.

    Args:
        widths: channels of the U-Net's four levels; the VAE and the text encoder are then narrow, too. None: full size.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    shutil.copytree(CONFIGS / "sd15", folder)
    torch.manual_seed(0)
    unet, vae = UNet2DConditionModel.load_config(folder / "unet"), AutoencoderKL.load_config(folder / "vae")
    text = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    if widths is not None:
        unet |= {"block_out_channels": widths, "cross_attention_dim": 64}
        vae |= {"block_out_channels": (32, 32, 32, 32)}
        text.update({"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 3})
    UNet2DConditionModel.from_config(unet).half().save_pretrained(folder / "unet")
    autoencoder = AutoencoderKL.from_config(vae)
    with torch.no_grad():  # no spread: both programs then take the same latents of a photo
        autoencoder.quant_conv.weight[4:] = 0.0
        autoencoder.quant_conv.bias[4:] = -30.0  # ln of the variance
    autoencoder.half().save_pretrained(folder / "vae")
    encoder = {f"text_model.{name}": tensor for name, tensor in CLIPTextModel(text).half().state_dict().items()}
    text.save_pretrained(folder / "text_encoder")  # weights by the names that published bases have
    save_file(
        {name: tensor.contiguous() for name, tensor in encoder.items()},
        folder / "text_encoder" / "model.safetensors",
        {"format": "pt"},
    )
    _write_tokenizer(folder / "tokenizer")
    return folder


def _write_tokenizer(folder: Path) -> None:
    """CLIP's, in the files that every version of transformers reads."""
    folder.mkdir(parents=True, exist_ok=True)
    model = json.loads(clip_tokenizer().backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    pairs = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>",
                "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
                "do_lower_case": True}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _photos(root: Path, side: int, *, photos: int, regularisation: int) -> Path:
    """Photos that no reader has to scale."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for shelf, count in (("1_sks toy", photos), ("reg/1_toy", regularisation)):
        folder = root / shelf
        folder.mkdir(parents=True)
        for index in range(count):
            blocks = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
            (folder / f"{index}.txt").write_text(f"sks toy on a beach, number {index}\n", encoding="utf-8")
    return root


def _export(config: TrainConfig, dataset: Dataset, folder: Path, ending: Ending) -> str:
    """Writes what `search.export` writes for sd-scripts; returns the script's name."""
    folder.mkdir()
    ending = replace(ending, steps_per_epoch=ours.steps_per_epoch(config, dataset))
    traits = describe_base(config.base)
    there = to_sdscripts(config, dataset, traits=traits, folder=folder, name="toy", ending=ending)
    (folder / "config.toml").write_text(toml(there.config), encoding="utf-8")
    (folder / "dataset.toml").write_text(toml(there.dataset), encoding="utf-8")
    script = train_sh(there, about="toy", name="toy", config=config, ending=ending)
    (folder / "train.sh").write_text(script, encoding="utf-8")
    _write_tokenizer(folder / "openai" / "clip-vit-large-patch14")  # sd-scripts asks for it by its hub name
    return there.script


def _order(config: TrainConfig, dataset: Dataset) -> list[list[list[str]]]:
    """[epoch][batch] paths of our batches."""
    return [
        [[str(dataset.photos[index].path.resolve()) for index in batch] for batch in _batches(config, dataset, epoch)]
        for epoch in range(config.epochs)
    ]


def _batches(config: TrainConfig, dataset: Dataset, epoch: int) -> list[list[int]]:
    sizes = ours.sizes(config, dataset)
    return epoch_batches(dataset, sizes, batch_size=config.batch_size, seed=config.seed, epoch=epoch)


def _train(config: TrainConfig, dataset: Dataset, folder: Path) -> _Trained:
    """Our run; leaves `start.safetensors` and `draws.safetensors` for theirs."""
    import torch
    from safetensors.torch import load_file, save_file

    base = load_base(config.base, device="cpu")
    pack = Pack(base, dataset, pack_settings(config))
    run = pack.join(run_settings(config), run_dir=folder / "ours")
    save_lora(folder / "start.safetensors", run.lora_weights(), dtype=torch.float32)
    save_file(_draws(config, dataset), folder / "draws.safetensors")
    losses: list[list[float]] = []
    while not run.finished:
        losses.append([])
        pack.train_epoch(on_step=lambda _: losses[-1].append(run.mean_loss))
        if run.failed is not None:
            raise RuntimeError(run.failed)
    save_lora(folder / "end.safetensors", run.lora_weights(), dtype=torch.float32)
    return _Trained(losses, load_file(folder / "start.safetensors"), load_file(folder / "end.safetensors"))


def _draws(config: TrainConfig, dataset: Dataset) -> dict[str, "Tensor"]:
    """What `trainer.packing.loss.draw_examples` draws for each batch, numbered over all epochs."""
    import torch

    draws, number = {}, 0
    for epoch in range(config.epochs):
        for batch, photos in enumerate(_batches(config, dataset, epoch)):

            def normal(name: str, *shape: int, place: tuple[int, int] = (epoch, batch)) -> "torch.Tensor":
                return torch.randn(shape, generator=stream(config.seed, name, *place), dtype=torch.float32)

            shape = (len(photos), 4, _SIDE // 8, _SIDE // 8)
            draws[f"{number}/noise"] = normal("noise", *shape)
            draws[f"{number}/offset"] = normal("noise offset", *shape[:2], 1, 1)
            draws[f"{number}/perturbation"] = normal("input perturbation", *shape)
            strength = torch.rand((), generator=stream(config.seed, "noise offset strength", epoch, batch))
            draws[f"{number}/strength"] = strength.reshape(1)
            timesteps = stream(config.seed, "timesteps", epoch, batch)
            draws[f"{number}/timesteps"] = torch.randint(0, 1000, (len(photos),), generator=timesteps)
            number += 1
    return draws


def _compare(name: str, mine: _Trained, found: dict[str, Any], theirs: dict[str, "Tensor"]) -> list[Check]:
    steps = [loss for epoch in mine.losses for loss in epoch]
    passes = [sum(epoch[: step + 1]) / (step + 1) for epoch in found["losses"] for step in range(len(epoch))]
    every = len(passes) // len(steps)
    passes = passes[every - 1 :: every]
    wrong = [] if len(passes) == len(steps) and not found["draws left"] else ["another number of steps"]
    worst = max(abs(a - b) / b for a, b in zip(steps, passes, strict=False))
    if worst > 3e-4:
        wrong.append(f"losses differ by up to {worst:.2g} of themselves")
    checks = [verdict(f"losses: {name}", wrong, f"{len(steps)} steps, at most {worst:.1g} apart")]
    if mine.end.keys() != theirs.keys():
        return [*checks, Check("DIFFERS", f"weights: {name}", "other keys")]
    moved = sum(float((mine.end[key] - mine.start[key]).square().sum()) for key in theirs) ** 0.5
    apart = sum(float((mine.end[key] - theirs[key]).square().sum()) for key in theirs) ** 0.5
    wrong = [f"they lie {apart / moved:.2g} of the change apart"] if not apart <= _CLOSE * moved else []
    return [
        *checks,
        verdict(f"weights: {name}", wrong, f"{len(theirs)} tensors, {apart / moved:.1g} of the change apart"),
    ]


def _by_command(work: Path, checkout: Path, python: str) -> Check:
    """`sh train.sh CHECKOUT` as it was exported, two epochs of a full-size base of which the first one ships."""
    from safetensors.torch import load_file

    base, folder = make_base(work / "full-size"), work / "by-command"
    dataset = scan_dataset(_photos(work / "photo", _FULL_SIZE_SIDE, photos=1, regularisation=0))
    settings = {**_USUAL, "base": str(base), "data": str(dataset.root), "epochs": 2, "train_text_encoder": True}
    settings["resolution"] = _FULL_SIZE_SIDE
    config = parse_train_config(settings)
    _export(config, dataset, folder, Ending(1, go_on=True))
    path = os.pathsep.join((str(Path(python).absolute().parent), os.environ["PATH"]))
    done = subprocess.run(
        ["sh", "train.sh", str(checkout)],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return Check("DIFFERS", "sh train.sh", " … ".join(done.stderr.strip().splitlines()[-3:]))
    final, shipped, last = (
        load_file(folder / "output" / f"{name}.safetensors") for name in ("toy", "toy-000001", "toy-000002")
    )
    wrong = []
    if any(not final[key].equal(shipped[key]) for key in final) or all(final[key].equal(last[key]) for key in final):
        wrong.append("it does not end with the epoch to ship")
    expected: dict[str, tuple[int, ...]] = {}
    for name, shape in ours.lora_modules("sd15").items():
        kernel = [1] * (len(shape) - 2)
        expected[f"{name}.lora_down.weight"] = (config.rank, *shape[1:])
        expected[f"{name}.lora_up.weight"] = (shape[0], config.rank, *kernel)
        expected[f"{name}.alpha"] = ()
    found = {key: tuple(tensor.shape) for key, tensor in final.items()}
    wrong += [f"{key} is {found.get(key)}, ours {expected.get(key)}" for key in expected.keys() | found.keys()
              if found.get(key) != expected.get(key)]  # fmt: skip
    wrong += [f"{key}: {float(final[key])}" for key in found if key.endswith(".alpha") and final[key] != config.alpha]
    wrong += [f"{key} is not finite" for key in found if not final[key].isfinite().all()]
    return verdict(
        "sh train.sh", wrong, f"{len(found)} keys, shapes and alphas are ours; it ends with the epoch to ship"
    )
