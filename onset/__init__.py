"""The command `onset`, which brings all others under one name."""

__version__ = "0.1.0"
