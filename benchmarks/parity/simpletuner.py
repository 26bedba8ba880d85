"""SimpleTuner: what its own code saves of a LoRA, and reads of our exports."""

from functools import partial

from benchmarks.parity import saved_files

run = partial(saved_files.run, "simpletuner")
