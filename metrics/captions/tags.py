"""Captions taken apart into tags, and which tags stand in each other's place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_SEPARATORS = re.compile("[,;、，]")
_COVERED = 0.8  # of the captions say one tag of a group: that is what makes it one


@dataclass(frozen=True)
class TagTable:
    """Which caption says which tag.

    Attributes:
        captions: as they were written.
        tags: as they were first written, in the order of first appearance; without the words for the subject.
        says: boolean `[N, T]`.
    """

    captions: tuple[str, ...]
    tags: tuple[str, ...]
    says: np.ndarray

    @cached_property
    def counts(self) -> np.ndarray:
        """Captions that say each tag: `[T]`."""
        return self.says.sum(axis=0)

    @cached_property
    def everywhere(self) -> list[int]:
        """Columns of tags that all captions say (of two or more): they always come with the trigger."""
        return np.flatnonzero(self.counts == len(self.captions)).tolist() if len(self.captions) > 1 else []

    @cached_property
    def once(self) -> list[int]:
        """Columns of tags that one caption says."""
        return np.flatnonzero(self.counts == 1).tolist() if len(self.captions) > 2 else []

    @cached_property
    def groups(self) -> list[list[int]]:
        """Columns of tags that stand in each other's place, such as the places; each group in falling order of use.

        No caption says two of them, and most captions say one. Groups are found greedily from the tag used most.
        """
        together = self.says.T.astype(int) @ self.says.astype(int) > 0
        order = sorted(range(len(self.tags)), key=lambda tag: (-self.counts[tag], tag))
        free, found = [tag for tag in order if tag not in self.everywhere], list[list[int]]()
        for first in order:
            if first not in free:
                continue
            group = [first]
            for tag in free:
                if tag != first and not together[tag, group].any():
                    group.append(tag)
            if len(group) > 1 and self.says[:, group].any(axis=1).mean() >= _COVERED:
                found.append(group)
                free = [tag for tag in free if tag not in group]
        return found

    def said(self, group: Sequence[int]) -> np.ndarray:
        """Which tag of a group each caption says, as its place in the group: `[N]`, -1 for none."""
        says = self.says[:, list(group)]
        return np.where(says.any(axis=1), says.argmax(axis=1), -1)

    def with_tag(self, row: int, group: Sequence[int], tag: int) -> str:
        """The caption of a photo with this tag in the place of the one of the group that it says, else at its end."""
        known = {_key(self.tags[other]) for other in group}
        parts, placed = [], False
        for part in _parts(self.captions[row]):
            if _key(part) in known:
                if not placed:
                    parts.append(self.tags[tag])
                placed = True
            else:
                parts.append(part)
        return ", ".join(parts if placed else [*parts, self.tags[tag]])

    def without(self, row: int, tag: int) -> str:
        """The caption of a photo without a tag."""
        return ", ".join(part for part in _parts(self.captions[row]) if _key(part) != _key(self.tags[tag]))


def tag_table(captions: Sequence[str], trigger: str = "", class_word: str = "") -> TagTable:
    """Captions as lists of tags: what stands between commas.

    What names the trigger, or is the class word alone, is the subject and no tag. Case and spaces do not count.

    >>> table = tag_table(["sks dog, beach", "sks dog, Beach , night"], "sks", "dog")
    >>> table.tags, table.says.tolist()
    (('beach', 'night'), [[True, False], [True, True]])
    >>> [table.tags[tag] for tag in table.everywhere], table.without(1, 0)
    (['beach'], 'sks dog, night')
    """
    names: dict[str, str] = {}
    rows = []
    for caption in captions:
        own = [part for part in _parts(caption) if not _is_subject(part, trigger, class_word)]
        for part in own:
            names.setdefault(_key(part), part)
        rows.append({_key(part) for part in own})
    says = np.array([[key in row for key in names] for row in rows], bool).reshape(len(rows), len(names))
    return TagTable(tuple(captions), tuple(names.values()), says)


def _parts(caption: str) -> list[str]:
    return [" ".join(part.split()) for part in _SEPARATORS.split(caption) if part.strip()]


def _key(part: str) -> str:
    return part.casefold()


def _is_subject(part: str, trigger: str, class_word: str) -> bool:
    words = _key(part)
    if class_word and words == _key(class_word):
        return True
    return bool(trigger) and re.search(rf"(?<!\w){re.escape(_key(trigger))}(?!\w)", words) is not None
