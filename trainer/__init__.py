"""One base model, many LoRA runs: training, checkpoints, sampling."""

import logging
import os

# bitsandbytes warns at import about a CPU kernel for 4-bit inference, whoever imports it (peft and diffusers do)
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

# before torch is loaded: its threads wait for each other in turns of the processor, which other programs on the same
# cores then do not get (benchmarks/shared_cores.py)
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
