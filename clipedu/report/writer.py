"""Write a report: what one run is and scored, or how many runs compare.

The page is written twice: `report.html`, one file that needs no network and prints well, and `report.md` with its figures
in a folder beside it. Every score comes with its definition, its level of chance and its sampling error, so that a
difference is not over-interpreted.

Of a run these attributes are read: `name`, `experiment`, `environment`, `metrics`, `seconds`, `status`, `note`, `command`
if there is one, and what the figures need (`clipedu.plots`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipedu.report.comparison_page import comparison_blocks
from clipedu.report.document import Text, to_html, to_markdown
from clipedu.report.run_page import run_blocks
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import check_writable, write_text


def write_report(
    runs: Any, folder: str | Path, baseline: Mapping[str, Any] | None = None, left_out: Sequence[str] = ()
) -> Path:
    """Write `report.html`, `report.md` and the Markdown's figures.

    Args:
        runs: one run or a list of runs. One gives a page about that run, several a comparison.
        folder: where to; made if it does not exist.
        baseline: what to show beside the scores, e.g. {"name": "ridge regression", "tr@1": 8.6, "ir@1": 12.1}, in percent;
            scores that it lacks are left blank.
        left_out: a line for each run that is not on the page, and why.

    Returns:
        the path of `report.html`.

    Raises:
        ClipeduError: no runs, a baseline without a name, or a folder that cannot be written to.
    """
    runs = list(runs) if isinstance(runs, (list, tuple)) else [runs]
    if not runs:
        raise ClipeduError("there are no runs to report on: give at least one")
    if baseline is not None and "name" not in baseline:
        raise ClipeduError(f"baseline={dict(baseline)!r} has no 'name': give name and scores, e.g. 'tr@1' and 'ir@1'")
    folder = Path(folder)
    check_writable(folder, "Give a folder you may write to")
    if len(runs) == 1:
        title, blocks = f"Run {runs[0].name}", run_blocks(runs[0], baseline)
    else:
        title, blocks = f"Comparison of {len(runs)} runs", comparison_blocks(runs, baseline)
    if left_out:
        blocks.insert(0, Text("Left out, because they cannot be read or were not done:", items=left_out, warning=True))
    write_text(folder / "report.md", to_markdown(title, blocks, folder))
    write_text(folder / "report.html", to_html(title, blocks))
    return folder / "report.html"
