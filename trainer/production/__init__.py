"""A production run: its file, its folder, its progress."""
