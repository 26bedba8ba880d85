"""Optuna: the study's database, sampler, pruner and importances."""
