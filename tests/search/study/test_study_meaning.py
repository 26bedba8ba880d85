"""What a study means: where its paths lie, what may change while it goes on, and what its probe hangs on."""

import shutil
from pathlib import Path

import pytest

from search.errors import StudyError
from search.study.study import load_study


def test_paths_are_seen_from_the_study_file_and_others_stay_as_they_are(write_study, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "lora.safetensors").touch()
    bases = ["other", "lora.safetensors", "me/on-the-hub"]
    study = load_study(write_study(track={"logging_dir": "logs/new"}, finalists={"transfer_bases": bases}))
    assert study.logging_dir == (tmp_path / "logs" / "new").resolve()
    assert study.transfer_bases == (*(str((tmp_path / base).resolve()) for base in bases[:2]), bases[2])
    assert study.encoder == str((tmp_path / "clip").resolve())
    assert (study.identity_encoder, study.masks) == (None, "auto")
    assert (load_study(write_study()).logging_dir, load_study(write_study()).transfer_bases) == (None, ())


def test_a_probe_is_the_same_whatever_its_folders_are_called_and_what_is_made_of_its_readings(
    write_study, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "clip", tmp_path / "elsewhere")
    plain = load_study(write_study())
    score = {"encoder": "clip", "holdout": 2}
    for changes in (
        {"score": {**score, "encoder": "elsewhere"}},
        {"score": {**score, "ship": "safe"}},
        {"stop": {"prune": False}},
        {"search": {"rank": {"values": [4, 16]}}},
    ):
        other = load_study(write_study(**changes))
        assert other.probe_digest == plain.probe_digest, changes
        assert other.digest != plain.digest
    others = ({"holdout": 3}, {"seed": 2}, {"identity_encoder": "clip"})
    for changes in (*({"score": {**score, **more}} for more in others), {"train": {"resolution": 128, "epochs": 4}}):
        assert load_study(write_study(**changes)).probe_digest != plain.probe_digest, changes
    assert load_study(write_study(budget={"trials": 9}, keep={"states": True})).digest == plain.digest, (
        "that may change"
    )


def test_a_probe_hangs_on_how_its_critic_is_trained_where_there_is_one(write_study) -> None:
    score = {"encoder": "clip", "holdout": 2}
    searched = {"rank": {"values": [4, 8]}}

    def digests(**changes) -> tuple[str, str]:
        """Without a critic, and with one."""
        critic = {**score, "critic": {"steps": 8}}
        return tuple(load_study(write_study(**changes, score=each)).probe_digest for each in (score, critic))

    train = {"resolution": 64, "epochs": 4, "save_every_n_epochs": 2}
    plain, plain_critic = digests(train=train, search=searched)
    for changes in (
        {"seed": 5},
        {"train": {**train, "batch_size": 2}},
        {"train": {**train, "flip": True}},
        {"search": {**searched, "batch_size": {"value": 2}}},
    ):
        without, with_critic = digests(**{"train": train, "search": searched, **changes})
        assert without == plain, changes
        assert with_critic != plain_critic, changes
    for batches in ({"values": [2, 4]}, {"values": [4, 2]}, {"min": 2, "max": 4}, {"min": 1, "max": 4}):
        buckets = {"bucket_step": {"values": [8, 16]}}
        of_trials = {**train, "enable_bucket": True, "min_bucket_resolution": 32}
        assert digests(train=train, search={**searched, "batch_size": batches})[1] == plain_critic, batches
        assert digests(train=of_trials, search={**searched, "batch_size": batches, **buckets})[1] == plain_critic


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("rank", "expected it under train or search, got"),
        ("network_dim", "expected it under train or search: rank, as network_dim is called here, got"),
        ("budgets", "(did you mean budget?)"),
        ("seeds", "(did you mean seed?)"),
    ],
)
def test_a_key_that_has_its_place_elsewhere_is_told_where(write_study, key: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write_study(**{key: 3}))
    (line,) = caught.value.problems
    assert f": {key}: " in line
    assert words in line
