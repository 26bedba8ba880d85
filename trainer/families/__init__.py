"""Model families: one file each; a new family is one file and one line here."""

from __future__ import annotations

from trainer.families.family import Base, Family
from trainer.families.sd3 import FAMILY as SD3
from trainer.families.sd15 import FAMILY as SD15
from trainer.families.sdxl import FAMILY as SDXL

FAMILIES: dict[str, Family] = {"sd15": SD15, "sdxl": SDXL, "sd3": SD3}

__all__ = ["FAMILIES", "Base", "Family"]
