"""The demo world: a renderer without end, a tiny Stable Diffusion and a tiny CLIP trained on it, and a set of photos."""
