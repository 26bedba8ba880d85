"""Encoders: local open_clip folders and timm weights really encode; the cache agrees; mistakes are named."""

import logging
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from metrics.checkpoint.encoders import _address_of, _patient_only_online, _run, load_encoder
from metrics.errors import MetricsError
from tests.metrics.photo_sets import crops

DEMO_CLIP = Path(__file__).parents[3] / "studies" / "demo" / "clip"


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "weights.safetensors"
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), path)
    return path


def test_open_clip_folder_gives_what_open_clip_gives(tiny_clip: Path):
    import open_clip
    from PIL import Image

    images, texts = crops(3, 0), ["a photo of a red toy", "the beach"]
    encoder = load_encoder(str(tiny_clip))
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    with torch.no_grad():
        pixels = torch.stack([preprocess(Image.fromarray(image)) for image in images])
        expected = model.eval().encode_image(pixels, normalize=True).numpy()
        words = model.encode_text(open_clip.get_tokenizer(f"local-dir:{tiny_clip}")(texts), normalize=True).numpy()
    np.testing.assert_allclose(encoder.images(images), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.texts(texts), words, atol=1e-6)
    assert encoder.images(images).dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(encoder.images(images), axis=1), 1, atol=1e-6)


def test_batches_and_sizes_do_not_change_the_features(tiny_clip: Path):
    images = [*crops(5, 0), *crops(2, 1, side=96)]
    together = load_encoder(str(tiny_clip), batch_size=32).images(images)
    np.testing.assert_allclose(load_encoder(str(tiny_clip), batch_size=2).images(images), together, atol=1e-5)


def test_the_cache_keeps_features_by_content_and_survives_a_broken_file(tiny_clip: Path, tmp_path: Path):
    images = crops(4, 0)
    first = load_encoder(str(tiny_clip), cache_dir=tmp_path)
    features, words = first.images(images), first.texts(["red toy"])
    files = sorted(tmp_path.rglob("*.npz"))
    assert len(files) == 5
    np.savez(files[0], features=np.full(features.shape[1], 7, np.float32))
    again = load_encoder(str(tiny_clip), cache_dir=tmp_path)
    stored = np.concatenate([again.images(images[::-1])[::-1], again.texts(["red toy"])])
    assert (np.abs(stored - np.concatenate([features, words])).max(axis=1) > 1).sum() == 1  # what we planted was read
    files[0].write_bytes(b"cut short")
    flipped = bytearray(files[1].read_bytes())
    flipped[len(flipped) // 2] ^= 4
    files[1].write_bytes(flipped)
    mended = np.concatenate([again.images(images), again.texts(["red toy"])])
    np.testing.assert_allclose(mended, np.concatenate([features, words]), atol=1e-6)
    assert all(np.load(file)["features"].shape == (features.shape[1],) for file in files)
    assert len(sorted(tmp_path.rglob("*.npz"))) == 5
    again.images(crops(2, 9), cache=False)
    assert len(sorted(tmp_path.rglob("*.npz"))) == 5


def test_digest_names_the_weights(tiny_clip: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    for name in ("open_clip_config.json", *(path.name for path in tiny_clip.iterdir() if "token" in path.name)):
        (tmp_path / name).write_bytes((tiny_clip / name).read_bytes())
    weights = load_file(tiny_clip / "open_clip_model.safetensors")
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    assert load_encoder(str(tmp_path)).digest == load_encoder(str(tiny_clip)).digest
    save_file({name: value * 1.01 for name, value in weights.items()}, tmp_path / "open_clip_model.safetensors")
    assert load_encoder(str(tmp_path)).digest != load_encoder(str(tiny_clip)).digest


def test_timm_encodes_images_only(timm_file: Path):
    encoder = load_encoder(f"timm:test_vit@{timm_file}")
    features = encoder.images(crops(3, 0))
    assert features.shape == (3, 64)
    assert not np.allclose(features[0], features[1], atol=1e-3)
    assert not encoder.has_texts
    with pytest.raises(MetricsError, match="images only"):
        encoder.texts(["a"])


def test_encoders_of_timm_say_what_they_see_where(timm_file: Path, tmp_path: Path):
    import timm
    from safetensors.torch import save_file

    left = np.zeros((90, 60, 3), np.uint8)
    left[:, :30] = 255
    images = [left, np.ascontiguousarray(left[:, ::-1]), left]
    network = tmp_path / "network.safetensors"
    save_file(timm.create_model("test_efficientnet", num_classes=0).state_dict(), network)
    for spec in (f"timm:test_vit@{timm_file}", f"timm:test_efficientnet@{network}"):
        stages = load_encoder(spec, batch_size=2).places(images)
        assert stages is not None
        assert len(stages) == 2
        for stage in stages:
            assert stage.ndim == 4
            assert len(stage) == 3
            np.testing.assert_allclose(stage[0], stage[2], atol=1e-4)
            assert np.abs(stage[0] - stage[1]).max() > 1e-3
    assert load_encoder(str(DEMO_CLIP)).places(images) is None


def test_a_folder_of_timms_encodes_as_timm_does(tmp_path: Path):
    import timm
    from PIL import Image
    from timm.models import save_for_hf

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=7).eval()
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    images = crops(3, 0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    pixels = torch.stack([transform(Image.fromarray(image)) for image in images])
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(pixels), pre_logits=True)
    encoder = load_encoder(str(tmp_path))
    assert not encoder.has_texts
    np.testing.assert_allclose(
        encoder.images(images), torch.nn.functional.normalize(expected, dim=1).numpy(), atol=1e-5
    )
    (tmp_path / "model.safetensors").rename(tmp_path / "model.bin")
    with pytest.raises(MetricsError, match=r"with model\.safetensors"):
        load_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(MetricsError, match=r"with open_clip_config\.json"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("ViT-B-33/openai", "did you mean ViT-B-32?"),
        ("ViT-B-32/openay", "ViT-B-32/TAG (did you mean openai?), got"),
        ("timm:vit_tiny_patch16_22", "did you mean vit_tiny_patch16_224?"),
        ("timm:test_vit@/nowhere.safetensors", "/nowhere.safetensors does not"),
    ],
)
def test_a_wrong_name_is_one_line_that_says_what_would_be_right(spec: str, words: str):
    with pytest.raises(MetricsError, match="encoder") as caught:
        load_encoder(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["ViT-L-14/openai", "timm:vit_small_patch14_dinov2.lvd142m"])
def test_weights_that_are_neither_here_nor_to_be_had_are_told_in_plain_words(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MetricsError) as caught:
        load_encoder(spec)
    told = str(caught.value)
    assert spec in told
    assert told.endswith("not in the hub's cache, and the hub is not asked, as HF_HUB_OFFLINE is set")


def test_a_folder_without_weights_is_refused(tiny_clip: Path, tmp_path: Path):
    (tmp_path / "open_clip_config.json").write_bytes((tiny_clip / "open_clip_config.json").read_bytes())
    with pytest.raises(MetricsError, match=r"a folder with open_clip_model\.safetensors"):
        load_encoder(str(tmp_path))


def test_images_of_another_type_are_refused(tiny_clip: Path):
    with pytest.raises(MetricsError, match="RGB of uint8"):
        load_encoder(str(tiny_clip)).images(np.zeros((1, 8, 8, 3), np.float32))


@pytest.mark.parametrize("cached", [False, True])
def test_of_nothing_there_are_no_features(tiny_clip: Path, tmp_path: Path, cached: bool) -> None:
    encoder = load_encoder(str(tiny_clip), cache_dir=tmp_path if cached else None)
    assert encoder.images([]).shape == encoder.texts([]).shape == (0, 0)


def test_a_network_in_half_precision_gives_about_the_same_features(tiny_clip: Path) -> None:
    images = crops(4, 0)
    full, half = (load_encoder(str(tiny_clip), precision=precision) for precision in ("fp32", "bf16"))
    whole, rough = full.images(images), half.images(images)
    assert rough.dtype == np.float32
    assert 1e-5 < np.abs(whole - rough).max() < 0.05
    assert full.digest != half.digest, "the cache keeps them apart"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(MetricsError, match="try precision fp32"):
        _run(lambda batch: batch * value, torch.ones(2, 3), "cpu", "fp32")
    rows = _run(lambda batch: 3 * batch, torch.tensor([[3.0, 4.0]]), "cpu", "fp32")
    np.testing.assert_allclose(rows, [[0.6, 0.8]])


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://huggingface.co", ("huggingface.co", 443)),
        ("http://mirror/hub", ("mirror", 80)),
        ("http://127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("", ("", 443)),
    ],
)
def test_the_hub_is_where_its_address_says(url: str, address: tuple[str, int]) -> None:
    assert _address_of(url) == address


@pytest.mark.parametrize("there", [True, False])
def test_a_hub_that_does_not_answer_is_not_asked_again(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not there:
            server.close()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        with _patient_only_online():
            assert constants.HF_HUB_OFFLINE is not there
            assert not logging.getLogger("hub").isEnabledFor(logging.ERROR)
            assert logging.getLogger("hub").isEnabledFor(logging.CRITICAL)
        assert constants.HF_HUB_OFFLINE is False
        assert logging.getLogger("hub").isEnabledFor(logging.ERROR)
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
        with _patient_only_online():
            assert constants.HF_HUB_OFFLINE is False, "a proxy may reach it"
