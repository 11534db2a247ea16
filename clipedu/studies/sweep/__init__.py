"""Sweeps: settings tried on pairs held out of training, with Optuna.

The best setting of each variant is trained on all training pairs, and scored.
"""
