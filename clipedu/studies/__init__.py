"""Studies: many runs that answer one question.

Such are the course's grid and the comparisons over seeds.
"""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "COMPARISONS": "runner",
        "comparison_cells": "runner",
        "run_comparison": "runner",
        "comparison_table": "comparison",
    },
)
