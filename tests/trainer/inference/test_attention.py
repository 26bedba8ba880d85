"""Cross-attention maps: where a base looks when it reads a word."""

import numpy as np
import pytest

from studies.demo.concepts import CONCEPTS
from studies.demo.scenes import render_concept
from studies.demo.truth import BASE
from trainer.base_model.load import load_base
from trainer.errors import ModelError
from trainer.inference.attention import attention_maps


def test_the_demo_base_looks_at_the_subject_when_it_reads_its_class() -> None:
    images, _, _, masks = render_concept("mushroom", "set", 8, seed=3)
    maps = attention_maps(load_base(BASE), images, CONCEPTS["mushroom"].class_word)
    assert maps.shape == (8, 16, 16)
    inside = masks.reshape(8, 16, 4, 16, 4).mean(axis=(2, 4)) > 0.5
    on_subject = np.array([m[i].mean() / m[~i].mean() for m, i in zip(maps, inside, strict=True)])
    assert np.median(on_subject) > 1.2, on_subject


@pytest.mark.parametrize("name", ["tiny_sd15", "tiny_sdxl"])
def test_maps_have_the_photos_shape_and_leave_the_base_as_it_was(name: str, request) -> None:
    base = load_base(request.getfixturevalue(name))
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    maps = attention_maps(base, image, "red dog")
    factor = base.latent_factor
    assert maps.shape == (1, 64 // factor, 96 // factor)
    assert np.isfinite(maps).all()
    assert (maps > 0).all()
    assert not any(module._forward_hooks for module in base.denoiser.modules())


def test_what_has_no_such_maps_says_so(tiny_sd15, tiny_sd3) -> None:
    image = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(ModelError, match="the word is empty"):
        attention_maps(load_base(tiny_sd15), image, " ")
    with pytest.raises(ModelError, match="they tell 8 places apart, 16 are needed"):
        attention_maps(load_base(BASE), np.zeros((1, 64, 64, 3), np.uint8), "mushroom", finest=16)
    with pytest.raises(ModelError, match="sd3 has no cross-attention"):
        attention_maps(load_base(tiny_sd3), image, "dog")
