"""The models that the repository ships: they load as anybody would load them, and do what is asked."""

from pathlib import Path

import pytest
import torch

from studies.demo import judges as judging
from studies.demo import quality
from studies.demo.pool import make_pool

DEMO = Path(quality.__file__).parent


@pytest.fixture(scope="module")
def pipeline():
    return quality.open_pipeline(DEMO / "base")


def test_everything_shipped_is_small() -> None:
    files = [file for part in ("base", "clip", "photos") for file in (DEMO / part).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in [*files, judging.FILE]) < 20e6
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".ckpt", ".pkl")]


@pytest.mark.slow
def test_the_judges_know_fresh_renders() -> None:
    fresh = make_pool(48, 31, torch.device("cpu"))
    shares = judging.accuracy(judging.load_judges(), fresh.images.permute(0, 2, 3, 1), fresh.labels)
    assert min(shares.values()) > 0.9, shares


@pytest.mark.slow  # of files that no daily change touches
def test_the_base_obeys_its_prompts(pipeline) -> None:
    shares = quality.obedience(pipeline, judging.load_judges(), 12, seed=3)
    assert set(shares) == {"shape", "colour", "place", "pattern", "position", "size"}
    assert min(shares.values()) > 0.8, shares


@pytest.mark.slow  # of files that no daily change touches
def test_two_things_stand_where_the_prompt_says(pipeline) -> None:
    prompts = ["red ball on the left, blue cube on the right, studio, plain floor",
               "blue cube on the left, red ball on the right, studio, plain floor"]  # fmt: skip
    first, second = quality.draw(pipeline, prompts, [5, 5]).astype(float)
    for image, red_left in ((first, True), (second, False)):
        redness = image[..., 0] - image[..., 2]
        left, right = redness[16:50, 4:28].mean(), redness[16:50, 36:60].mean()
        assert (left > right + 40) == red_left
        assert (right > left + 40) != red_left


@pytest.mark.slow  # of files that no daily change touches
def test_the_vae_keeps_what_it_sees(pipeline) -> None:
    psnr = quality.reconstruction(pipeline.vae, torch.device("cpu"), count=18)
    assert psnr["scenes"] > 31
    assert psnr["concepts"] > 28


def test_the_clip_loads_through_open_clip_and_retrieves() -> None:
    import open_clip
    from PIL import Image

    name = f"local-dir:{DEMO / 'clip'}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    assert quality.retrieval(model.eval(), torch.device("cpu"), batches=1) > 0.9
    tokens = open_clip.get_tokenizer(name)(["red cube, large, on the left", "blue ball, small, on the right"])
    photo = Image.open(sorted((DEMO / "photos").rglob("*.png"))[0])
    with torch.no_grad():
        read, seen = model.encode_text(tokens), model.encode_image(preprocess(photo)[None])
    assert tokens.shape == (2, 32)
    assert read.shape == (2, 96)
    assert seen.shape == (1, 96)
