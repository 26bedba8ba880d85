"""One base model, many LoRA runs: training, checkpoints, sampling."""

import logging

# bitsandbytes warns at import about a CPU kernel for 4-bit inference, whoever imports it (peft and diffusers do)
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
