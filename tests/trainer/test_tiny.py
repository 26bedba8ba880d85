"""The fixtures themselves: every tiny base is a folder that diffusers, transformers and open_clip read."""

import pytest

from tests import tiny


@pytest.mark.parametrize("base", ["tiny_sd15", "tiny_sdxl", "tiny_sd3"])
def test_a_tiny_base_draws_an_image(base: str, request: pytest.FixtureRequest) -> None:
    from diffusers import DiffusionPipeline

    extra = {"text_encoder_3": None, "tokenizer_3": None} if base == "tiny_sd3" else {}
    pipeline = DiffusionPipeline.from_pretrained(request.getfixturevalue(base), **extra)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a photo of sks toy", num_inference_steps=2, height=64, width=64, output_type="np").images
    assert image.shape == (1, 64, 64, 3)
    assert image.std() > 0.02


def test_the_same_seed_gives_the_same_base(tiny_sd15, tmp_path) -> None:
    again = tiny.make_sd15(tmp_path / "again")
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (again / weights).read_bytes() == (tiny_sd15 / weights).read_bytes()


def test_the_tiny_clip_is_an_open_clip_folder(tiny_clip) -> None:
    import open_clip

    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    tokens = open_clip.get_tokenizer(f"local-dir:{tiny_clip}")(["a toy on the beach"])
    assert model.encode_text(tokens).shape == (1, 32)
