"""From embeddings to scores: retrieval, zero-shot, probes and more."""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "evaluate": "scoring",
        "average": "scoring",
        "retrieval": "recall",
        "zero_shot": "recall",
        "embed_space": "embedding_space",
        "hierarchy_scores": "hierarchy",
        "foil_scores": "foils",
        "probe_scores": "few_shot",
        "calibration_error": "calibration",
        "calibrate_zero_shot": "calibration",
        "corruption_scores": "robustness",
        "stitched_retrieval": "relative",
    },
)
