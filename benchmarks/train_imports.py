"""What every layout of the training benchmark imports, loaded once before its processes are forked."""

import diffusers
import peft
import torchvision.transforms
import transformers
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

import trainer.base_model.load
import trainer.lora.kohya_file
import trainer.packing.pack

__all__ = [
    "AutoencoderKL",
    "CLIPTextModel",
    "CLIPTokenizer",
    "DDPMScheduler",
    "UNet2DConditionModel",
    "diffusers",
    "peft",
    "torchvision",
    "trainer",
    "transformers",
]
