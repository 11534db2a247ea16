"""One run from start to report: fit, resume, score."""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "fit": "pipeline",
        "fit_heads": "heads",
        "HeadRun": "head_run",
        "resume": "pipeline",
        "score": "scoring",
    },
)
