"""The demo world: scenes without end, a tiny Stable Diffusion and a tiny CLIP trained on them, a set of photos."""
