"""A checkpoint against the photos: encoders, the calibration of a study, and the readings with their score."""
