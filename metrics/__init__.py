"""Images and numbers in, calibrated readings and the onset of overfitting out."""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # as in trainer: threads wait briefly, and others on these cores get on
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
