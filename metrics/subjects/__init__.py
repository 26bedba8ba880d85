"""The subject of a photo: its mask, and pictures in which it was moved to other backgrounds."""
