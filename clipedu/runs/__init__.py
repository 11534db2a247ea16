"""A run's folder: what is kept of a run, written and read."""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Run": "run",
        "load_run": "folders",
        "new_run": "folders",
        "find_runs": "folders",
    },
)
