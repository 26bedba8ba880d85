"""The command on files with one planted fault each: what it says, what it writes, and how it ends."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainer.lora.made_loras import random_lora
from trainer.base_model.load import load_base
from trainer.deliver import main
from trainer.delivery.blocks import block_of, lbw
from trainer.delivery.metadata_look import recomputed
from trainer.families.family import Base
from trainer.lora.kohya_file import load_lora, read_metadata, read_tensors, save_lora
from trainer.lora.merge import delta

METADATA = {
    "ss_base_model_version": "sd_v1",
    "ss_network_dim": "4",
    "ss_network_alpha": "2.0",
    "modelspec.architecture": "stable-diffusion-v1/lora",
}
UP, DOWN, ALPHA = ".lora_up.weight", ".lora_down.weight", ".alpha"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    from tests.tiny import make_sd15

    return load_base(str(make_sd15(tmp_path_factory.mktemp("sd15"))))


@pytest.fixture
def good(base: Base, tmp_path: Path) -> Path:
    return save_lora(tmp_path / "dog.safetensors", random_lora(base), METADATA)


def deliver(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


def planted(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], object]) -> Path:
    """The file once more with a change, and with hashes that are right where the change leaves them alone."""
    tensors, metadata = read_tensors(path)
    change(tensors, metadata)
    if metadata.get("sshs_model_hash") == recomputed(*read_tensors(path))["sshs_model_hash"]:
        metadata |= recomputed(tensors, metadata)
        if "modelspec.hash_sha256" in metadata:
            metadata["modelspec.hash_sha256"] = "0x" + metadata["sshs_model_hash"]
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path


def first(tensors: dict[str, torch.Tensor], end: str) -> str:
    return next(key for key in sorted(tensors) if key.endswith(end))


def with_nan(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    tensors[first(tensors, UP)].view(-1)[3] = float("nan")


def with_infinity(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    tensors[first(tensors, DOWN)].view(-1)[0] = float("inf")


def junk(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    tensors["optimizer.state.0"] = torch.ones(3)


def without_an_alpha(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    del tensors[first(tensors, ALPHA)]


def without_alphas(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    for key in [key for key in tensors if key.endswith(ALPHA)]:
        del tensors[key]


def in_doubles(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    tensors[first(tensors, UP)] = tensors[first(tensors, UP)].double()


def half_a_layer(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    del tensors[first(tensors, UP)]


def two_ranks(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    key = first(tensors, UP)
    tensors[key] = torch.cat([tensors[key], tensors[key]], dim=1)


def of_another_width(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    key = first(tensors, UP)
    tensors[key] = torch.cat([tensors[key], tensors[key]])


def a_layer_too_many(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    old = first(tensors, DOWN).removesuffix(DOWN)
    new = "lora_unet_down_blocks_3_attentions_0_proj_in"
    tensors |= {new + end: tensors[old + end].clone() for end in (DOWN, UP, ALPHA)}


def of_zeros(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    for key in tensors:
        if key.endswith(UP):
            tensors[key] = torch.zeros_like(tensors[key])


def said_to_be_sdxl(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    metadata["ss_base_model_version"] = "sdxl_base_v1-0"


def with_another_hash(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    metadata["sshs_model_hash"] = "0" * 64


def with_the_hash_of_nothing(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    metadata["sshs_legacy_hash"] = hashlib.sha256(b"").hexdigest()[:8]
    metadata["sshs_model_hash"] = "0" * 64


def with_a_path(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    metadata["ss_sd_model_name"] = "/home/anna/models/v1-5.safetensors"


def with_a_path_in_json(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    metadata["ss_datasets"] = json.dumps([{"subsets": [{"image_dir": "C:\\Users\\anna\\20_sks dog"}]}])


FAULTS = [
    (with_nan, "NaN or infinity in 1 of"),
    (with_infinity, "NaN or infinity in 1 of"),
    (junk, "optimizer.state.0"),
    (without_an_alpha, "have no alpha"),
    (without_alphas, "ss_network_alpha says 2.0"),
    (in_doubles, "1 tensors are float64"),
    (half_a_layer, "one half only"),
    (two_ranks, "rank 4 in lora_down and 8 in lora_up"),
    (of_another_width, "do not fit"),
    (a_layer_too_many, "down_blocks.3.attentions.0.proj_in"),
    (of_zeros, "changes nothing"),
    (said_to_be_sdxl, "its layers are those of sd15"),
    (with_another_hash, "sshs_model_hash is not that of the weights"),
    (with_the_hash_of_nothing, "a hash of nothing"),
    (with_a_path, "/home/anna/models/v1-5.safetensors"),
    (with_a_path_in_json, "20_sks dog"),
]
MENDED = (junk, without_an_alpha, in_doubles, said_to_be_sdxl, with_another_hash, with_a_path, with_a_path_in_json)


def test_a_good_file_passes(good: Path, base: Base, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = deliver(capsys, good, "--base", base.source)
    assert code == 0, said
    assert "fault" not in said
    assert "it passes" in said


@pytest.mark.parametrize(("fault", "words"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_fault_is_found_and_named(
    good: Path, base: Base, capsys: pytest.CaptureFixture[str], fault: Callable[..., None], words: str
) -> None:
    path = planted(good, fault)
    before = path.read_bytes()
    code, said = deliver(capsys, path, "--base", base.source)
    lines = [line for line in said.splitlines() if line.startswith("  fault: ")]
    assert code == 1
    assert len(lines) >= 1
    assert any(words in line for line in lines), said
    assert not any(line.startswith(f"  fault: {words}") for line in lines), "first what to do, then why"
    if fault in MENDED:
        target = good.with_name("mended.safetensors")
        edits = ["--clean", "--repair", "--dtype", "fp16", "--to", target]
        code, said = deliver(capsys, path, "--base", base.source, *edits)
        assert code == 0, said
        assert "anna" not in str(read_metadata(target))
    assert path.read_bytes() == before


def test_without_a_base_a_lora_is_held_against_the_usual_layout_of_its_family(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = deliver(capsys, good)
    assert code == 1
    assert "do not fit a usual sd15 base" in said
    assert "--base" in said


def test_a_base_of_another_family_is_told_once(good: Path, tiny_sdxl: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = deliver(capsys, good, "--base", tiny_sdxl)
    assert code == 1
    assert said.count("fault: ") == 1
    assert "the LoRA is for sd15" in said


def test_hashes_are_right_after_every_edit_and_nothing_is_overwritten(
    good: Path, base: Base, capsys: pytest.CaptureFixture[str]
) -> None:
    before = good.read_bytes()
    edits = [
        "--unet",
        0.5,
        "--text-encoder",
        0.25,
        "--rank",
        2,
        "--no-photos",
        "--dtype",
        "fp32",
        "--base",
        base.source,
    ]
    code, said = deliver(capsys, good, *edits)
    assert code == 0, said
    new = good.with_name("dog-delivered.safetensors")
    content = new.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    metadata = read_metadata(new)
    assert metadata["sshs_model_hash"] == hashlib.sha256(content[8 + length :]).hexdigest()
    assert metadata["modelspec.hash_sha256"] == "0x" + metadata["sshs_model_hash"]
    assert metadata["ss_network_dim"] == "2"
    assert {tensor.dtype for key, tensor in load_file(new).items()} == {torch.float32}
    assert "<lora:dog:0.25:0.5>" in said
    assert good.read_bytes() == before
    code, said = deliver(capsys, good, "--clean")
    assert code == 2
    assert "nothing is overwritten" in said
    assert "a LoRA for" not in said, "it is told before the file is looked over"
    assert new.read_bytes() == content


def test_block_weights_are_merged_and_told_in_the_file_and_as_a_prompt(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = lbw({"M00": 0.5, "BASE": 0.0}, load_lora(good))
    deliver(capsys, good, "--blocks", given)
    new = good.with_name("dog-delivered.safetensors")
    assert json.loads(read_metadata(new)["onset.delivery"])["blocks"] == given
    old, merged = load_lora(good), load_lora(new)
    for site, module in old.modules.items():
        weight = {"M00": 0.5, "BASE": 0.0}.get(block_of(site) or "", 1.0)
        assert (site in merged.modules) == (weight != 0)
        if weight:
            shape = (module.up.shape[0], *module.down.shape[1:])
            torch.testing.assert_close(
                delta(merged.modules[site], shape), weight * delta(module, shape), rtol=2e-3, atol=1e-4
            )
    assert len(merged.modules) < len(old.modules)


def test_strengths_and_repair_change_what_they_say(good: Path, base: Base, capsys: pytest.CaptureFixture[str]) -> None:
    old = load_lora(good)
    deliver(capsys, planted(good, without_an_alpha), "--unet", -0.5, "--text-encoder", 0, "--repair")
    new = load_lora(good.with_name("dog-delivered.safetensors"))
    assert {component for component, _ in new.modules} == {"denoiser"}
    alone = next(site for site, module in load_lora(good).modules.items() if module.alpha == module.rank)
    for site, module in new.modules.items():
        shape = (module.up.shape[0], *module.down.shape[1:])
        wanted = -0.5 * delta(old.modules[site], shape) * (2.0 if site == alone else 1.0)  # without alpha: the rank
        torch.testing.assert_close(delta(module, shape), wanted, rtol=2e-3, atol=1e-4)
        assert module.alpha == 2.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rank", "0"], "--rank"),
        (["--unet", "nan"], "--unet"),
        (["--blocks", "1,0"], "--blocks"),
        (["--to", "x.safetensors"], "--to"),
        (["--loss", "2"], "--loss"),
    ],
)
def test_wrong_options_end_with_2(
    good: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    try:
        code, said = deliver(capsys, good, *arguments)
    except SystemExit as end:
        code, said = int(str(end.code)), capsys.readouterr().err
    assert code == 2
    assert f"error: {words}: expected" in said


def test_what_is_no_lora_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in {"none": None, "text": b"not a file of tensors"}.items():
        path = tmp_path / f"{name}.safetensors"
        if content is not None:
            path.write_bytes(content)
        assert deliver(capsys, path)[0] == 2
    save_file({"a.hada_w1_a": torch.ones(2)}, tmp_path / "loha.safetensors")
    code, said = deliver(capsys, tmp_path / "loha.safetensors")
    assert code == 2
    assert "LoHa" in said


def test_a_file_is_told_in_a_line_and_its_faults_are_counted(
    tmp_path: Path, base: Base, capsys: pytest.CaptureFixture[str]
) -> None:
    def of_two_ranks(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        site = ("denoiser", "mid_block.attentions.0.proj_in")
        name = base.family.kohya_name(*site)
        tensors[name + DOWN] = torch.cat([tensors[name + DOWN]] * 2)
        tensors[name + UP] = torch.cat([tensors[name + UP]] * 2, dim=1)
        tensors["padding"] = torch.zeros(2**18)

    lora = random_lora(base, rank=3)
    path = planted(save_lora(tmp_path / "dog.safetensors", lora, METADATA), of_two_ranks)
    code, said = deliver(capsys, path, "--base", base.source)
    size = f"{path.stat().st_size / 2**20:.1f} MiB"
    assert said.splitlines()[0] == f"{path}: a LoRA for sd15, {len(lora.modules)} layers, rank 3 to 6, {size}"
    assert float(size.split()[0]) > 1
    assert (code, said.splitlines()[-1]) == (1, "  it does not pass yet: 1 fault")
    planted(path, said_to_be_sdxl)
    assert deliver(capsys, path, "--base", base.source)[1].splitlines()[-1] == "  it does not pass yet: 2 faults"


def test_the_file_that_is_written_is_looked_over_too(
    good: Path, base: Base, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = deliver(capsys, planted(good, of_zeros), "--clean", "--base", base.source)
    new = good.with_name("dog-delivered.safetensors")
    before, _, after = said.partition(f"{new}: written; {good.name} stays as it is")
    assert code == 1
    assert (before.count("all layers are zero"), after.count("all layers are zero")) == (1, 1)
    assert "private texts are taken out of 0 keys" in after
