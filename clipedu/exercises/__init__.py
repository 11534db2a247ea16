"""Checks of the notebooks' exercises: each takes a learner's function and says what is right or what is wrong.

    check_recall(recall_at_1)       # as the last line of a cell: a green or an orange box

A check calls the function on small inputs in float64, compares with an oracle (the library, or a formula typed out), and
knows the famous errors: if the answer is what one of them gives, it says which. It returns a `Verdict` and never raises,
so that "run all cells" goes on past an exercise that is still to be done.
"""

from clipedu.exercises.base import NotYet, Verdict
from clipedu.exercises.geometry import (
    check_expmap0,
    check_half_aperture,
    check_lorentz_distance,
    check_open_gap,
    check_spearman,
)
from clipedu.exercises.losses import (
    check_clip_weights,
    check_copies,
    check_dcl_weights,
    check_running_average,
    check_siglip,
    check_silenced,
    check_sogclr_weights,
)
from clipedu.exercises.training import (
    check_averages,
    check_both_recalls,
    check_chance,
    check_cheat,
    check_lowest_loss,
    check_recall,
)

__all__ = [
    "NotYet",
    "Verdict",
    "check_averages",
    "check_both_recalls",
    "check_chance",
    "check_cheat",
    "check_clip_weights",
    "check_copies",
    "check_dcl_weights",
    "check_expmap0",
    "check_half_aperture",
    "check_lorentz_distance",
    "check_lowest_loss",
    "check_open_gap",
    "check_recall",
    "check_running_average",
    "check_siglip",
    "check_silenced",
    "check_sogclr_weights",
    "check_spearman",
]
