"""The page that compares many runs.

It has scores, repeats, the course's table, curves and settings.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clipedu import plots
from clipedu.config.course import display_name
from clipedu.data.prompts import prompts_text
from clipedu.evaluation.held_out import trained_lines_of
from clipedu.evaluation.metrics import COUNTS, LEGEND, SCORES
from clipedu.evaluation.uncertainty import chance_levels
from clipedu.report.course_section import course_blocks
from clipedu.report.document import Block, Code, Heading, Table, Text
from clipedu.report.format import as_text, duration, number, picture
from clipedu.report.score_table import at_chance, repeats, score_table, undecided
from clipedu.runs.schema import STATUSES

if TYPE_CHECKING:
    import pandas


def comparison_blocks(runs: list, baseline: Mapping[str, Any] | None) -> list[Block]:
    """Return the page that compares runs; `baseline` as in `write_report`."""
    runs = [runs[place] for place in score_table(runs).index]
    table = score_table(runs)
    blocks: list[Block] = [Text(_overview(table))]
    test_sets = {
        tuple(map(run.metrics.get, COUNTS)) + (run.experiment.eval_data, run.experiment.holdout)
        for run in runs
        if run.metrics
    }
    if len(test_sets) > 1:
        warning = (
            "These runs were scored on different test sets, so that their scores cannot be compared with each other."
        )
        blocks.append(Text(warning, warning=True))
    if len(prompts := {text for run in runs if (text := prompts_text(run.metrics))}) > 1:
        warning = (
            f"Zero-shot scores were made with different prompts, and cannot be compared: {'; '.join(sorted(prompts))}."
        )
        blocks.append(Text(warning, warning=True))
    blocks += [Text(f"{line[:1].upper()}{line[1:]}.", warning=True) for line in trained_lines_of(runs)]
    blocks += [Heading("Scores"), _score_table_block(runs, table, baseline), Text("", items=LEGEND)]
    again = repeats(runs)
    if len(again):
        rows = [
            (
                *(display_name(r.optimizer), display_name(r.loss), str(r.runs)),
                *(f"{r.mean:.2f}", f"±{r.interval:.2f}", f"{r.sd:.2f}", r.differ),
            )
            for r in again.itertuples()
        ]
        note = (
            "Between runs of one cell: the mean of their averages with Student's 95 % interval of it, and sd, the standard deviation "
            "of the averages. The heat map shows the means with their intervals."
        )
        columns = ("optimizer", "loss", "runs", "mean average", "95 % interval", "sd", "differ in")
        blocks.append(Table(columns, rows, note=note))
    blocks += course_blocks(table)
    curves = picture("curves", lambda: plots.plot_curves(runs), "Training loss per step of all runs.")
    blocks += [Heading("Training"), curves, Heading("Settings")]
    blocks += _common_and_different([(run.name, dataclasses.asdict(run.experiment)) for run in runs], "setting")
    commands = [run.command for run in runs if getattr(run, "command", None)]
    if commands:
        blocks += [Text("The commands that repeat these runs:"), Code("\n".join(commands))]
    blocks.append(Heading("Environment"))
    return blocks + _common_and_different([(run.name, run.environment) for run in runs], "what")


def _overview(table: pandas.DataFrame) -> str:
    """Return which runs there are, and which scored best."""
    found = list(table["status"])
    counts = ", ".join(f"{found.count(status)} {status}" for status in dict.fromkeys(sorted(found, key=STATUSES.index)))
    losses, optimizers = ([display_name(name) for name in table[c].unique()] for c in ("loss", "optimizer"))
    text = (
        f"{len(table)} runs ({counts}) with the losses {', '.join(losses)} and the optimizers {', '.join(optimizers)}."
    )
    scored = table[table["average"].notna()]
    if not len(scored):
        return f"{text} None has scores yet."
    best = scored.loc[scored["average"].idxmax()]
    near = len(undecided(table))
    also = (
        f"{near} more {'is' if near == 1 else 'are'} too near to be called worse (≈)"
        if near
        else "all others are more than 1.96 standard errors of the difference below it"
    )
    score = f"{best['average']:.2f} % (standard error {best['error']:.2f})"
    return f"{text} The best average, {score}, is that of {best['name']}; {also}."


def _score_table_block(runs: list, table: pandas.DataFrame, baseline: Mapping[str, Any] | None) -> Table:
    """Return the table of all runs, then chance and the baseline.

    The best run is highlighted, and those too near to it are marked.
    """
    best = table["average"].idxmax() if table["average"].notna().any() else None
    marks = dict.fromkeys(undecided(table), "≈ best") | {best: "best"} | dict.fromkeys(at_chance(table), "at chance")
    rows = []
    for place, row in table.iterrows():
        unfinished = f"{row['status']}: {row['note']}".rstrip(": ")
        remark = marks.get(place, "") if row["status"] == "finished" else unfinished
        error = f"{row['error']:.2f}" if math.isfinite(row["error"]) else "–"
        scores = [number(row[key]) for key in SCORES]
        names = [row["name"], display_name(row["optimizer"]), display_name(row["loss"])]
        rows.append([*names, *scores, error, duration(row["seconds"]), remark])
    chances = {tuple(chance_levels(run.metrics).get(key) for key in SCORES) for run in runs if run.metrics}
    if len(chances) == 1:
        rows.append(
            ["chance", "", "", *("–" if level is None else f"{level:.3g}" for level in chances.pop()), "", "", ""]
        )
    if baseline:
        seconds = duration(baseline["seconds"]) if "seconds" in baseline else ""
        rows.append([baseline["name"], "", "", *(number(baseline.get(key)) for key in SCORES), "", seconds, "baseline"])
    note = (
        "Scores in percent; time is that of training. s.e. is the standard error of the average. At chance: no better "
        "than a random ranking. ≈ best: less than 1.96 standard errors of the difference below the best, so that one run of "
        "each cannot tell them apart."
    )
    columns = ("run", "optimizer", "loss", *SCORES.values(), "s.e.", "time", "remark")
    return Table(columns, rows, best=set() if best is None else {best}, note=note)


def _common_and_different(settings: list[tuple[str, dict[str, Any]]], what: str) -> list[Block]:
    """Return a table of what differs between runs, and one of the rest.

    The date is left out: it always differs.
    """
    keys = [key for key in dict.fromkeys(key for _, values in settings for key in values) if key != "date"]
    shown = {key: [as_text(values.get(key)) for _, values in settings] for key in keys}
    different = [key for key in keys if len(set(shown[key])) > 1]
    blocks: list[Block] = []
    if different:
        rows = [(name, *(shown[key][place] for key in different)) for place, (name, _) in enumerate(settings)]
        blocks += [Text("Where the runs differ:"), Table(("run", *different), rows)]
    common = [(key, shown[key][0]) for key in keys if key not in different]
    return [*blocks, Text("The same in all runs:"), Table((what, "value"), common)] if common else blocks
