"""Captions as lists of tags: which tags say nothing, which contradict their image, what each tag stands for."""
