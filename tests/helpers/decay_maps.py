"""Runs of `clipedu compare decoupling` with planted scores."""

import math
from types import SimpleNamespace

import numpy as np

from clipedu.config.experiment import Experiment
from clipedu.studies.decay_maps import DECAYS, RATES
from clipedu.studies.decoupling import COMPARISON

BASE = Experiment(train_size=200, batch_size=50, holdout=0.25)


def run_of(name, seed, score, **changes):
    settings = COMPARISON.variants.get(name, {})
    experiment = BASE.replace(**{**settings, **changes, "seed": seed})
    metrics = {} if math.isnan(score) else {"tr@1": score, "ir@1": score, "average": score}
    status = "failed" if math.isnan(score) else "finished"
    return SimpleNamespace(name=f"{name}-seed{seed}", experiment=experiment, metrics=metrics, status=status)


def planted(seeds=(0, 1, 2), optimizers=tuple(RATES), noise=0.2):
    """A map of each optimizer: a box along the axes where decay is decoupled, a band along lr x decay where it is not."""
    random, runs = np.random.default_rng(3), []
    for seed in seeds:
        for optimizer in optimizers:
            x, y = (np.log10(values) - np.log10(values).mean() for values in (RATES[optimizer], DECAYS[optimizer]))
            for i, lr in enumerate(RATES[optimizer]):
                for j, decay in enumerate(DECAYS[optimizer]):
                    off = (
                        x[i] ** 2 + (y[j] / 2) ** 2
                        if optimizer.endswith("w")
                        else 4 * (x[i] + y[j] / 2) ** 2 + 0.1 * x[i] ** 2
                    )
                    score = 30 * math.exp(-off) + noise * random.standard_normal() + 2 * optimizer.endswith("w")
                    runs.append(run_of(f"{optimizer}+lr{lr:g}+decay{decay:g}", seed, score))
    return runs
