"""`write_report`: what one run is and scored, or how many runs compare, on one page that explains itself.

The page is written twice: `report.html`, one file that needs no network and prints well, and `report.md` with its figures in
a folder beside it. Every score comes with its definition, the level of chance and its sampling error, so that nobody reads
more out of a difference than is in it.

Of a run is read: `name`, `experiment`, `environment`, `metrics`, `seconds`, `status`, `note`, `command` if there is one, and
what the figures need (`clipedu.plots`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu import plots
from clipedu.course_report import course_blocks
from clipedu.course_table import display_name
from clipedu.drawing import to_png
from clipedu.page import Block, Code, Heading, Picture, Table, Text, to_html, to_markdown
from clipedu.registry import ClipeduError
from clipedu.scores import at_chance, chance_levels, repeats, score_table, standard_errors, undecided

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

HEADINGS = {"tr@1": "TR@1", "ir@1": "IR@1", "top1": "top-1", "average": "average"}
_STATUS = ("finished", "running", "stopped", "failed")
_COUNTS = (("retrieval", "images"), ("retrieval", "captions"), ("zeroshot", "images"), ("zeroshot", "classes"))
DEFINITIONS = (
    "TR@k (text retrieval, image to text): share of images with one of their own captions among the k best-ranked captions.",
    "IR@k (image retrieval, text to image): share of captions whose own image is among the k best-ranked images.",
    "top-k (zero-shot classification): share of images whose class is among the k best, ranked by the class names alone.",
    "average: the course's score, the mean of TR@1, IR@1 and top-1 (of those that there are).",
    "chance: what a random ranking would score. A model near chance has learned nothing.",
    "s.e.: binomial standard error, how far another test set of this size would move the score (2 s.e.: 95 % of the time).",
)
SHAPES = {
    "alignment": "mean squared distance of matched unit embeddings, 0 to 4: lower = pairs are closer",
    "uniformity": "log of the mean of exp(-2 x squared distance) within a modality, 0 or less: lower = better spread out",
    "modality_gap": "distance between the mean image and the mean caption, 0 to 2: 0 = the two clouds share their centre",
}


def write_report(runs: Any, folder: str | Path, baseline: Mapping[str, Any] | None = None) -> Path:
    """Write `report.html`, `report.md` and the Markdown's figures into `folder`, which is made if need be.

    Args:
        runs: one run or a list of runs. One gives a page about that run, several a comparison.
        baseline: a yardstick to show with the scores, e.g. {"name": "ridge regression", "tr@1": 8.6, "ir@1": 12.1};
            percent, scores that it lacks are left blank.
    Returns:
        the path of `report.html`.
    Raises:
        ClipeduError: no runs, a baseline without name, or a folder that can't be written to.
    """
    runs = list(runs) if isinstance(runs, (list, tuple)) else [runs]
    if not runs:
        raise ClipeduError("there are no runs to report on: give at least one")
    if baseline is not None and "name" not in baseline:
        raise ClipeduError(f"baseline={dict(baseline)!r} has no 'name': give name and scores, e.g. 'tr@1' and 'ir@1'")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from None
    if len(runs) == 1:
        title, blocks = f"Run {runs[0].name}", _one(runs[0], baseline)
    else:
        title, blocks = f"Comparison of {len(runs)} runs", _many(runs, baseline)
    try:
        (folder / "report.md").write_text(to_markdown(title, blocks, folder), encoding="utf-8")
        (folder / "report.html").write_text(to_html(title, blocks), encoding="utf-8")
    except OSError as error:
        raise _not_writable(folder, error) from None
    return folder / "report.html"


def _not_writable(folder: Path, error: OSError) -> ClipeduError:
    return ClipeduError(f"can't write a report to {folder}: {error.strerror}. Give a folder you may write to")


def _one(run: Any, baseline: Mapping[str, Any] | None) -> list[Block]:
    """The page of one run."""
    blocks: list[Block] = [Text(_what_it_is(run))]
    if run.status != "finished":
        blocks.append(Text(f"This run is not finished: {run.status}. {run.note or ''}", warning=True))
    if getattr(run, "command", None):
        blocks += [Text("The command that repeats it:"), Code(run.command)]
    blocks.append(Heading("Scores"))
    blocks += _score_blocks(run, baseline) if run.metrics else [Text("It has no scores, because it was not evaluated.")]
    blocks += [
        Heading("Training"),
        _picture("loss", lambda: plots.plot_loss(run), "Training loss and learning rate per step."),
        _picture("norms", lambda: plots.plot_norms(run), "Norms of weights, gradients and updates per step."),
        Heading("Embeddings of the retrieval set"),
        _picture(
            "similarity",
            lambda: plots.plot_similarity(run),
            "Similarity of images and captions: the first pairs as a matrix, all kept pairs as a histogram.",
        ),
        _picture(
            "embedding-map",
            lambda: plots.plot_embedding_map(run),
            "Images and captions on the two main axes of their joint PCA; what is off these axes is not seen here.",
        ),
        Heading("Settings"),
        Table(
            ("setting", "value", "meaning"),
            [
                (field.name, _value(getattr(run.experiment, field.name)), field.metadata.get("text", ""))
                for field in dataclasses.fields(run.experiment)
            ],
        ),
        Heading("Environment"),
        Table(("what", "value"), [(name, _value(value)) for name, value in run.environment.items()]),
    ]
    return blocks


def _what_it_is(run: Any) -> str:
    """Two sentences: what was trained how, and what it was scored on."""
    e, m = run.experiment, run.metrics
    temperature = "" if e.temperature is None else f", temperature {e.temperature:g}"
    trained = (
        f"{e.image_encoder} (images) and {e.text_encoder} (captions) were trained on {e.data} with the loss "
        f"{display_name(e.loss)} ({e.geometry} geometry{temperature}) and the optimizer {display_name(e.optimizer)} (learning "
        f"rate {e.lr:g}, weight decay {e.weight_decay:g}): {e.epochs} epochs in batches of {e.batch_size}, seed {e.seed}, "
        f"{_time(run.seconds)}."
    )
    tests = []
    if "retrieval_images" in m:
        images, captions = m["retrieval_images"], m["retrieval_captions"]
        tests.append(f"retrieval among {images:,.0f} images and {captions:,.0f} captions")
    if "zeroshot_images" in m:
        images, classes = m["zeroshot_images"], m["zeroshot_classes"]
        tests.append(f"zero-shot classification of {images:,.0f} images into {classes:,.0f} classes")
    return f"{trained} It was scored on {' and '.join(tests)}." if tests else trained


def _score_blocks(run: Any, baseline: Mapping[str, Any] | None) -> list[Block]:
    m = run.metrics
    chance, errors = chance_levels(m), standard_errors(m)
    names = [k for k in ("tr@1", "tr@5", "tr@10", "ir@1", "ir@5", "ir@10", "top1", "top5", "average") if k in m]
    columns = ["score", "%", "± s.e.", "chance"] + ([f"yardstick: {baseline['name']}"] if baseline else [])
    rows = []
    for key in names:
        row = [_score_name(key), f"{m[key]:.2f}", f"±{errors[key]:.2f}", f"{chance[key]:.3g}"]
        rows.append(row + ([_number(baseline.get(key))] if baseline else []))
    shape = [(key.replace("_", " "), f"{m[key]:.3f}", meaning) for key, meaning in SHAPES.items() if key in m]
    blocks: list[Block] = [Table(columns, rows, best={len(rows) - 1}), Text("", items=DEFINITIONS)]
    if at_chance(score_table([run])):
        blocks.insert(0, Text("The average is no better than chance: this model has learned nothing.", warning=True))
    if shape:
        blocks.append(Table(("shape of the embeddings", "value", "what it is"), shape))
    return blocks


def _many(runs: list, baseline: Mapping[str, Any] | None) -> list[Block]:
    """The page that compares runs."""
    runs = [runs[place] for place in score_table(runs).index]
    table = score_table(runs)
    blocks: list[Block] = [Text(_overview(table))]
    test_sets = {
        tuple(run.metrics.get(f"{task}_{what}") for task, what in _COUNTS) + (run.experiment.eval_data,)
        for run in runs
        if run.metrics
    }
    if len(test_sets) > 1:
        warning = (
            "These runs were scored on different test sets, so that their scores can't be compared with each other."
        )
        blocks.append(Text(warning, warning=True))
    blocks += [Heading("Scores"), _score_table_block(runs, table, baseline), Text("", items=DEFINITIONS)]
    again = repeats(runs)
    if len(again):
        rows = [
            (display_name(r.optimizer), display_name(r.loss), str(r.runs), f"{r.mean:.2f}", f"{r.sd:.2f}", r.differ)
            for r in again.itertuples()
        ]
        note = "Between runs of one cell: sd is the standard deviation of their averages. The heat map shows the means."
        blocks.append(Table(("optimizer", "loss", "runs", "mean average", "sd", "differ in"), rows, note=note))
    blocks += course_blocks(table)
    curves = _picture("curves", lambda: plots.plot_curves(runs), "Training loss per step of all runs.")
    blocks += [Heading("Training"), curves, Heading("Settings")]
    blocks += _common_and_different([(run.name, dataclasses.asdict(run.experiment)) for run in runs], "setting")
    commands = [run.command for run in runs if getattr(run, "command", None)]
    if commands:
        blocks += [Text("The commands that repeat these runs:"), Code("\n".join(commands))]
    blocks.append(Heading("Environment"))
    return blocks + _common_and_different([(run.name, run.environment) for run in runs], "what")


def _overview(table: pandas.DataFrame) -> str:
    """Which runs there are, and which scored best."""
    found = list(table["status"])
    counts = ", ".join(f"{found.count(status)} {status}" for status in dict.fromkeys(sorted(found, key=_STATUS.index)))
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
    score = f"{best['average']:.2f} ± {best['error']:.2f} %"
    return f"{text} The best average, {score}, is that of {best['name']}; {also}."


def _score_table_block(runs: list, table: pandas.DataFrame, baseline: Mapping[str, Any] | None) -> Table:
    """All runs, optimizer by optimizer, then chance and the yardstick; the best set off, those too near to it marked."""
    best = table["average"].idxmax() if table["average"].notna().any() else None
    marks = dict.fromkeys(undecided(table), "≈ best") | {best: "best"} | dict.fromkeys(at_chance(table), "at chance")
    rows = []
    for place, row in table.iterrows():
        unfinished = f"{row['status']}: {row['note']}".rstrip(": ")
        remark = marks.get(place, "") if row["status"] == "finished" else unfinished
        error = f"±{row['error']:.2f}" if math.isfinite(row["error"]) else "–"
        scores = [_number(row[key]) for key in HEADINGS]
        names = [row["name"], display_name(row["optimizer"]), display_name(row["loss"])]
        rows.append([*names, *scores, error, _time(row["seconds"]), remark])
    chances = {tuple(chance_levels(run.metrics).get(key) for key in HEADINGS) for run in runs if run.metrics}
    if len(chances) == 1:
        rows.append(
            ["chance", "", "", *("–" if level is None else f"{level:.3g}" for level in chances.pop()), "", "", ""]
        )
    if baseline:
        seconds = _time(baseline["seconds"]) if "seconds" in baseline else ""
        rows.append(
            [baseline["name"], "", "", *(_number(baseline.get(key)) for key in HEADINGS), "", seconds, "yardstick"]
        )
    note = (
        "Scores in percent; time is that of training. s.e. is the standard error of the average. At chance: no better "
        "than a random ranking. ≈ best: less than 1.96 standard errors of the difference below the best, so that one run of "
        "each can't tell them apart."
    )
    columns = ("run", "optimizer", "loss", *HEADINGS.values(), "s.e.", "time", "remark")
    return Table(columns, rows, best=set() if best is None else {best}, note=note)


def _common_and_different(settings: list[tuple[str, dict[str, Any]]], what: str) -> list[Block]:
    """What all runs share, and a table of what they don't. The date is left out: it is never the same."""
    keys = [key for key in dict.fromkeys(key for _, values in settings for key in values) if key != "date"]
    shown = {key: [_value(values.get(key)) for _, values in settings] for key in keys}
    different = [key for key in keys if len(set(shown[key])) > 1]
    blocks: list[Block] = []
    if different:
        rows = [(name, *(shown[key][place] for key in different)) for place, (name, _) in enumerate(settings)]
        blocks += [Text("Where the runs differ:"), Table(("run", *different), rows)]
    common = [(key, shown[key][0]) for key in keys if key not in different]
    return [*blocks, Text("The same in all runs:"), Table((what, "value"), common)] if common else blocks


def _picture(name: str, draw: Callable[[], Figure], caption: str) -> Block:
    """The figure, or where a run lacks what it needs, the reason why it is not there."""
    try:
        return Picture(name, to_png(draw()), caption)
    except ClipeduError as error:
        return Text(f"No figure here: {error}.")


def _score_name(key: str) -> str:
    return {"top1": "top-1", "top5": "top-5"}.get(key, key.upper() if "@" in key else key)


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_value(item)}" for key, item in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def _time(seconds: float) -> str:
    """Seconds in the two units a person would say: 8.3 s, 12 min 5 s, 3 h 40 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
