"""LoRA weights: adapters, kohya's file, its metadata, and merging into the base."""
