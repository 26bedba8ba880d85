"""Subject masks: saliency finds planted subjects, given masks win, models by name really segment, styles are told."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metrics.errors import MetricsError
from metrics.subjects.masks import segmentation_masks, subject_masks
from tests.messages import refusal
from tests.metrics.photo_sets import crops, pictures
from tests.metrics.subjects.planted_subjects import planted
from tests.tiny import make_tokenizer


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union at one half."""
    inside = mask > 0.5
    return float((inside & truth).sum() / (inside | truth).sum())


def test_photos_of_one_subject_find_it_together():
    images, truths = planted(8)
    found = subject_masks(images, source="saliency")
    assert [mask.shape for mask in found.masks] == [(64, 64)] * 8
    assert np.mean([overlap(mask, truth) for mask, truth in zip(found.masks, truths, strict=True)]) > 0.75
    assert found.reason is None
    assert found.sources == ("saliency",) * 8
    assert "look at the sheet" in found.notes[0]


def test_photos_of_different_sizes_can_be_cut_out_together():
    images, truths = planted(2, size=(96, 160))
    more, more_truths = planted(3, size=(64, 64), seed=4)
    found = subject_masks([*images, *more], source="saliency")
    overlaps = [overlap(mask, truth) for mask, truth in zip(found.masks, [*truths, *more_truths], strict=True)]
    assert np.mean(overlaps) > 0.6


def test_one_photo_alone_shows_its_subject():
    image, truth = (rows[0] for rows in planted(1))
    assert overlap(subject_masks([image], source="saliency").masks[0], truth) > 0.5


def test_the_rocket_stands_out_of_a_real_night_sky():
    rocket = pictures()["rocket"]
    mask = subject_masks([rocket], source="saliency").masks[0]
    assert mask.shape == rocket.shape[:2]
    assert mask[180:330, 310:330].mean() > 0.7  # the rocket itself
    assert mask[:100].mean() < 0.05  # the sky above


def test_a_given_mask_wins_and_an_opaque_alpha_channel_is_none():
    images, truths = planted(3)
    opaque = np.full((64, 64), 255, np.uint8)
    found = subject_masks(images, given=[truths[0].astype(np.float32), opaque, None])
    assert found.sources == ("given", "saliency", "saliency")
    np.testing.assert_array_equal(found.masks[0] > 0.5, truths[0])
    as_bytes = subject_masks(images[:1], given=[truths[0].astype(np.uint8) * 255], source="alpha")
    np.testing.assert_array_equal(as_bytes.masks[0] > 0.5, truths[0])


def test_a_black_mask_says_that_there_is_no_subject():
    images, truths = planted(3)
    found = subject_masks(images, given=[np.zeros((64, 64)), *(truth.astype(np.float32) for truth in truths[1:])])
    assert found.sources == ("given",) * 3
    assert found.usable == (False, True, True)


def test_only_given_masks_are_used_when_asked_for():
    images, truths = planted(3)
    found = subject_masks(images, source="given", given=[truths[0].astype(np.float32), None, None])
    assert found.usable == (True, False, False)
    assert "2 of 3 photos have no given mask" in found.notes[0]
    with pytest.raises(MetricsError, match=r"mask 0 is \(8, 8\), its photo \(64, 64\)"):
        subject_masks(images[:1], given=[np.ones((8, 8), np.float32)])


def attended(truths: list[np.ndarray], *, side: int, noise: float = 0.0) -> list[np.ndarray]:
    """What a base's cross-attention could show of subjects: small, blurred, with a level of its own."""
    generator = np.random.default_rng(0)
    small = [np.asarray(Image.fromarray(truth.astype(np.float32)).resize((side, side))) for truth in truths]
    return [0.03 * (each + noise * generator.normal(size=each.shape)) + 0.001 for each in small]


def test_attention_says_what_the_subject_is_and_colours_where_it_ends():
    images, truths = planted(6)
    found = subject_masks(images, source="attention", attention=attended(truths, side=8, noise=0.1))
    assert found.sources == ("attention",) * 6
    assert np.mean([overlap(mask, truth) for mask, truth in zip(found.masks, truths, strict=True)]) > 0.8
    assert found.notes == ()
    wide, truth = planted(3, size=(48, 80))
    assert subject_masks(wide, attention=attended(truth, side=16)).masks[0].shape == (48, 80)
    flat = subject_masks(images, source="attention", attention=[np.ones((8, 8))] * 6)
    assert len(flat.masks) == 6  # a map that says nothing must not crash


def portraits() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Eight framings of scikit-image's astronaut, and roughly where she is."""
    image = pictures()["astronaut"]
    rows, columns = np.indices(image.shape[:2])
    person = ((rows - 130) / 120) ** 2 + ((columns - 230) / 85) ** 2 < 1
    person |= (rows > 215) & (columns > 40 + (512 - rows) * 0.25) & (columns < 460)
    generator = np.random.default_rng(0)
    photos, persons = [], []
    for number in range(8):
        side = int(512 * generator.uniform(0.85, 1))
        top, left = generator.integers(0, 512 - side + 1, 2)
        cut = np.s_[top : top + side, left : left + side]
        photos.append(np.ascontiguousarray(image[cut][:, :: (-1) ** number]))
        persons.append(person[cut][:, :: (-1) ** number])
    return photos, persons


@pytest.mark.slow
def test_a_portrait_keeps_its_head_where_the_base_looks_for_a_woman():
    photos, persons = portraits()
    salient = subject_masks(photos)
    found = subject_masks(photos, attention=attended(persons, side=16, noise=0.1), class_word="woman")
    heads = {}
    for name, masks in (("saliency", salient), ("attention", found)):
        assert set(masks.sources) == {name}
        upper = [
            (mask[: len(mask) // 3] > 0.5, truth[: len(mask) // 3])
            for mask, truth in zip(masks.masks, persons, strict=True)
        ]
        heads[name] = np.mean([mask[truth].mean() for mask, truth in upper])
    assert heads["saliency"] < 0.1  # the orange suit stands out, the head does not
    assert heads["attention"] > 0.7
    assert "where the base looks for 'woman' is not what stands out in 8 of 8 photos" in found.notes[0]
    assert np.mean([overlap(mask, truth) for mask, truth in zip(found.masks, persons, strict=True)]) > 0.8


def test_a_style_is_told_and_nothing_is_cut_out():
    images, _ = planted(2)
    asked = subject_masks(images, source="none")
    assert asked.reason is not None
    assert "style" in asked.reason
    textures = [np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8) for seed in range(4)]
    flat = [np.full((64, 64, 3), value, np.uint8) for value in (20, 120, 200, 250)]
    assert subject_masks(flat, source="saliency").reason is not None
    assert len(subject_masks(textures, source="saliency").masks) == 4  # noise has no subject, but must not crash


def test_photos_that_share_no_subject_are_taken_for_a_style():
    photos = list(pictures().values())
    unlike = subject_masks(photos)
    assert unlike.style
    assert not any(unlike.usable)
    assert "style" in (unlike.reason or "")
    assert "masks: saliency" in (unlike.reason or "")
    assert any(subject_masks(photos, source="saliency").usable)  # who asks for cut-outs gets them
    left = [(np.arange(photo.shape[1]) < 200) * np.ones(photo.shape[:2], np.float32) for photo in photos]
    assert not subject_masks(photos, given=left).style
    assert not subject_masks(photos[:4]).style  # too few to say
    assert subject_masks(planted(8)[0]).reason is None


def test_the_base_may_see_one_subject_where_other_things_stand_out():
    """A brown box beside a vivid ball of another colour in each photo; photos of nothing in common stay a style."""
    generator = np.random.default_rng(0)
    rows, columns = np.indices((64, 64))
    photos, boxes = [], []
    for number in range(8):
        image = np.full((64, 64, 3), generator.uniform(120, 200), np.float64)
        box = (np.abs(rows - 44) < 9) & (np.abs(columns - generator.uniform(14, 22)) < 8)
        ball = (rows - 20) ** 2 + (columns - 46) ** 2 < 110
        image[box] = (110, 80, 50)
        image[ball] = 255 * np.clip(np.abs((number / 8 * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)  # hues around
        photos.append(np.clip(image + generator.normal(0, 3, image.shape), 0, 255).astype(np.uint8))
        boxes.append(box)
    assert subject_masks(photos).style
    found = subject_masks(photos, attention=attended(boxes, side=16))
    assert not found.style
    assert np.mean([overlap(mask, box) for mask, box in zip(found.masks, boxes, strict=True)]) > 0.7
    unlike = list(pictures().values())
    for seed in range(2):
        maps = [np.random.default_rng([seed, number]).random((16, 16)) for number in range(len(unlike))]
        assert subject_masks(unlike, attention=maps).style


def test_a_subject_whose_colours_say_nothing_is_known_by_what_photos_have_in_common():
    photos, asked = list(pictures().values()), []

    def alike(by: float) -> float:
        asked.append(by)
        return by

    assert subject_masks(photos, in_common=lambda: alike(0.1)).style
    found = subject_masks(photos, in_common=lambda: alike(0.5))
    assert not found.style
    assert any(found.usable)
    assert asked == [0.1, 0.5]
    subject_masks(planted(8)[0], in_common=lambda: alike(0.1))
    assert len(asked) == 2  # colours were enough


@pytest.mark.services
def test_no_real_subject_is_taken_for_a_style():
    """A brown dog on brown ground and before a painted wall among them, whose colours are its surroundings'."""
    from benchmarks.data_check import real_encoder
    from benchmarks.data_faults import SUBJECTS, subject
    from metrics.checkpoint.unrelated import in_common

    encoder = real_encoder()
    sets = {path.name: list(subject(path.name).images) for path in sorted(SUBJECTS.iterdir()) if path.is_dir()}
    alike = {name: in_common(encoder.images(photos), encoder) for name, photos in sets.items()}
    unlike = [[photos[number] for photos in list(sets.values())[number % 3 :: 2]] for number in range(3)]
    assert len(sets) >= 17
    assert min(alike.values()) > 0.36
    assert max(in_common(encoder.images(photos), encoder) for photos in unlike) < 0.24
    assert not subject_masks(sets["dog3"], in_common=lambda: alike["dog3"]).style


@pytest.mark.parametrize("name", ["chelsea", "rocket", "coffee", "astronaut"])
def test_photos_of_one_real_subject_are_not(name: str):
    assert not subject_masks(list(crops(10, 0, (name,), 128))).style


def test_given_masks_that_cannot_be_moved_are_counted():
    images, truths = planted(6)
    given = [truth.astype(np.float32) for truth in truths]
    close = np.zeros((64, 64), np.float32)
    close[3:, 4:] = 1  # a close-up
    found = subject_masks(images, given=[close, close, *given[2:]])
    assert found.usable == (False, False, True, True, True, True)
    share = "cover less than 1 % or more than 75 % of the picture"
    assert found.notes == (f"2 of 6 photos are not moved: their masks {share}",)
    some = subject_masks(images, source="given", given=[close, None, *given[2:]])
    assert some.notes == (
        "1 of 6 photos have no given mask and are not moved",
        f"1 of 6 photos are not moved: their masks {share}",
    )
    assert f"the masks of 4 of 6 photos {share}" in (subject_masks(images, given=[close] * 4 + given[4:]).reason or "")


def test_a_mask_of_all_but_rounded_corners_is_none():
    images, _ = planted(3)
    rounded = np.ones((64, 64), np.float32)
    rounded[[0, 0, -1, -1], [0, -1, 0, -1]] = 0
    assert subject_masks(images, given=[rounded] * 3).sources == ("saliency",) * 3


def test_specks_of_given_masks_are_no_part_of_the_subject():
    images, truths = planted(1)
    speckled = truths[0].astype(np.float32)
    speckled[0, 0] = speckled[63, 1] = 1
    np.testing.assert_array_equal(subject_masks(images, given=[speckled]).masks[0], truths[0].astype(np.float32))
    hat = truths[0].astype(np.float32)
    hat[2:8, 2:8] = 1  # small, but no speck
    np.testing.assert_array_equal(subject_masks(images, given=[hat]).masks[0], hat)


def test_unknown_sources_and_missing_models_are_named():
    images = list(crops(2, 0))
    with pytest.raises(MetricsError, match=refusal("masks", "magic", "auto, alpha")):
        subject_masks(images, source="magic")
    with pytest.raises(MetricsError, match=refusal("segmenter", "nothing")):
        subject_masks(images, source="segmentation")
    with pytest.raises(MetricsError, match=refusal("attention", "nothing")):
        subject_masks(images, source="attention")
    with pytest.raises(MetricsError, match=refusal("segmenter", "/nowhere")):
        subject_masks(images, segmenter="/nowhere")


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("segformer")
    config = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        id2label={0: "wall", 1: "toy, doll", 2: "sky"},
        label2id={"wall": 0, "toy, doll": 1, "sky": 2},
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_segmentation_model_gives_the_segments_named_like_the_class(segformer: Path):
    from transformers import pipeline

    images = list(crops(3, 0, side=96))
    found, known = segmentation_masks(images, str(segformer), class_word="red toy")
    segment = pipeline("image-segmentation", model=str(segformer))
    for image, mask, is_named in zip(images, found, known, strict=True):
        named = [np.asarray(part["mask"]) > 0 for part in segment(Image.fromarray(image)) if "toy" in part["label"]]
        assert mask.shape == (96, 96)
        if named:
            np.testing.assert_array_equal(mask > 0.5, named[0])
        assert is_named == bool(named)
    assert any(known), "no segment of this model is named like the class: nothing was compared"
    assert subject_masks(images, segmenter=str(segformer), class_word="toy").sources == ("segmentation",) * 3
    other = subject_masks(images, segmenter=str(segformer), class_word="lamp")
    assert f"3 of 3 photos have no segment that {segformer} calls 'lamp'" in " ".join(other.notes)
    own = [np.eye(96, dtype=np.float32), np.eye(96, dtype=np.float32), None]
    mostly = subject_masks(images, given=own, segmenter=str(segformer), class_word="lamp")
    assert "1 of 3 photos have no segment" in " ".join(mostly.notes)
    assert "no segment" not in " ".join(subject_masks(images, segmenter=str(segformer)).notes)


def test_clipseg_masks_cover_what_the_model_scores_highest(tmp_path: Path):
    from transformers import (
        CLIPSegConfig,
        CLIPSegForImageSegmentation,
        CLIPSegProcessor,
        CLIPTokenizer,
        ViTImageProcessor,
    )

    torch.manual_seed(0)
    make_tokenizer(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    layers = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    text = layers | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 32,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    config = CLIPSegConfig(
        text_config=text,
        vision_config=layers | {"image_size": 64, "patch_size": 16},
        projection_dim=16,
        reduce_dim=16,
        extract_layers=[0, 1, 2],
        decoder_num_attention_heads=2,
        decoder_intermediate_size=24,
        conditional_layer=0,
    )
    model = CLIPSegForImageSegmentation(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(tmp_path)
    size = {"height": 64, "width": 64}
    processor = CLIPSegProcessor(ViTImageProcessor(size=size), tokenizer)
    processor.save_pretrained(tmp_path)
    images = list(crops(2, 0, side=64))
    masks, _ = segmentation_masks(images, str(tmp_path), class_word="toy")
    for image, mask in zip(images, masks, strict=True):
        inputs = processor(text=["toy"], images=[Image.fromarray(image)], return_tensors="pt")
        with torch.no_grad():
            logits = model.eval()(**inputs).logits.numpy().reshape(64, 64)
        assert mask.shape == (64, 64)
        assert 0 < mask.mean() < 1
        assert logits[mask > 0.5].mean() > logits[mask < 0.5].mean() + logits.std() / 2
