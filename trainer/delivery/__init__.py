"""A LoRA file before it is passed on: looked over, cleaned, its blocks weighted, its rank reduced."""
