"""Programs that show how runs go: TensorBoard, trackio, W&B.

A tracker is given the rows of a run's tables and shows them; the tables stay the record. `clipedu.workflow.tracking` gives them.
"""

from clipedu.trackers.base import Tracker
from clipedu.trackers.registry import TRACKERS, check_installed, open_tracker

__all__ = ["TRACKERS", "Tracker", "check_installed", "open_tracker"]
