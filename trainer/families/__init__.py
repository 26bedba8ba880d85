"""Model families: one file each; a new family is one file and one line here."""

from __future__ import annotations

from trainer.families import sd3, sd15, sdxl
from trainer.families.family import Base, Family

FAMILIES: dict[str, Family] = {"sd15": sd15.FAMILY, "sdxl": sdxl.FAMILY, "sd3": sd3.FAMILY}

__all__ = ["FAMILIES", "Base", "Family"]
