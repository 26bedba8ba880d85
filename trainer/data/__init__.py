"""Photos and captions: which files are read, their pixels, their buckets, and what is cached of them."""
