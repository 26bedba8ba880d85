"""The data check: which photos and captions to change, and why, before and after a short training."""
