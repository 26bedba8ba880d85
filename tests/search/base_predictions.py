"""Traits of bases that need not be there."""

from trainer.families.prediction import BaseTraits


def traits(
    family: str = "sd15", *, velocity: bool = False, zero_terminal: bool = False, v2: bool = False
) -> BaseTraits:
    """What `describe_base` says of a diffusers folder of this kind."""
    predicts = "flow" if family == "sd3" else "v_prediction" if velocity else "epsilon"
    return BaseTraits(family, predicts, zero_terminal, v2, False)
