"""`Experiment`, presets, command line and the course's table."""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Experiment": "experiment",
        "PRESETS": "presets",
        "Preset": "presets",
    },
)
