"""Checks of the exercises: is a learner's function right, or why not.

    check_recall(recall_at_1)       # as the last line of a cell: a green or an orange box

A check calls the function on small inputs in float64 and compares with the library or with a formula typed out. It also
computes what common errors would give, and names the one that matches. It returns a `Verdict` and never raises, so that
"run all cells" continues past an exercise that is still to be done.
"""

from clipedu.exercises.base import NotYet, Verdict
from clipedu.exercises.data import (
    check_half_life,
    check_hamming,
    check_my_rows,
    check_sampling_error,
    check_surplus,
    check_swap_sides,
)
from clipedu.exercises.encoders import (
    check_image_tokens,
    check_last_pooling,
    check_mean_pooling,
    check_relative,
)
from clipedu.exercises.fractal import check_for_mha, check_may_attend, check_reach, check_summary_tokens
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
from clipedu.exercises.norms import (
    check_adamw_steady,
    check_balance,
    check_corrected_decay,
    check_fair_decay,
    check_mean_cosine,
    check_same_walk,
    check_scionc_shrink,
    check_settling,
)
from clipedu.exercises.optimizers import (
    check_adam,
    check_adamw,
    check_corrected,
    check_decayed,
    check_decides,
    check_lion,
    check_sgd,
)
from clipedu.exercises.training import (
    check_averages,
    check_both_recalls,
    check_chance,
    check_cheat,
    check_lowest_loss,
    check_recall,
)
from clipedu.exercises.vit import check_block_macs, check_paired_interval, check_place_code, check_unchanged

__all__ = [
    "NotYet",
    "Verdict",
    "check_adam",
    "check_adamw",
    "check_adamw_steady",
    "check_averages",
    "check_balance",
    "check_block_macs",
    "check_both_recalls",
    "check_chance",
    "check_cheat",
    "check_clip_weights",
    "check_copies",
    "check_corrected",
    "check_corrected_decay",
    "check_dcl_weights",
    "check_decayed",
    "check_decides",
    "check_expmap0",
    "check_fair_decay",
    "check_for_mha",
    "check_half_aperture",
    "check_half_life",
    "check_hamming",
    "check_image_tokens",
    "check_last_pooling",
    "check_lion",
    "check_lorentz_distance",
    "check_lowest_loss",
    "check_may_attend",
    "check_mean_cosine",
    "check_mean_pooling",
    "check_my_rows",
    "check_open_gap",
    "check_paired_interval",
    "check_place_code",
    "check_reach",
    "check_recall",
    "check_relative",
    "check_running_average",
    "check_same_walk",
    "check_sampling_error",
    "check_scionc_shrink",
    "check_settling",
    "check_sgd",
    "check_siglip",
    "check_silenced",
    "check_sogclr_weights",
    "check_spearman",
    "check_summary_tokens",
    "check_surplus",
    "check_swap_sides",
    "check_unchanged",
]
