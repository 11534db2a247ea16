"""One run from start to report: fit, resume, score."""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "blend_line": "blending",
        "blend_soup": "soups",
        "fit": "pipeline",
        "fit_heads": "heads",
        "HeadRun": "head_run",
        "inspect_model": "inspection",
        "inspect_opened": "inspection",
        "open_model": "opening",
        "resume": "pipeline",
        "score": "scoring",
    },
)
