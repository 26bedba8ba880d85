"""What workers import, imported once in the process that they are forked from (`search.running.workers.Team`): each of
them, and each one that replaces a lost one, is there in a few seconds instead of twenty.

Libraries that load models are left to the workers where there may be a GPU: bitsandbytes begins to use CUDA when it is
imported, and no process can use it that was forked from one that has.
"""

import contextlib
import gc
import warnings

from search.running.environment import may_have_gpu, variables
from search.running.with_parent import ending_with_starter

gc.disable()  # what is imported stays: looking through it again and again takes a fifth of the time
with ending_with_starter():
    import search.running.worker  # noqa: F401

    if not may_have_gpu():
        # an import that fails is told by the worker that needs it. bitsandbytes asks for torch.compile when it is
        # imported, for operations that a CPU never runs compiled, and that would load torch's compiler
        with variables({"TORCHDYNAMO_DISABLE": "1"}), warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            import diffusers.optimization  # noqa: F401
            import open_clip  # noqa: F401
            import peft  # noqa: F401
            from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # noqa: F401
            from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401
gc.freeze()  # nor do workers look through it, whose pages stay shared then
gc.enable()
