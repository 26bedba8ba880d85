"""The onset of anybody's table of losses: which columns and rows of a trainer's log are a validation."""
