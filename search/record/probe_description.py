"""What every checkpoint of a study is looked at with: `probe.json`, read and written here alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from search.record.json_files import digest_of, write_json

PROBE_FILE = "probe.json"
_SEAL = "sha256"


@dataclass(frozen=True)
class ProbeDescription:
    """The probe in words, for whoever shows its images or asks which photos were held out.

    Attributes:
        study, calibration: digest of the study's settings and version of the calibration that it was built by; "" and
            None in files that do not say.
        base: fingerprint of the base that drew its images; "" in files that do not say.
        prompts: drawn at each checkpoint, in the order of the pictures' rows.
        sets: of each prompt: "A" a trained caption, "B" a held-out one, "C" a context that the photos do not show;
            empty where a file does not say.
        photo: of each scored prompt, the photo whose caption it is; -1 for contexts.
        seeds: drawn of each prompt, in the order of the pictures' columns.
        size: (width, height) of an image in pixels.
        steps, guidance, scheduler, negative, clip_skip: how images are drawn.
        precision: "bf16" or "fp16" to draw and measure under autocast, None as the base is.
        trained, heldout, context: file names of the photos trained on, held out alone, held out with their context.
        repeats: file names of photos that are copies of others.
        photos: digest of each photo with its caption, in the order that all rows below count in.
        trained_rows, heldout_rows, context_rows: rows of the photos without regularisation images.
        shifted_captions: of the composites.
        notices: what the user was told as it was built.
        labels: `metrics.checkpoint.score.ProbeLabels`, one entry for each image.
    """

    study: str = ""
    calibration: int | None = None
    base: str = ""
    prompts: tuple[str, ...] = field(kw_only=True)
    sets: tuple[str, ...] = ()
    photo: tuple[int, ...] = ()
    seeds: tuple[int, ...] = field(kw_only=True)
    size: tuple[int, int] | None = None
    steps: int | None = None
    guidance: float | None = None
    scheduler: str = ""
    negative: str = ""
    clip_skip: int | None = None
    precision: str | None = None
    trained: tuple[str, ...] = ()
    heldout: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    repeats: tuple[str, ...] = ()
    photos: tuple[str, ...] = ()
    trained_rows: tuple[int, ...] = ()
    heldout_rows: tuple[int, ...] = ()
    context_rows: tuple[int, ...] = ()
    shifted_captions: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)

    @property
    def held_out(self) -> int:
        """Number of photos that are not trained on."""
        return len(self.heldout) + len(self.context)

    @property
    def first_new_context(self) -> int:
        """Row of the first prompt of a context that the photos do not show, where overfitting is seen first; 0 without
        one."""
        return self.sets.index("C") if "C" in self.sets else 0

    def with_added(self, prompts: tuple[str, ...]) -> ProbeDescription:
        """With prompts that were added after the start, the last of set C."""
        more = ("C",) * len(prompts) if self.sets else ()
        return replace(self, prompts=(*self.prompts, *prompts), sets=(*self.sets, *more))

    @classmethod
    def load(cls, path: Path) -> ProbeDescription:
        """Read a `probe.json`; names that this version does not know are left out.

        Raises:
            OSError: it is not there.
            ValueError: it is not the description of a probe.
        """
        return _adapter().validate_json(path.read_bytes())

    def save(self, path: Path) -> None:
        """Write it, with a digest that tells whether it is still as it was written."""
        plain = json.loads(json.dumps(asdict(self), default=lambda value: value.tolist()))
        write_json(path, {**plain, _SEAL: digest_of(plain)})


def is_sealed(path: Path) -> bool:
    """Whether a `probe.json` is as it was written; those that name no digest count as whole.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    plain = json.loads(path.read_bytes())
    return _SEAL not in plain or plain.pop(_SEAL) == digest_of(plain)


@cache
def _adapter() -> TypeAdapter[ProbeDescription]:
    return TypeAdapter(ProbeDescription)
