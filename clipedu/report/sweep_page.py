"""The page of a sweep.

It has the best setting of each variant, figures, the settings that were tried, and what failed.

Of a sweep these attributes are read: `folder`, `trials`, `settings`, `best` (frames), `runs`, `plan`, and `remarks`, lines to heed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from clipedu.evaluation.held_out import trained_lines_of
from clipedu.evaluation.metrics import LEGEND, METRICS, SCORES
from clipedu.plots.sweep import plot_sweep
from clipedu.report.document import Block, Code, Heading, Table, Text, to_html, to_markdown
from clipedu.report.format import as_text, number, picture
from clipedu.utils.files import check_writable, write_text

SHOWN = 10  # settings of each variant in the table
NOTE = (
    "In percent. ± is half of Student's 95 % interval of the mean over the seeds (– for one seed): it says how much the seeds "
    "differ, not how much another test set would. The score on the pairs held out is that of the best of many trials, so it is "
    "too high by luck; the scores to report are those on the scored sets, which had no part in the choice."
)


def write_sweep_report(found: Any) -> Path:
    """Write report.html, report.md and its figures into the folder of a sweep.

    Args:
        found: `clipedu.studies.sweep.run.Sweep`.
    Returns:
        the path of report.html.
    Raises:
        ClipeduError: the folder cannot be written to.
    """
    folder = Path(found.folder)
    check_writable(folder, "Give a folder you may write to")
    title, blocks = f"Sweep {folder.name}", sweep_blocks(found)
    write_text(folder / "report.md", to_markdown(title, blocks, folder))
    write_text(folder / "report.html", to_html(title, blocks))
    return folder / "report.html"


def sweep_blocks(found: Any) -> list[Block]:
    """Return the page of a sweep."""
    plan = found.plan
    blocks: list[Block] = [Text(_overview(found))]
    blocks += [Text(line, warning=True) for line in found.remarks]
    runs = [run for of_variant in found.runs.values() for run in of_variant]
    blocks += [Text(f"{line[:1].upper()}{line[1:]}.", warning=True) for line in trained_lines_of(runs)]
    blocks += [
        Heading("The best of each variant"),
        _best_table(found),
        Text("", items=LEGEND[:-1]),
    ]  # without that of the standard error
    if commands := [run.command for run in runs]:
        blocks += [Text("The commands that train them:"), Code("\n".join(commands))]
    heading = METRICS[plan.metric].heading
    numbers = plan.numbers()
    caption = f"{heading} on the pairs held out against what was varied. " + (
        "Each cell is the mean over seeds of its best trial."
        if len(numbers) == 2
        else "Bands are Student's 95 % intervals over seeds."
    )
    ended = found.trials[found.trials["state"] == "finished"]
    blocks += [
        Heading("What the settings do"),
        picture("sweep", lambda: plot_sweep(ended, numbers, plan.metric, heading), caption),
    ]
    blocks += [Heading("The settings tried"), *_tried(found)]
    base = [
        (name, as_text(value))
        for name, value in dataclasses.asdict(plan.base).items()
        if name not in ("seed", "holdout")
    ]
    blocks += [Heading("What all trials share"), Table(("setting", "value"), base)]
    if runs and runs[0].environment:
        rows = [(name, as_text(value)) for name, value in runs[0].environment.items()]
        blocks += [Heading("Environment"), Table(("what", "value"), rows)]
    return blocks


def best_text(found: Any) -> tuple[list[str], list[list[str]]]:
    """Return the table of the best settings as columns and rows of text."""
    plan = found.plan
    shown = [key for key in SCORES if found.best[f"{key} mean"].notna().any()]
    columns = ["variant", *plan.vary, "held out", *(METRICS[key].heading for key in shown)]
    rows = []
    for _, row in found.best.iterrows():
        scores = [_mean(row[f"{key} mean"], row[f"{key} interval"]) for key in shown]
        settings = [_setting(row[name]) for name in plan.vary]
        rows.append([str(row["variant"]), *settings, _mean(row["mean"], row["interval"]), *scores])
    for variant in plan.variant_settings():
        if variant not in set(found.best["variant"]):
            rows.append([variant, *["–"] * (len(columns) - 1)])
    return columns, rows


def _overview(found: Any) -> str:
    plan, trials = found.plan, found.trials.drop_duplicates(["variant", "trial"])
    counts = trials["state"].value_counts()
    states = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none has begun"
    variants = len(plan.variant_settings())
    text = (
        f"{variants} variant{'s' * (variants > 1)} with {plan.trials_of_variant} trials each ({states}), seeds "
        f"{', '.join(map(str, plan.seeds))}, over {'; '.join(map(str, plan.vary.values()))}; sampler {plan.sampler}, pruner "
        f"{plan.pruner}. Trials were trained without {100 * plan.holdout:g} % of the training pairs, and scored on these: the best has "
        f"the highest {METRICS[plan.metric].heading} there. "
    )
    after = "It was then trained on all training pairs, once a seed, and scored on the scored sets, which had no part in the choice."
    return text + (after if found.complete else "It is not scored on the scored sets yet: the same command goes on.")


def _best_table(found: Any) -> Table:
    columns, rows = best_text(found)
    scored = found.best["average mean"].dropna()
    best = {int(scored.idxmax())} if len(scored) else set()
    return Table(columns, rows, best=best, note=NOTE)


def _tried(found: Any) -> list[Block]:
    """Return the table of the best few settings, and what was pruned or failed."""
    plan, heading = found.plan, METRICS[found.plan.metric].heading
    rows = []
    for variant in plan.variant_settings():
        own = found.settings[found.settings["variant"] == variant].head(SHOWN)
        for _, row in own.iterrows():
            settings = [_setting(row[name]) for name in plan.vary]
            rows.append([variant, str(row["trial"]), *settings, _mean(row["mean"], row["interval"]), str(row["runs"])])
    note = f"The best {SHOWN} of each variant at most; all are in trials.csv, a row a trial and seed."
    blocks: list[Block] = [Table(("variant", "trial", *plan.vary, f"{heading}, held out", "seeds"), rows, note=note)]
    lost = found.trials[found.trials["state"] == "failed"].drop_duplicates(["variant", "trial"])
    if len(lost):
        items = [f"{row['variant']}, trial {row['trial']}: {row['note']}" for _, row in lost.head(SHOWN).iterrows()]
        number_of = "1 trial failed, and is" if len(lost) == 1 else f"{len(lost)} trials failed, and are"
        more = f" ({SHOWN} of them shown)" if len(lost) > SHOWN else ""
        blocks.append(Text(f"{number_of} not tried again{more}:", items=items, warning=True))
    return blocks


def _mean(mean: float, half: float) -> str:
    spread = number(half)
    return number(mean) if spread == "–" else f"{number(mean)} ± {spread}"


def _setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else as_text(value)
