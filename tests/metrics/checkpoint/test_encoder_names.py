"""Names of encoders that may exist are told from those that cannot, without loading any."""

from pathlib import Path

import pytest

from metrics.checkpoint.encoder_names import _open_clip_models, why_no_encoder

FORMS = "an open_clip model as NAME/TAG"


@pytest.mark.parametrize(
    "spec",
    ["ViT-L-14/openai", "ViT-B-32/laion2b_s34b_b79k", "ViT-B-32/some/where.safetensors", "ViT-B-32/x.pt",
     "hf-hub:laion/CLIP-ViT-B-32", "timm:vit_tiny_patch16_224", "timm:vit_small_patch14_dinov2.lvd142m",
     "timm:test_vit@/some where/w.safetensors", "timm:hf-hub:timm/test_vit", "timm:hf_hub:timm/test_vit.r160"],
)  # fmt: skip
def test_names_that_may_exist_pass(spec: str) -> None:
    assert why_no_encoder(spec) is None


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", FORMS),
        ("  ", FORMS),
        ("ViT-L-14/openai\n", FORMS),
        ("ViT-L-14/" + "a" * 492, FORMS),
        ("nothing", FORMS),
        ("ViT-B-33/openai", "(did you mean ViT-B-32?)"),
        ("ViT-L-14/", FORMS),
        ("zzz/openai", FORMS),
        ("timm:", "timm:NAME, with @FILE.safetensors"),
        ("timm:a b", "timm:NAME, with @FILE.safetensors"),
        ("timm:x@", "timm:NAME, with @FILE.safetensors"),
        ("hf-hub:laion", "hf-hub:ORG/NAME"),
        ("hf-hub:laion/a/b", "hf-hub:ORG/NAME"),
    ],
)
def test_names_that_cannot_exist_say_what_they_would_have_to_be(spec: str, expected: str) -> None:
    found = why_no_encoder(spec)
    assert found is not None
    assert expected in found
    assert ("did you mean" in found) is ("did you mean" in expected)


@pytest.mark.parametrize(
    ("name", "held"), [("open_clip_config.json", True), ("config.json", True), ("other.json", False)]
)
def test_a_folder_has_to_hold_an_encoder(tmp_path: Path, name: str, held: bool) -> None:
    (tmp_path / name).write_text("{}")
    found = why_no_encoder(str(tmp_path))
    assert (found is None) is held
    assert held or "open_clip_config.json or config.json" in (found or "")


def test_the_models_of_open_clip_are_those_that_it_lists() -> None:
    import open_clip

    assert _open_clip_models() == frozenset(open_clip.list_models())
