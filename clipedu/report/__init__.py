"""Reports as HTML and Markdown: one page on one run, or on many."""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "write_report": "writer",
    },
)
