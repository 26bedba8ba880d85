"""A folder of samples against a folder of photos: what drifts, what is copied, and photos that are one photo twice."""
