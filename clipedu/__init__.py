"""clipedu: teach and analyse contrastive language-image pre-training.

An interactive, notebook-first kit for CLIP:

    import clipedu
    run = clipedu.fit(clipedu.Experiment(loss="cyclip"))
    run.metrics

Public names are imported on first use, so that `import clipedu` costs nothing and a bare GPU server needs no Jupyter.
"""

from __future__ import annotations

from clipedu.utils.lazy import lazy_exports

__version__ = "0.1.0"

_HOMES = {
    "ClipeduError": "utils.errors",
    "Experiment": "config.experiment",
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
    "fractal_mask": "models.fractal_mask",
    "attention_maps": "inference.attention",
    "token_norms": "inference.attention",
    "artifacts": "evaluation.token_artifacts",
    "adopt": "interop.adoption",
    "export": "exports.writing",
    "train": "training.setup",
    "start_from": "workflow.starting",
    "fit": "workflow.pipeline",
    "fit_heads": "workflow.heads",
    "resume": "workflow.pipeline",
    "evaluate": "evaluation.scoring",
    "Run": "runs.run",
    "load_run": "runs.folders",
    "sweep": "studies.sweep.run",
    "doctor": "utils.doctor",
}

__getattr__, __dir__, __all__ = lazy_exports(__name__, _HOMES)
