"""What the tests of figures share."""

import warnings

from clipedu.plots.style import to_png


def drawn(figure):
    """The figure's PNG, made without a warning (a label that is not understood would give one)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"'\w+' .*deprecated", DeprecationWarning)  # old matplotlib, new pyparsing
        png = to_png(figure)
    assert png.startswith(b"\x89PNG")
    return png


def words(figure):
    """All text of a figure in one string."""
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def legend(ax):
    """The words of a panel's legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def curves(ax, dashes="-"):
    """The lines of a panel that have these dashes."""
    return [line for line in ax.lines if line.get_linestyle() == dashes]
