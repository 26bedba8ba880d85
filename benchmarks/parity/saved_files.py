"""LoRA files that another trainer's own code saves: whether every number in them is read, and each file is placed.
Beside that, whether the trainer reads what we export for it.

    python -m benchmarks.parity onetrainer ~/OneTrainer --python PY
    python -m benchmarks.parity.saved_files tests/benchmarks/saved_elsewhere.tar.xz --python PY \\
        --onetrainer ~/OneTrainer --ai-toolkit ~/ai-toolkit --simpletuner ~/SimpleTuner

The second command writes the few small files that the tests read.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.parity import ours
from benchmarks.parity.checks import Check, ask, verdict
from benchmarks.parity.exported_runs import write_exports
from benchmarks.parity.known_weights import ALPHA, RANK, all_layers, differing, write_known
from search.record.finished_run import FinishedRun
from search.running.finished_run import check_run
from trainer.base_model.load import load_base
from trainer.delivery.architecture import architecture_of
from trainer.delivery.edits import Edits, write_edited
from trainer.delivery.gate import look, read_file
from trainer.errors import ModelError
from trainer.families.family import Base
from trainer.families.layout import CONFIGS
from trainer.lora.kohya_file import load_lora
from trainer.lora.run_files import RunFile, run_files, why_not_one_run

EPOCHS, EPOCH_STEPS = (2, 4), 26
SCRIPTS = {
    "onetrainer": "save_in_onetrainer.py",
    "ai-toolkit": "save_in_ai_toolkit.py",
    "simpletuner": "save_in_simpletuner.py",
}
REFUSED = "refused"
"""What `expect` says of a run whose files cannot be read here; the reason is told."""
_ATTENTION = ("proj_in", "proj_out", "transformer_blocks.0.attn1.to_q", "transformer_blocks.0.attn2.to_out.0",
              "transformer_blocks.0.ff.net.0.proj", "transformer_blocks.0.ff.net.2")  # fmt: skip
FEW = {
    "sd15": (
        *(f"down_blocks.0.attentions.1.{layer}" for layer in _ATTENTION),
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_v",
        "up_blocks.3.attentions.2.proj_out",
    ),
    "sdxl": (
        *(f"down_blocks.1.attentions.1.{layer}" for layer in _ATTENTION),
        "mid_block.attentions.0.transformer_blocks.1.attn1.to_v",
        "up_blocks.0.attentions.2.proj_out",
    ),
}
"""A layer of each kind of transformer blocks, for small files."""
FEW_MORE = (
    *("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2", "add_embedding.linear_1"),
    *("down_blocks.0.resnets.1.conv1", "down_blocks.0.resnets.1.time_emb_proj", "up_blocks.0.resnets.1.conv_shortcut"),
    *("mid_block.resnets.1.conv2", "down_blocks.0.downsamplers", "up_blocks.0.upsamplers", "up_blocks.1.upsamplers"),
)
"""Layers outside of them, for trainers that can adapt every layer."""


def run(tool: str, checkout: Path, python: str, work: Path) -> list[Check]:
    """All checks of one trainer."""
    bases = _ask(work, few=False)
    count = write_exports(tool, work)
    found = ask(SCRIPTS[tool], checkout, python, work)
    right = f"it reads every option of {count} as it is written; their optimizers and learning rates are ours"
    exports = verdict("exports", sorted(set(found["exports"])), right)
    return [exports, *(check for name, expect in found["runs"].items() for check in _checks(name, expect, bases, work))]


def _ask(work: Path, *, few: bool) -> dict[str, Base]:
    folders = {family: make_narrow_base(work / "bases" / family) for family in ("sd15", "sdxl")}
    bases = {family: load_base(folder) for family, folder in folders.items()}
    for family, base in bases.items():
        for epoch in EPOCHS:
            write_known(work / "known" / family / f"{epoch}.safetensors", all_layers(base), epoch)
    ours.note(
        work,
        {
            "bases": {family: str(folder) for family, folder in folders.items()},
            "epochs": EPOCHS,
            "epoch_steps": EPOCH_STEPS,
            "rank": RANK,
            "alpha": ALPHA,
            "few": FEW if few else {},
            "few_more": FEW_MORE,
        },
    )
    return bases


def make_narrow_base(folder: Path) -> Path:
    """SD 1.5 or SDXL (after the folder's name) with its own blocks and very few channels, in diffusers' layout."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    family = folder.name
    shutil.copytree(CONFIGS / family, folder)
    torch.manual_seed(0)
    unet = dict(UNet2DConditionModel.load_config(folder / "unet"))
    levels = len(unet["block_out_channels"])
    unet |= {"block_out_channels": (16,) * levels, "norm_num_groups": 8, "attention_head_dim": 8}
    encoders = ["text_encoder"] if family == "sd15" else ["text_encoder", "text_encoder_2"]
    unet["cross_attention_dim"] = 16 * len(encoders)
    if family == "sdxl":
        unet |= {"transformer_layers_per_block": (1, 1, 2), "addition_time_embed_dim": 8}
        unet["projection_class_embeddings_input_dim"] = 6 * 8 + 16
    UNet2DConditionModel.from_config(unet).save_pretrained(folder / "unet")
    vae = dict(AutoencoderKL.load_config(folder / "vae")) | {"block_out_channels": (32,) * 4}
    AutoencoderKL.from_config(vae).save_pretrained(folder / "vae")
    narrow = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    for name in encoders:
        kind = CLIPTextModelWithProjection if name.endswith("2") else CLIPTextModel
        text = CLIPTextConfig.from_pretrained(folder / name)
        text.update(
            narrow | {"projection_dim": 16, "vocab_size": 3, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
        )
        kind(text).save_pretrained(folder / name)
        _write_tokenizer(folder / name.replace("text_encoder", "tokenizer"))
    return folder


def _write_tokenizer(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _checks(name: str, expect: dict[str, Any], bases: dict[str, Base], work: Path) -> Iterator[Check]:
    base, folder = bases[expect["family"]], work / "saved" / name
    try:
        files = run_files(folder).files
        yield verdict(f"{name}: names", _misnamed(files), f"{len(files)} files, each with its epoch or step")
        yield verdict(f"{name}: weights", _misread(files, base, expect["scale"]), "every number is the known one")
        yield _delivered(name, files[-1], base, work)
    except ModelError as error:
        said = str(error).removeprefix(str(folder))
        yield Check("told" if expect.get(REFUSED) else "DIFFERS", f"{name}: files", said)


def _misnamed(files: tuple[RunFile, ...]) -> list[str]:
    wrong = [f"{file.name}: epoch {file.epoch}, step {file.step}" for file in files if epoch_of(file) not in EPOCHS]
    mixed = why_not_one_run(files)
    return wrong + ([mixed] if mixed else []) + ([] if len(files) == len(EPOCHS) else [f"{len(files)} files"])


def epoch_of(file: RunFile) -> int:
    """The known epoch that a file says it is of; the last for one that says none."""
    return file.epoch or (EPOCHS[-1] if file.step is None else file.step // EPOCH_STEPS)


def _misread(files: tuple[RunFile, ...], base: Base, scale: float) -> list[str]:
    wrong, layers = [], all_layers(base)
    read = check_run(FinishedRun({epoch_of(file): str(file.path) for file in files}), base)
    for epoch, lora in read.items():
        wrong += [f"epoch {epoch}: {site}" for site in differing(lora, epoch, layers, scale=scale)]
    return wrong


def _delivered(name: str, file: RunFile, base: Base, work: Path) -> Check:
    """Whether what `--clean --repair` writes passes the gate, and diffusers loads all of it."""
    architecture = architecture_of(base.source)
    target = work / "delivered" / f"{name}.safetensors"
    target.parent.mkdir(exist_ok=True)
    write_edited(read_file(file.path), Edits(clean=True, repair=True), target, base=base.source)
    left = [finding.line for finding in look(read_file(target), architecture) if not finding.passes]
    wrong = [*left, *left_out_by_diffusers(target, base)]
    return verdict(f"{name}: delivered", wrong, "it passes, and diffusers loads every layer")


def left_out_by_diffusers(file: Path, base: Base) -> list[str]:
    """Layers that diffusers' own loader leaves out."""
    pipeline = base.family.pipeline(base, "ddim")
    pipeline.load_lora_weights(str(file), adapter_name="it")
    loaded = sum(
        "it" in getattr(layer, "lora_A", {})
        for part in (pipeline.unet, *base.text_encoders)
        for layer in part.modules()
    )
    pipeline.unload_lora_weights()
    count = len(load_lora(file).modules)
    return [] if loaded == count else [f"diffusers loads {loaded} of {count} layers"]


def main() -> None:
    """Writes the archive for the tests; what trainers saved whose checkouts are not given stays in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--python", default=sys.executable)
    for tool in SCRIPTS:
        parser.add_argument(f"--{tool}", type=Path, help="its checkout")
    arguments = vars(parser.parse_args())
    given = {tool: checkout.resolve() for tool in SCRIPTS if (checkout := arguments[tool.replace("-", "_")])}
    content = _kept(arguments["archive"], tuple(f"{tool}/" for tool in SCRIPTS if tool not in given))
    runs = json.loads(content.get("runs.json", b"{}"))
    for tool, checkout in given.items():
        with tempfile.TemporaryDirectory(prefix="onset-saved-") as name:
            work = Path(name)
            _ask(work, few=True)
            found = ask(SCRIPTS[tool], checkout, arguments["python"], work)
            commit = _commit(checkout)
            for run_name, expect in found["runs"].items():
                runs[f"{tool}/{run_name}"] = {**expect, "commit": commit}
                for path in sorted((work / "saved" / run_name).rglob("*.safetensors")):
                    content[f"{tool}/{path.relative_to(work / 'saved').as_posix()}"] = path.read_bytes()
    content["runs.json"] = json.dumps(runs, indent=1).encode()
    with tarfile.open(arguments["archive"], "w:xz", preset=9) as archive:
        for name, data in sorted(content.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def _kept(archive: Path, starts: tuple[str, ...]) -> dict[str, bytes]:
    """Files of the archive whose names start so, and `runs.json` with what it says of these."""
    if not archive.is_file():
        return {}
    with tarfile.open(archive) as opened:
        members = {member.name: opened.extractfile(member) for member in opened.getmembers()}
        content = {name: file.read() for name, file in members.items() if file is not None}
    runs = {name: run for name, run in json.loads(content["runs.json"]).items() if name.startswith(starts)}
    kept = {name: data for name, data in content.items() if name.startswith(starts)}
    return kept | {"runs.json": json.dumps(runs).encode()}


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
