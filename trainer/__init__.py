"""One base model, many LoRA runs: training, checkpoints, sampling, delivery."""
