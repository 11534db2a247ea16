"""Which attribute is learned when? `clipedu compare attributes`.

At about twelve checkpoints of a run, on 500 scenes that it is not trained on:

    foil     how often the true caption is more similar to its picture than one that is wrong in this attribute alone, in percent;
             chance is 50 (`clipedu.evaluation.foils`)
    image    how much of the attribute a linear map finds in the embedding of the picture: R² in percent (`clipedu.evaluation.attribute_fit`)
    text     the same in the embedding of the most specific caption, which says every attribute of its subject

An attribute counts as learned at the first step where its foil score passes 75, half way from chance to always, between two
checkpoints on a straight line. An attribute that a linear map finds in both embeddings and the foils do not know is one that the two
modalities have not been made to agree on. A low R² says less: foils can know what a linear map does not find.

"clip+foils" is trained with foils of place, relation and binding (`clipedu.losses.foils`): what they mend is in the foil scores of
these three, and what they cost in those of the others, and in recall and zero-shot accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from clipedu.plots.attributes import plot_attributes
from clipedu.plots.style import save_figure
from clipedu.studies.comparison import Comparison, variant
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_text
from clipedu.utils.markdown import markdown_table
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas

    from clipedu.data.scenes.dataset import Scenes
    from clipedu.models import DualEncoder
    from clipedu.runs.run import Run

MEASURES = ("foil", "image", "text")
CHANCE, LEARNED = 50.0, 75.0  # of foil scores, percent
SCENES = 500


def attribute_table(run: Run) -> pandas.DataFrame:
    """Measure every attribute at every checkpoint of a run.

    Args:
        run: trained on scenes.
    Returns:
        a row a checkpoint, measure and attribute: "variant", "seed", "step", "measure" (of `MEASURES`), "attribute", "value" (percent).
    Raises:
        ClipeduError: a run on other data, whose pictures have no known attributes, or a checkpoint that cannot be read.
    """
    import pandas

    from clipedu.data.scenes.dataset import Scenes
    from clipedu.runs.checkpoint import checkpoints, read_weights, step_of

    ex = run.experiment
    if ex.data != "scenes":
        raise ClipeduError(f"{run.folder} was trained on {ex.data!r}: only of scenes it is known what is in a picture")
    model, scenes = run.model(), Scenes("val", SCENES, ex.image_size, ex.data_seed)
    made: list[dict[str, Any]] = []
    for path in sorted(checkpoints(run.folder), key=step_of):
        model.load_state_dict(read_weights(path))
        one = {"variant": variant(run), "seed": ex.seed, "step": step_of(path)}
        for measure, values in _measure(model, scenes).items():
            made += [{**one, "measure": measure, "attribute": name, "value": value} for name, value in values.items()]
    return pandas.DataFrame(made)


def _measure(model: DualEncoder, scenes: Scenes) -> dict[str, dict[str, float]]:
    """Return the value of each attribute by measure."""
    from clipedu.data.scenes.captions import Dice, meanings, say
    from clipedu.evaluation.attribute_fit import attribute_fit
    from clipedu.evaluation.foils import foil_scores
    from clipedu.inference.embed import embed_images, embed_phrases

    image = embed_images(model, scenes)
    text = embed_phrases(model, [say(meaning, Dice(0)) for meaning in meanings(scenes.attributes)])
    scores = foil_scores(model, scenes, image, text)
    return {
        "foil": {name.removeprefix("foil_"): score for name, score in scores.items()},
        "image": {name: 100 * value for name, value in attribute_fit(image, scenes.attributes).items()},
        "text": {name: 100 * value for name, value in attribute_fit(text, scenes.attributes).items()},
    }


def learned_at(steps: Sequence[float], scores: Sequence[float], threshold: float = LEARNED) -> float:
    """Return the step at which scores first pass a threshold.

    Args:
        steps: rising, above 0; at step 0 the score is chance.
        scores: at each step, in percent.
        threshold: above `CHANCE`.
    Returns:
        a point on the straight line between two of them; nan if they never pass.
    """
    before, below = 0.0, CHANCE
    for step, score in zip(steps, scores, strict=True):
        if score >= threshold:
            return before + (step - before) * (threshold - below) / (score - below)
        before, below = step, score
    return math.nan


def order_table(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return when each attribute is learned, and how well at the end.

    Args:
        frame: of `attribute_table`, of any number of runs.
    Returns:
        a row a variant and attribute, the first learned first: variant, attribute, seeds, learned (in how many seeds), step (mean
        over these; nan for none), "step +-" (half of Student's 95 % interval; nan for fewer than two), and for each of `MEASURES` that
        it has the mean at the end and "<measure> +-".
    """
    import pandas

    made = []
    for (name, attribute), rows in frame.groupby(["variant", "attribute"], sort=False):
        of_seed = [own.sort_values("step") for _, own in rows[rows["measure"] == "foil"].groupby("seed")]
        times = [at for own in of_seed if not math.isnan(at := learned_at(own["step"].tolist(), own["value"].tolist()))]
        row: dict[str, Any] = {"variant": name, "attribute": attribute, "seeds": len(of_seed), "learned": len(times)}
        row["step"], row["step +-"] = interval(times)
        ends = rows[rows["step"] == rows.groupby("seed")["step"].transform("max")]
        for measure in MEASURES:
            row[measure], row[f"{measure} +-"] = interval(ends.loc[ends["measure"] == measure, "value"].tolist())
        made.append(row)
    table = pandas.DataFrame(made)
    order = dict.fromkeys(frame["variant"])
    rank = table["variant"].map({name: number for number, name in enumerate(order)})
    by = table.assign(rank=rank, late=table["step"].fillna(math.inf), low=-table["foil"])
    return table.loc[by.sort_values(["rank", "late", "low"], kind="stable").index].reset_index(drop=True)


def order_text(table: pandas.DataFrame) -> str:
    """Return an `order_table` as Markdown."""
    rows = []
    for _, row in table.iterrows():
        when = "never" if row["learned"] == 0 else _plus_minus(row, "step", 0)
        if 0 < row["learned"] < row["seeds"]:
            when += f" ({row['learned']} of {row['seeds']} seeds)"
        rows.append([row["variant"], row["attribute"], when, *(_plus_minus(row, measure, 1) for measure in MEASURES)])
    head = [
        "variant",
        "attribute",
        "foil score passes 75 at step",
        "foil score at the end (%)",
        "R², image (%)",
        "R², text (%)",
    ]
    return markdown_table(head, rows)


def write_study(runs: Sequence[Run], folder: str | Path) -> str:
    """Write attributes.md, attributes.csv and attributes.png.

    Returns:
        the table, and paths.
    Raises:
        ClipeduError: no run is finished, or as `attribute_table`.
    """
    import pandas

    folder = Path(folder)
    runs = [run for run in runs if run.status == "finished"]
    if not runs:
        raise ClipeduError(f"no run in {folder} is finished: there is nothing that was learned")
    frame = pandas.concat(
        [attribute_table(run) for run in tqdm(runs, desc="attributes", unit="run")], ignore_index=True
    )
    text = f"{order_text(order_table(frame))}\n\n± is half of Student's 95 % interval over seeds."
    write_text(folder / "attributes.csv", frame.to_csv(index=False))
    write_text(folder / "attributes.md", f"# Attributes\n\n{__doc__}\n{text}\n\n![curves](attributes.png)\n")
    save_figure(plot_attributes(frame, LEARNED), folder / "attributes.png")
    return f"{text}\n\nFigure: attributes.png. Tables: attributes.md, attributes.csv. All in {folder}/"


def _plus_minus(row: pandas.Series, name: str, digits: int) -> str:
    mean, half = row[name], row[f"{name} +-"]
    if math.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" if math.isnan(half) else f"{mean:.{digits}f} ± {half:.{digits}f}"


COMPARISON = Comparison(
    "which attribute of the scenes is learned when: foils and a linear fit of the embeddings at twelve points of a run, for CLIP, SogCLR, "
    "and CLIP trained with foils",
    {"clip": {"loss": "clip"}, "sogclr": {"loss": "sogclr"}, "clip+foils": {"loss": "clip", "foils": 1.0}},
    {"checkpoint_every": 20, "keep_checkpoints": 1000},
    study=write_study,
)
