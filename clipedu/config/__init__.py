"""`Experiment`, which describes a run, its presets and command line, and the course's table of results."""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Experiment": "experiment",
        "PRESETS": "presets",
        "Preset": "presets",
    },
)
