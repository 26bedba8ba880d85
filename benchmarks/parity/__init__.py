"""Our exports and files, held against the real tools' own code."""
