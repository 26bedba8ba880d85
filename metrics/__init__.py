"""Images and numbers in, calibrated readings and the onset of overfitting out."""
