"""The figure of scores during training: what is learned when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipedu.evaluation.metrics import METRICS, SCORES
from clipedu.plots.style import COLOURS, dress, new_figure
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_validation(run: Any) -> Figure:
    """Plot a run's scores over the steps, as it was scored during training.

    A dotted line is at the step with the best average. Averaged weights, where the run keeps them, have dashed lines.

    Args:
        run: with `validation`, as `evaluate_every` fills it.
    Raises:
        ClipeduError: it was not scored during training.
    """
    rows = getattr(run, "validation", None)
    if rows is None or not len(rows):
        raise ClipeduError(f"run {run.name!r} was not scored during training: set evaluate_every, e.g. 1epoch")
    figure = new_figure(9, 3.6)
    ax = figure.subplots()
    shown = [key for key in SCORES if key in rows and rows[key].notna().any()]
    for weights, look in (("model", "o-"), ("averaged", "s--")):
        of = rows[rows["weights"] == weights]
        for colour, key in zip(COLOURS, shown, strict=False):
            style: dict[str, Any] = {"color": colour, "linewidth": 2.4 if key == "average" else 1.3, "markersize": 3.5}
            label = METRICS[key].heading + (", averaged weights" if weights == "averaged" else "")
            if len(of):
                ax.plot(of["step"], of[key], look, label=label, **style)
    own = rows[(rows["weights"] == "model") & rows["average"].notna()]
    if len(own) > 1:
        best = own.loc[own["average"].idxmax()]
        ax.axvline(best["step"], color="#666666", linestyle=":", label=f"best average: {best['average']:.2f}")
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    dress(ax, "Scores during training: what is learned when?", "step (optimizer updates)", "score (%)")
    return figure
