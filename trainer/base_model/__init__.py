"""The base model: loaded once, quantised, told apart from others by its fingerprint."""
