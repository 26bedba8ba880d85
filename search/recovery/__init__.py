"""A study that goes on: whether it is the same one, and what a disk or a person did to its folder meanwhile."""
