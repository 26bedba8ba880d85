"""Image files: which files are images, their pixels, and what a sample says of itself."""
