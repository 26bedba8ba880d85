"""Looks for the LoRA settings worth a production run: what to try next, when to stop, what to keep."""
