"""What a data check found: `data_check.json`, read and written here alone. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from search.errors import DamagedError, VersionError, problem
from search.record.json_files import checked, read_if_whole, read_json, write_json
from search.record.record import StudyFolder

VERSION = 1
DATA_CHECK_FILE = "data_check.json"
DATA_CHECK_PAGE = "data_check.html"

Kind = Literal[
    "repeated",
    "blurred",
    "overexposed",
    "underexposed",
    "small",
    "other_subject",
    "other_colours",
    "wrong_tag",
    "missing_tag",
    "wrong_caption",
    "tag_everywhere",
    "tag_once",
    "tag_absorbed",
    "tag_lost",
    "tag_unknown_to_base",
    "colours_scatter",
    "framing_off",
    "pulls_drawings",
    "memorised_first",
    "never_fitted",
]
Action = Literal["replace", "keep_one", "retag", "reword", "know"]
"""What a person should do: replace the photo, keep one of these, correct the caption, think about the wording, or only
know it."""


@dataclass(frozen=True)
class Evidence:
    """A figure that a finding rests on.

    Attributes:
        name: what it is, in words.
        value: the figure.
        low, high: its interval, None where it has none.
        usual: what the other photos (or tags, or chance) have, None where there is no such thing.
        usual_is: what that is, in words.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    usual: float | None = None
    usual_is: str = "the other photos"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        photos: files in `data`, with slashes; of "repeated" those that are one photo, the one to keep first.
        tag: of findings about a tag, as it was written; "" otherwise.
        shown: the tag that the image shows instead, "" where that is not known.
        proposed: the caption that is proposed for each of `photos`; empty where none is.
    """

    kind: Kind
    action: Action
    photos: tuple[str, ...] = ()
    tag: str = ""
    shown: str = ""
    evidence: tuple[Evidence, ...] = ()
    proposed: tuple[str, ...] = ()

    @property
    def needs_change(self) -> bool:
        """Whether photos or captions should change before a longer training."""
        return self.action in ("replace", "keep_one", "retag")


@dataclass(frozen=True)
class TagEffect:
    """What a tag does in drawings, from pairs drawn with and without it under the same seeds.

    Attributes:
        effect: how far the drawing goes towards the tag when the prompt says it, with the LoRA; 1 is what the base does
            on average over all tags. `low` and `high`: its 95 % interval.
        base: the same for the base, with its interval `base_low`, `base_high`.
        always: how far drawings that do not ask for the tag went towards it by the LoRA alone.
        chance: the share of such effects that chance gives, after Benjamini and Hochberg over all tags.
        verdict: what that means.
    """

    tag: str
    effect: float
    low: float
    high: float
    base: float
    base_low: float
    base_high: float
    always: float
    always_low: float
    always_high: float
    chance: float
    verdict: Literal["reflected", "unknown to the base", "lost", "absorbed", "ambiguous"]


@dataclass(frozen=True)
class DataCheck:
    """What was found of a set of photos.

    Attributes:
        study: its name.
        dataset: digest of photos and captions.
        photos: number of photos, regularisation images not counted.
        different: how many different ones they come to (`metrics.photo_set.repeats.effective_number`).
        rank, chance: mean rank of the captions for their own images among all captions, and what chance gives; None
            where no encoder of texts looked at them, or all captions are the same.
        findings: the most serious ones first.
        tags: what each tag does in drawings; empty where none were drawn.
        unlooked: what was not looked at, and why, one sentence each.
        trained: whether drawings of a trained LoRA were looked at.
        page: the page that tells all this, beside the file.
    """

    study: str
    dataset: str
    photos: int
    different: float
    rank: float | None = None
    chance: float | None = None
    findings: tuple[Finding, ...] = ()
    tags: tuple[TagEffect, ...] = ()
    unlooked: tuple[str, ...] = ()
    trained: bool = False
    page: str = DATA_CHECK_PAGE
    version: int = VERSION

    @property
    def needs_changes(self) -> bool:
        """Whether a person should change photos or captions before training goes on."""
        return any(finding.needs_change for finding in self.findings)

    @property
    def captions(self) -> dict[str, str]:
        """The captions that are proposed, by photo; of several for one photo the last one, which has all of them."""
        return {
            photo: caption
            for finding in self.findings
            for photo, caption in zip(finding.photos, finding.proposed, strict=bool(finding.proposed))
        }

    @classmethod
    def of(cls, folder: StudyFolder) -> DataCheck | None:
        """What a study's training found; None where it is no data check, or has not looked yet."""
        if not (folder.path / DATA_CHECK_FILE).is_file():
            return None
        try:
            check = cls.load(folder.path)
        except DamagedError:
            return None
        return check if check.trained and (folder.path / check.page).is_file() else None

    def save(self, folder: Path) -> Path:
        """Write `data_check.json` into a study's folder; returns its path."""
        path = folder / DATA_CHECK_FILE
        write_json(path, {"version": VERSION, "needs_changes": self.needs_changes, **asdict(self)})
        return path

    @classmethod
    def load(cls, folder: Path) -> DataCheck:
        """Read `data_check.json` of a study's folder; names that this version does not know are left out.

        Raises:
            DamagedError: it is not there, or no data check.
            VersionError: a later version of Onset wrote it, in another form.
        """
        path = folder / DATA_CHECK_FILE
        try:
            values: Any = read_json(path)
            version = values.get("version", 1) if isinstance(values, dict) else 1
            if isinstance(version, int) and version > VERSION:
                why = "a later version of Onset wrote this data check: read it with that one"
                raise VersionError([problem(path, "version", version, f"at most {VERSION}", why)])
            return checked(cls, values)
        except (OSError, ValueError) as error:
            raise DamagedError(f"{path}: damaged or missing: python -m search.data_check writes it again") from error


@dataclass(frozen=True)
class _Checked:
    needs_changes: bool = False
    page: str = DATA_CHECK_FILE


def why_to_stop(folder: StudyFolder) -> Path | None:
    """The page that says which photos or captions should change; None where none should, or nothing was checked."""
    found = read_if_whole(_Checked, folder.path / DATA_CHECK_FILE)
    return folder.path / found.page if found is not None and found.needs_changes else None
