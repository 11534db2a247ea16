"""clipedu: an interactive, notebook-first teaching and analysis kit for contrastive language-image pre-training (CLIP).

    import clipedu
    run = clipedu.fit(clipedu.Experiment(loss="cyclip"))
    run.metrics

Public names are imported on first use, so that `import clipedu` costs nothing and a bare GPU server needs no Jupyter.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOME = {
    "ClipeduError": "registry",
    "Experiment": "experiment",
    "load_pairs": "data.load",
    "build_geometry": "geometry",
    "GEOMETRIES": "geometry",
    "build_loss": "losses",
    "LOSSES": "losses",
    "LossOutput": "losses",
    "build_optimizer": "optim",
    "OPTIMIZERS": "optim",
    "DECAY_LAWS": "optim",
    "NormMonitor": "norms",
    "steady_state": "norms",
    "sandbox": "norms",
    "ENCODERS": "models",
    "build_model": "models",
    "fractal_mask": "models.fractal",
    "attention_maps": "attention",
    "token_norms": "attention",
    "train": "training",
    "fit": "workflow",
    "resume": "workflow",
    "evaluate": "evaluation",
    "Run": "runs",
    "load_run": "runs",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'clipedu' has no attribute {name!r}. Public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"clipedu.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
