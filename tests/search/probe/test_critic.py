"""The critic: a LoRA of the photos that says which images show the subject."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from metrics.checkpoint.encoders import load_encoder
from metrics.checkpoint.recognition import CRITIC_WIDTH, recognised, share_of
from search.probe.critic import Critic, forget_parts, write_critic
from search.probe.fresh_probe import open_fresh_probe
from search.probe.probe import Probe, open_probe
from search.probe.probe_files import CRITIC_FILE, mend_probe
from search.record.record import StudyFolder
from search.study.critic_run import SHARED, critic_config
from search.study.study import Study, load_study
from studies.demo.photos import write_photos
from tests.search import damage
from tests.search.conftest import StudyWriter
from trainer.base_model.load import load_base
from trainer.config.config import parse_train_config
from trainer.data.dataset import load_pixels
from trainer.errors import TrainerError
from trainer.lora.kohya_file import load_lora
from trainer.lora.lora import LoraWeights

DEMO = Path(__file__).parents[3] / "studies" / "demo"
SCORE = {
    "encoder": str(DEMO / "clip"), "holdout": 2, "shifted": {"composites": 4}, "losses": {"levels": 2},
    "probe": {"seeds": 1, "steps": 1, "trained": 2, "heldout": 0, "contexts": ["{trigger} {class}, snow"]},
    "critic": {"steps": 12, "levels": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("critic") / "photos", count=8).parent


@pytest.fixture
def study(write_study: StudyWriter, data: Path) -> Study:
    train = {"resolution": 64, "batch_size": 2}
    return load_study(write_study(base=str(DEMO / "base"), data=str(data), train=train, score=SCORE))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The study's folder: alone in its runs folder, or it would take another test's critic."""
    return tmp_path / "runs" / "small"


@pytest.fixture
def probe(study: Study, home: Path) -> Probe:
    return opened(study, home)


def opened(study: Study, folder: Path) -> Probe:
    return open_probe(study, load_base(DEMO / "base"), folder / "cache", load_encoder(str(DEMO / "clip")), None)


def weights(file: Path) -> dict[tuple[str, str], np.ndarray]:
    return {key: np.asarray(module.up) for key, module in load_lora(file).modules.items()}


def seen_by_both(probe: Probe, images: np.ndarray, gains: np.ndarray) -> np.ndarray:
    known = probe.calibration
    assert known.identity_encoder is None
    by_encoder = recognised(known.subject, known.encoder.images(images))
    return by_encoder * share_of(gains / known.critic, CRITIC_WIDTH)


def test_an_image_shows_the_subject_as_far_as_encoder_and_critic_see_it(probe: Probe, tmp_path: Path) -> None:
    own = [photo for photo in probe.trained.photos if not photo.is_reg]
    pixels = [load_pixels(photo, probe.config.size) for photo in own]
    critic = probe.critic
    assert critic is not None
    of_photos = critic.gains(pixels, [photo.caption for photo in own])
    assert 0 < probe.calibration.critic == pytest.approx(of_photos.mean())
    of_base = probe.gains(probe.base_images, probe.labels)
    assert of_base is not None
    assert of_base.mean() < of_photos.mean() / 4
    shown = seen_by_both(probe, probe.base_images, of_base)
    np.testing.assert_allclose(probe.base_readings.items["recognised"], shown)
    assert probe.base_readings.channels["recognised"].value == pytest.approx(shown.mean())

    nothing = LoraWeights({}, probe.base.family.name)
    readings, images, _ = probe.read(nothing, epoch=1, effort=1.0)
    np.testing.assert_array_equal(images, probe.base_images)
    np.testing.assert_allclose(readings.items["recognised"], shown)


def test_finalists_are_read_by_it_too(study: Study, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "runs" / "toy")
    folder.cache.mkdir(parents=True)
    probe = opened(study, folder.path)
    fresh = open_fresh_probe(study, folder, probe)
    look, images = fresh.look(None, 0)
    gains = probe.gains(images, fresh.prompts.labels)
    assert gains is not None
    np.testing.assert_allclose(look.readings.items["recognised"], seen_by_both(probe, images, gains))


def test_a_second_worker_takes_it_as_it_is_and_a_damaged_one_is_trained_again(study: Study, home: Path) -> None:
    first = opened(study, home)
    file = home / "cache" / "probe" / CRITIC_FILE
    written = file.stat().st_mtime_ns
    known = weights(file)
    again = opened(study, home)
    assert file.stat().st_mtime_ns == written
    np.testing.assert_array_equal(again.base_readings.items["recognised"], first.base_readings.items["recognised"])

    file.write_bytes(file.read_bytes()[:100])
    (said,) = mend_probe(StudyFolder(home))
    assert said.startswith(f"{file} is damaged or missing")
    for _ in range(2):  # built again; and where the file alone was lost
        opened(study, home)
        found = weights(file)
        assert found.keys() == known.keys()
        assert all(np.array_equal(found[key], known[key]) for key in known)
        file.unlink()
    assert not list((home / "cache").glob("critic-*"))


def test_a_training_that_was_killed_goes_on(study: Study, probe: Probe, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def train(to: Path) -> dict[tuple[str, str], np.ndarray]:
        to.mkdir(exist_ok=True)
        write_critic(study, probe.base, probe.trained, probe.cache, to, tmp_path / "aside", said.append)
        return weights(to / CRITIC_FILE)

    said: list[str] = []
    whole = train(tmp_path / "whole")
    assert said == [f"training the critic ({part} of 4 parts done)" for part in range(4)]
    forget_parts(tmp_path / "aside")
    from trainer.packing.training_run import Run

    saves, save = [], Run.save

    def killed(run: Run) -> Path:
        saves.append(run.epoch)
        if len(saves) == 3:
            raise Killed
        return save(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "save", killed)
        with pytest.raises(Killed):
            train(tmp_path / "cut")
        saves += [0]
        cut = train(tmp_path / "cut")
    assert saves == [1, 2, 3, 0, 3, 4]
    assert all(np.array_equal(whole[key], cut[key]) for key in whole)


def test_what_was_trained_is_kept_until_the_probe_is_there_and_no_longer(study: Study, home: Path) -> None:
    base, encoder, cache = load_base(DEMO / "base"), load_encoder(str(DEMO / "clip")), home / "cache"

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.probe.build_probe.calibrate", killed)
        with pytest.raises(Killed):
            open_probe(study, base, cache, encoder, None)
    (cache / "critic-of-other-steps" / "checkpoints").mkdir(parents=True)
    said: list[str] = []
    open_probe(study, base, cache, encoder, None, said.append)
    assert said == ["building the probe"]
    assert not list(cache.glob("critic-*"))


def test_it_reads_the_same_wherever_it_was_trained(write_study: StudyWriter, data: Path, tmp_path: Path) -> None:
    """Also a single image, which a CPU may convolve in two ways."""
    image = {"seeds": 1, "steps": 1, "trained": 0, "heldout": 0, "contexts": ["{trigger} {class}, snow"]}
    score = SCORE | {"probe": image, "critic": {"steps": 4, "levels": 1}, "precision": "fp32"}
    nothing = LoraWeights({}, "sd15")

    def read(name: str) -> list[float]:
        study = load_study(write_study(base=str(DEMO / "base"), data=str(data), study=name, score=score))
        probe = opened(study, tmp_path / "runs" / name)
        found = (probe.base_readings, probe.read(nothing, epoch=1, effort=1.0)[0])
        return [readings.channels["recognised"].value for readings in found]

    first = read("first")
    assert read("first") == first
    assert read("second") == first


def test_a_training_that_blows_up_is_told_by_its_key(study: Study, home: Path) -> None:
    base = load_base(DEMO / "base")
    base.denoiser.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(TrainerError, match=r"^score\.critic: it cannot be trained \(the loss became NaN.*steps: 0"):
        open_probe(study, base, home / "cache", load_encoder(str(DEMO / "clip")), None)


def test_a_second_worker_waits_as_long_as_the_first_one_builds(study: Study, home: Path) -> None:
    home.mkdir(parents=True)
    first = FileLock(home / ".probe.lock", thread_local=False)
    first.acquire()
    said: list[str] = []

    def say(what: str) -> None:
        said.append(what)
        if said.count("waiting for the probe") == 2:
            first.release()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.probe.probe._WAITING_SECONDS", 0.0)
        open_probe(study, load_base(DEMO / "base"), home / "cache", load_encoder(str(DEMO / "clip")), None, say)
    assert said[:3] == ["waiting for the probe", "waiting for the probe", "training the critic (0 of 4 parts done)"]


def test_a_study_beside_it_takes_the_critic_of_the_same_photos(
    write_study: StudyWriter, study: Study, data: Path, tmp_path: Path
) -> None:
    base, encoder = load_base(DEMO / "base"), load_encoder(str(DEMO / "clip"))

    def critic_of(name: str, **changes: object) -> tuple[list[str], dict[tuple[str, str], np.ndarray]]:
        settings: dict[str, object] = {"train": {"resolution": 64, "batch_size": 2}, "score": SCORE, **changes}
        other = load_study(write_study(base=str(DEMO / "base"), data=str(data), study=name, **settings))
        said: list[str] = []
        cache = tmp_path / "runs" / name / "cache"
        probe = open_probe(other, base, cache, encoder, None, said.append)
        return [line for line in (*said, *probe.notices) if "critic" in line], weights(cache / "probe" / CRITIC_FILE)

    trained, first = critic_of("first")
    assert len(trained) == 4
    longer = SCORE | {"probe": SCORE["probe"] | {"contexts": ["{trigger} {class}, sea"]}}
    said, taken = critic_of("other-prompts", score=longer)
    assert said == ["the critic is the one that the study first has trained"]
    assert all(np.array_equal(taken[key], first[key]) for key in first)
    (tmp_path / "runs" / "first" / "cache" / "probe" / "probe.json").unlink()
    assert critic_of("first")[0] == []  # its own

    assert len(critic_of("no-reuse", budget={"trials": 2, "reuse": False})[0]) == 4
    assert len(critic_of("other-seed", seed=5)[0]) == 4
    assert len(critic_of("other-photos", score=SCORE | {"holdout": 3})[0]) == 4
    assert len(critic_of("longer", score=SCORE | {"critic": {"steps": 16}})[0]) == 4

    for file in (tmp_path / "runs").glob("*/cache/probe/" + CRITIC_FILE):
        damage.flip(file)
    again, found = critic_of("after-damage")
    assert len(again) == 4
    assert all(np.array_equal(found[key], first[key]) for key in first)

    def deleted(file: Path) -> dict[str, str]:
        raise FileNotFoundError(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.probe.critic.read_metadata", deleted)  # between two looks at it
        assert len(critic_of("while-others-are-deleted")[0]) == 4


def test_it_is_trained_as_the_study_trains_but_by_settings_of_its_own() -> None:
    config = parse_train_config(
        {
            "base": "b", "data": "d", "resolution": 96, "batch_size": 3, "trigger": "sks", "class_word": "cat",
            "optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor", "epochs": 40, "rank": 64,
            "alpha_ratio": 0.25, "dora": True, "conv_rank": 4, "train_text_encoder": True, "precision": "bf16",
            "clip_skip": 2, "seed": 5, "caption_dropout": 0.1,
        }
    )  # fmt: skip
    own = critic_config(config, 10)
    assert {name: getattr(own, name) for name in SHARED} == {name: getattr(config, name) for name in SHARED}
    assert (own.optimizer, own.lr_scheduler, own.rank, own.effective_alpha) == ("Prodigy", "cosine", 8, 8)
    assert (own.epochs, own.steps_per_epoch) == (4, 3)
    assert not any((own.dora, own.conv_rank, own.train_text_encoder, own.relative_step))


def test_a_study_without_one_means_what_it_meant_before(write_study: StudyWriter, study: Study, data: Path) -> None:
    train = {"resolution": 64, "batch_size": 2}
    without = {name: value for name, value in SCORE.items() if name != "critic"}
    plain = load_study(write_study(base=str(DEMO / "base"), data=str(data), train=train, score=without))
    assert not [key for key in plain.meaning if "critic" in key]
    assert study.probe_digest != plain.probe_digest
    own = {key: value for key, value in study.meaning.items() if "critic" in key}
    assert own == {"score.critic.draws": 1, "score.critic.levels": 3, "score.critic.steps": 12}


@pytest.mark.parametrize("gain", [-1.0, float("nan"), float("inf")])
def test_a_critic_that_has_learned_nothing_is_told(study: Study, home: Path, gain: float) -> None:
    def gains(self: Critic, images: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
        return np.full(len(images), gain)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Critic, "gains", gains)
        probe = opened(study, home)
    assert probe.calibration.critic == 0
    assert any("critic has learned nothing" in notice for notice in probe.notices)
    assert np.isfinite(probe.base_readings.items["recognised"]).all()


def test_where_it_has_learned_nothing_the_encoder_says(study: Study, probe: Probe, tmp_path: Path) -> None:
    unlearned = replace(probe, calibration=replace(probe.calibration, critic=0.0))
    plain = replace(unlearned, critic=None)
    nothing = LoraWeights({}, probe.base.family.name)
    first, second = (each.read(nothing, epoch=1, effort=1.0)[0] for each in (unlearned, plain))
    np.testing.assert_array_equal(first.items["recognised"], second.items["recognised"])
    assert not np.array_equal(
        first.items["recognised"], probe.read(nothing, epoch=1, effort=1.0)[0].items["recognised"]
    )
