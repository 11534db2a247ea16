"""Figures: data in, matplotlib `Figure` out, one module a subject.

The figures of runs can be imported from here.
"""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "plot_curves": "training",
        "plot_grid": "training",
        "plot_loss": "training",
        "plot_norms": "training",
        "plot_watched": "training",
        "plot_validation": "validation",
        "plot_embedding_map": "embeddings",
        "plot_similarity": "embeddings",
    },
)
