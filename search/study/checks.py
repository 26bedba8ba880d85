"""What a study file says, held against what is there: names, prompts, encoders, photos and masks, without torch."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from metrics.checkpoint.encoder_names import why_no_encoder
from metrics.errors import MetricsError
from metrics.subjects.prompt_template import strange_braces
from metrics.trajectory.readings import WEIGHTED
from search.errors import StudyError, problem, unknown_problem
from search.study.input_digests import PhotoMark, photo_marks
from search.study.mask_files import mask_digests, masks_digest
from search.study.settings import FinalistsSection, SamplerSection, ScoreSection, TrackSection, WorkersSection
from search.study.space import Space
from search.study.space_values import size, why_not_given
from search.study.split import in_contexts
from search.study.study_file import StudyFile
from trainer.config.sources import why_no_file_name
from trainer.errors import DataError, nearest

MASKS = ("auto", "alpha", "segmentation", "attention", "saliency", "none")


def beside(file: StudyFile, key: str, value: str) -> str:
    """A folder beside the file in which the key stands, as an absolute path; any other value as it is."""
    parent = file.file_of(key).parent
    return str((parent / value).resolve()) if is_folder(parent, value) else value


def is_folder(parent: Path, value: str) -> bool:
    """Whether a value names a folder that is there, seen from `parent`."""
    try:
        return bool(value) and (parent / value).is_dir()
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False


def check_sampler(file: StudyFile, sampler: SamplerSection, space: Space) -> list[str]:
    """What is wrong with the sampler and with what it starts with, as far as the search space tells it."""
    problems = []
    for place, fields in enumerate(sampler.start_with):
        if (wrong := why_not_given(space, fields)) is not None:
            field, expected = wrong
            problems.append(problem(file, f"sampler.start_with[{place}].{field}", fields[field], expected))
    if sampler.name == "grid" and size(space) is None:
        why = "a range without step holds any number of them"
        problems.append(problem(file, "sampler.name", "grid", "a search of at most 4096 configurations", why))
    if sampler.learn_from and sampler.name != "tpe":
        why = f"sampler.name {sampler.name} does not learn from them; tpe does"
        problems.append(problem(file, "sampler.learn_from", sampler.learn_from, "nothing", why))
    for place, name in enumerate(sampler.learn_from):
        if (unfit := why_no_file_name(name)) is not None:
            problems.append(problem(file, f"sampler.learn_from[{place}]", name, unfit))
    if sampler.name == "cmaes" and importlib.util.find_spec("cmaes") is None:
        problems.append(problem(file, "sampler.name", "cmaes", "a sampler that is installed", "pip install cmaes"))
    return problems


def check_workers(file: StudyFile, workers: WorkersSection) -> list[str]:
    """What is wrong with where the workers are placed, as far as the file alone tells it."""
    said = file.values.get("workers") or {}
    problems = [
        problem(file, f"workers.{kind}.{key}", value, "nothing", f"workers.kind is {workers.kind}")
        for kind in ("ray", "slurm")
        if kind != workers.kind
        for key, value in (said.get(kind) or {}).items()
    ]
    if workers.kind != "local" and workers.device.startswith("cuda:"):
        why = f"{workers.kind.capitalize()} gives each worker a GPU"
        problems.append(problem(file, "workers.device", workers.device, "auto, cpu or cuda", why))
    return problems


def check_score(file: StudyFile, score: ScoreSection) -> list[str]:
    """What is wrong with the scoring that each field alone cannot tell, one line each."""
    problems = [
        unknown_problem(file, f"score.weights.{channel}", WEIGHTED)
        for channel in score.weights
        if channel not in WEIGHTED
    ]
    masks = score.shifted.masks
    if masks not in MASKS and not is_folder(file.file_of("score.shifted.masks").parent, masks):
        problems.append(
            problem(
                file, "score.shifted.masks", masks, f"{', '.join(MASKS)}, or a folder of masks{nearest(masks, MASKS)}"
            )
        )
    segmenter = score.shifted.segmenter
    if (masks == "segmentation" and segmenter is None) or (segmenter is not None and not segmenter.strip()):
        problems.append(
            problem(
                file, "score.shifted.segmenter", segmenter, "a model's name with masks: segmentation, and with it alone"
            )
        )
    problems += _wrong_templates(file, "score.probe.contexts", score.probe.contexts)
    words = (*_SUBJECT, "context", "position", "size")
    problems += _wrong_template(file, "score.shifted.caption", score.shifted.caption, words)
    for i, context in enumerate(score.shifted.contexts):
        if set(context) & set("{}") or not context.strip() or "\n" in context.strip():
            allowed = "text without braces, in one line: an empty place, without a subject"
            problems.append(problem(file, f"score.shifted.contexts[{i}]", context, allowed))
    for key, spec in (("encoder", score.encoder), ("identity_encoder", score.identity_encoder)):
        if spec is not None and (why := why_no_encoder(beside(file, f"score.{key}", spec))) is not None:
            problems.append(problem(file, f"score.{key}", spec, why))
    return list(dict.fromkeys(problems))


def check_finalists(file: StudyFile, finalists: FinalistsSection, searches: bool) -> list[str]:
    """What is wrong with the section `finalists`; `searches`: whether the study does, so that there can be any."""
    if not searches and file.values.get("finalists") is not None and file.file_of("finalists") == file.path:
        return [problem(file, "finalists", "a section", "nothing", "only a search has finalists")]
    return _wrong_templates(file, "finalists.contexts", finalists.contexts or ())


def check_objective(file: StudyFile, score: ScoreSection, searches: bool) -> list[str]:
    """What is wrong with an objective of one's own, as far as the kind of study tells it; `searches`: whether it
    does."""
    if not searches and score.objective is not None and file.file_of("score.objective") == file.path:
        return [problem(file, "score.objective", score.objective, "nothing", "only a search chooses by a score")]
    return []


def check_track(file: StudyFile, track: TrackSection) -> list[str]:
    """What is wrong with the section `track`: a tracker that is not installed, a folder that cannot be one."""
    name, problems = track.log_with, list[str]()
    if name is not None and importlib.util.find_spec(name) is None:
        how = {"tensorboard": "pip install -e '.[tables]'", "wandb": "pip install wandb"}[name]
        problems.append(problem(file, "track.log_with", name, "a tracker that is installed", how))
    if track.logging_dir is not None:
        try:
            there = file.file_of("track.logging_dir").parent / track.logging_dir
            fits = there.is_dir() or not there.exists()
        except (OSError, ValueError):  # too long for a path, or with a NUL
            fits = False
        if not fits:
            problems.append(problem(file, "track.logging_dir", track.logging_dir, "a folder, or a place for a new one"))
    return problems


_SUBJECT = ("trigger", "class")


def _wrong_templates(file: StudyFile, key: str, templates: Sequence[str]) -> list[str]:
    return [
        line
        for i, template in enumerate(templates)
        for line in _wrong_template(file, f"{key}[{i}]", template, _SUBJECT)
    ]


def _wrong_template(file: StudyFile, key: str, template: str, names: Sequence[str]) -> list[str]:
    if strange_braces(template, names):
        said = ", ".join(f"{{{name}}}" for name in names)
        return [problem(file, key, template, f"text with only {said} in braces")]
    if not template.strip() or "\n" in template.strip():
        return [problem(file, key, template, "words in one line")]
    return []


@dataclass(frozen=True)
class Seen:
    """The photos and masks of a study, without their pixels; as `Study` has them."""

    dataset: str
    mask_files: str | None
    photos: tuple[PhotoMark, ...]
    masks_of: Mapping[str, str]
    subject: tuple[str, str]
    warnings: tuple[str, ...]


def scan(file: StudyFile, data: str, reg_data: str | None, score: ScoreSection, twins: int = 0) -> Seen:
    """Look at the photos, and at their masks where these are a folder. `twins`: that each leave out some of them.

    Raises:
        StudyError: photos, held-out contexts or masks that cannot be used, one line each.
    """
    from trainer.data.dataset import scan_dataset

    try:
        dataset = scan_dataset(data, reg_data=reg_data)
    except DataError as error:
        told = str(error).split("\n")
        raise StudyError([problem(file, "data", data, "a folder of photos to train on", why) for why in told]) from None
    captions = [photo.caption for photo in dataset.photos if not photo.is_reg]
    if len(captions) < 2:
        raise StudyError([problem(file, "data", data, "two photos or more", "there is one")])
    unsaid = [
        problem(file, f"score.holdout_contexts[{i}]", words, "words that captions say", "no caption has them")
        for i, words in enumerate(score.holdout_contexts)
        if not words.strip() or not in_contexts(captions, [words])
    ]
    if unsaid:
        raise StudyError(unsaid)
    apart = len(in_contexts(captions, score.holdout_contexts))
    most = len(captions) - 2 - apart
    there = f"there are {len(captions)} photos" + (f", {apart} of them in holdout_contexts" if apart else "")
    words = ", ".join(score.holdout_contexts)
    if apart == 1:
        raise StudyError([problem(file, "score.holdout_contexts", words, "words of two photos", "one has them")])
    if apart and most < 0:
        raise StudyError([problem(file, "score.holdout_contexts", words, "contexts that leave two photos", there)])
    if score.holdout > most:
        raise StudyError([problem(file, "score.holdout", score.holdout, f"at most {max(0, most)}", there)])
    trained = len(captions) - apart - score.holdout
    if twins > trained:
        why = f"{there}, {trained} of them to train on"
        raise StudyError(
            [problem(file, "finalists.twins", twins, f"at most {trained}, so that each leaves one out", why)]
        )
    first = dataset.photos[0]  # of the training photos, which stand first
    subject = (first.trigger or "", first.class_word or "")
    marks = photo_marks(dataset.photos, data, reg_data)
    mask_files, masks_of = None, dict[str, str]()
    if score.shifted.composites and is_folder(file.file_of("score.shifted.masks").parent, score.shifted.masks):
        try:
            photos = [photo for photo in dataset.photos if not photo.is_reg]
            digests = mask_digests(beside(file, "score.shifted.masks", score.shifted.masks), photos)
            mask_files = masks_digest(photos, digests)
            named = zip(photo_marks(photos, data, reg_data), digests, strict=True)
            masks_of = {mark.file: digest for mark, digest in named if digest is not None}
        except MetricsError as error:
            given = score.shifted.masks
            raise StudyError([problem(file, "score.shifted.masks", given, "masks of the photos", str(error))]) from None
    return Seen(dataset.digest, mask_files, marks, masks_of, subject, tuple(dataset.warnings))
