"""Photos to train on, by themselves: repeats, sharpness, exposure, and photos that are unlike all others."""
