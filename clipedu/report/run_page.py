"""The page of one run.

It has scores with chance and error, curves, embeddings and settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clipedu import plots
from clipedu.config.course import display_name
from clipedu.data.prompts import prompts_text
from clipedu.evaluation.held_out import trained_lines
from clipedu.evaluation.metrics import AVERAGED_PREFIX, BY_RANK, LEGEND, METRICS, SPACE
from clipedu.evaluation.uncertainty import chance_levels, standard_errors
from clipedu.plots.style import shorten
from clipedu.report.document import Block, Code, Heading, Table, Text
from clipedu.report.format import as_text, duration, number, picture
from clipedu.report.score_table import at_chance, score_table
from clipedu.runs.blend_recipe import Recipe
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run_blocks(run: Any, baseline: Mapping[str, Any] | None) -> list[Block]:
    """Return the page of one run; `baseline` as in `write_report`."""
    blocks: list[Block] = [Text(_description(run))]
    if run.status != "finished":
        blocks.append(Text(f"This run is not finished: {run.status}. {run.note or ''}", warning=True))
    continued = run.note if run.status == "finished" else ""
    if continued:
        blocks.append(Text(f"It was continued for more epochs: {continued}."))
    if getattr(run, "command", None):
        of = "The command of such a run from the start" if continued else "The command that repeats it"
        blocks += [Text(f"{of}:"), Code(run.command)]
    blocks.append(Heading("Scores"))
    blocks += [Text(_sentence(line), warning=True) for line in (*trained_lines(run.metrics), *_changed_sets(run))]
    blocks += _score_blocks(run, baseline) if run.metrics else [Text("It has no scores, because it was not evaluated.")]
    blocks += [] if _blend_of(run) else _training_blocks(run)
    blocks += [
        Heading("Embeddings of the retrieval set"),
        picture(
            "similarity",
            lambda: plots.plot_similarity(run),
            "Similarity of images and captions: the first pairs as a matrix, all kept pairs as a histogram.",
        ),
        picture(
            "embedding-map",
            lambda: plots.plot_embedding_map(run),
            "Images and captions on the two main axes of their joint PCA; other directions are not shown.",
        ),
        picture(
            "root-distances",
            lambda: _root_distances(run),
            "How far images and captions are from the root of the space.",
        ),
        picture("generality", lambda: _generality(run), "Distance to the root of captions, from generic to specific."),
        picture(
            "traversals", lambda: _traversals(run), "Ways from images to the root, and the nearest captions on them."
        ),
        *_token_blocks(run),
        Heading("Settings"),
        Table(
            ("setting", "value", "meaning"),
            [
                (field.name, as_text(getattr(run.experiment, field.name)), field.metadata.get("text", ""))
                for field in dataclasses.fields(run.experiment)
            ],
        ),
        Heading("Environment"),
        Table(("what", "value"), [(name, as_text(value)) for name, value in run.environment.items()]),
    ]
    return blocks


def _training_blocks(run: Any) -> list[Block]:
    """Return curves of the training."""
    return [
        Heading("Training"),
        picture("loss", lambda: plots.plot_loss(run), "Training loss and learning rate per step."),
        picture("norms", lambda: plots.plot_norms(run), "Norms of weights, gradients and updates per step."),
        picture("layers", lambda: _layers(run), "Norm of the weights, layer by layer; biases and gains left out."),
        picture(
            "watched", lambda: plots.plot_watched(run), "Lengths of the embeddings, and what was learned beside them."
        ),
        *_validation_blocks(run),
    ]


def _blend_of(run: Any) -> Mapping[str, Any] | None:
    """Return of which models a run is a blend, None where it was trained."""
    return run.blend() if hasattr(run, "blend") else None


def _changed_sets(run: Any) -> list[str]:
    """Return a line for each set that has changed since the training."""
    from clipedu.runs.trained_rows import changed_sets

    return changed_sets(run.folder) if hasattr(run, "folder") else []


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}."


def _validation_blocks(run: Any) -> list[Block]:
    """Return the curve of scores during training; nothing for a run that was not scored then."""
    try:
        if not len(getattr(run, "validation", ())):
            return []
    except ClipeduError as error:
        return [Text(f"No scores during training here: {error}.", warning=True)]
    note = "Scores during training, on the sets above. Where they decide which model is used, they are no test of it any more."
    return [picture("validation", lambda: plots.plot_validation(run), note)]


def _token_blocks(run: Any) -> list[Block]:
    """Return attention and token norms as the run keeps them.

    There are none for an encoder that is no vision transformer.
    """
    from clipedu.plots.attention import plot_attention, plot_token_norms
    from clipedu.runs.token_files import kept_tokens

    try:
        if not (kept := kept_tokens(run.folder) if hasattr(run, "folder") else None):
            return []
    except ClipeduError as error:
        return [Heading("Tokens of the image encoder"), Text(f"No figure here: {error}.")]
    tokens, found = kept
    norms = {run.experiment.image_encoder: (found["norms"], tokens)}
    return [
        Heading("Tokens of the image encoder"),
        picture(
            "attention",
            lambda: plot_attention(found["maps"].float(), tokens, found["pixels"]),
            "Where tokens of the first picture look, block by block. Each map has a scale of its own.",
        ),
        picture(
            "token-norms",
            lambda: plot_token_norms(norms, found["pixels"]),
            "Norms of tokens: artifacts would be patches far above the others, which registers are meant to remove.",
        ),
    ]


def _layers(run: Any) -> Figure:
    from clipedu.plots.norms import plot_layers

    rows = run.layers[run.layers["kind"] != "1-D"]
    if not len(rows):
        raise ClipeduError("no norms of single layers were kept")
    return plot_layers(rows)


def _root_distances(run: Any) -> Figure:
    from clipedu.evaluation.embedding_space import kept_space
    from clipedu.plots.geometry import plot_root_distances

    return plot_root_distances({run.experiment.geometry: kept_space(run)})


def _generality(run: Any) -> Figure:
    from clipedu.evaluation.embedding_space import kept_space
    from clipedu.plots.geometry import plot_generality

    return plot_generality({run.experiment.geometry: kept_space(run)})


def _traversals(run: Any, images: int = 3) -> Figure:
    """Draw traversals to the root from the first images.

    The captions nearest to each path are written on it.
    """
    from clipedu.evaluation.embedding_space import kept_space
    from clipedu.evaluation.traversals import walk_to_root
    from clipedu.plots.geometry import plot_traversal

    space = kept_space(run)
    walks = {
        f"image {row}\n{shorten(space.captions[row], 38)}": walk_to_root(
            space.geometry, space.image[row], space.phrase, space.phrases, space.root
        )
        for row in range(min(images, len(space.image)))
    }
    return plot_traversal(walks)


def _description(run: Any) -> str:
    """Return two sentences: what was trained how, and what it was scored on."""
    from clipedu.training.objective import start_temperature

    e = run.experiment
    if blend := _blend_of(run):
        return _with_tests(_blended(run, blend), run)
    temperature = f", temperature {'learned from ' * e.learn_temperature}{start_temperature(e):g}"
    entailment = f", entailment {e.entailment:g}" if e.entailment else ""
    foils = f", foils {e.foils:g} ({', '.join(e.foil_kinds)})" if e.foils else ""
    of_data = f" (of the data {e.data_seed})" if e.data_seed and e.data == "scenes" else ""
    trained = (
        f"{e.image_encoder} (images) and {e.text_encoder} (captions) were trained on {e.data} with the loss "
        f"{display_name(e.loss)} ({e.geometry} geometry{temperature}{entailment}{foils}) and the optimizer {display_name(e.optimizer)} (learning "
        f"rate {e.lr:g}, weight decay {e.weight_decay:g}): {e.epochs} epochs in batches of {e.batch_size}, seed {e.seed}{of_data}, "
        f"{duration(run.seconds)}."
    )
    return _with_tests(trained, run)


def _blended(run: Any, blend: Mapping[str, Any]) -> str:
    """Return of which models this one is a blend."""
    parts = Recipe(blend["models"], blend["weights"], blend["statistics"], blend["command"]).words
    norms = {
        "recomputed": " Its batch-norm statistics were recomputed on training pictures.",
        "interpolated": " Its batch-norm statistics were interpolated like weights, which do not fit: it scores worse than it could.",
    }.get(blend["statistics"], "")
    return (
        f"This model was not trained: its weights are {parts}.{norms} Settings on this page are those of {blend['models'][0]}, and "
        "what is measured during training is on the pages of these runs."
    )


def _with_tests(trained: str, run: Any) -> str:
    """Return a description with what the run was scored on."""
    m, tests = run.metrics, []
    if "retrieval_images" in m:
        images, captions = m["retrieval_images"], m["retrieval_captions"]
        held = "" if run.experiment.holdout is None else " held out of the training pairs"
        tests.append(f"retrieval among {images:,.0f} images and {captions:,.0f} captions{held}")
    if "zeroshot_images" in m:
        images, classes = m["zeroshot_images"], m["zeroshot_classes"]
        with_prompts = f" ({prompts})" if (prompts := prompts_text(m)) else ""
        tests.append(f"zero-shot classification of {images:,.0f} images into {classes:,.0f} classes{with_prompts}")
    return f"{trained} It was scored on {' and '.join(tests)}." if tests else trained


def _score_blocks(run: Any, baseline: Mapping[str, Any] | None) -> list[Block]:
    m = run.metrics
    chance, errors = chance_levels(m), standard_errors(m)
    unit = METRICS["average"].unit
    averaged = f"{AVERAGED_PREFIX}average" in m
    columns = ["score", unit, "s.e.", "chance", *["averaged weights"] * averaged]
    columns += [f"baseline: {baseline['name']}"] if baseline else []
    rows = []
    for key in (*BY_RANK, "average"):
        if key in m:
            error = f"{errors[key]:.2f}" if key in errors else "–"
            row = [METRICS[key].heading, number(m[key]), error, f"{chance[key]:.3g}" if key in chance else "–"]
            row += [number(m.get(AVERAGED_PREFIX + key))] * averaged
            rows.append(row + ([number(baseline.get(key))] if baseline else []))
    shape = [(METRICS[key].heading, number(m[key], 3), METRICS[key].explanation) for key in SPACE if key in m]
    legend = list(LEGEND)
    if averaged:
        legend.append(
            f"averaged weights: scores of a moving average of the weights (ema_decay={run.experiment.ema_decay:g}); all else on this "
            "page is of the trained weights themselves."
        )
    blocks: list[Block] = [Table(columns, rows, best={len(rows) - 1}), Text("", items=legend)]
    if at_chance(score_table([run])):
        blocks.insert(0, Text("The average is no better than chance: this model has learned nothing.", warning=True))
    if shape:
        blocks.append(Table(("shape of the embeddings", "value", "what it is"), shape))
    return blocks
