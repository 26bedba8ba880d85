"""What a checkpoint does: its images, its losses on given photos, where it looks."""
