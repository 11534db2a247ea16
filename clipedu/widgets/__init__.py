"""Labs of the notebooks, the only package that imports ipywidgets."""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "TrainingLab": "training",
        "LossLab": "losses",
        "GeometryLab": "geometry",
        "MaskLab": "masks",
        "NormLab": "norms",
        "OptimizerLab": "optimizers",
        "slider_check": "controls",
    },
)
