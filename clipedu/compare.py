"""Comparisons over seeds: the same experiment with one thing changed, each several times, in one table.

    cells = comparison_cells("geometries", Experiment(), seeds=(0, 1, 2))
    runs = list(run_comparison(cells, "runs/geometries"))
    comparison_table(runs)          # mean and standard deviation of every score, a row a variant

One seed proves little where the differences are small: another seed draws other data, other first weights and another
order of batches, and the standard deviation over seeds is what a difference has to be held against. As in a grid, a
finished run is never run again, and the same command goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.experiment import Experiment
from clipedu.files import write_text
from clipedu.registry import ClipeduError, unknown_name

if TYPE_CHECKING:
    import pandas

    from clipedu.runs import Run


@dataclass(frozen=True)
class Comparison:
    """What is compared: the variants by name, each as changes to an experiment.

    Attributes:
        shared: what all variants have that the preset has not; a setting given by hand goes over it.
        seeds: how many there are by default.
        study: what more is made of the runs than a table of scores: writes figures and tables into the folder, and
            returns what to print of them.
    """

    description: str
    variants: dict[str, dict[str, Any]]
    shared: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    study: Callable[[Sequence[Run], Path], str] | None = None


def _norms_study(runs: Sequence[Run], folder: Path) -> str:
    from clipedu.norms_study import write_study

    return write_study(runs, folder)


def _decay_study(runs: Sequence[Run], folder: Path) -> str:
    from clipedu.decay_study import write_study

    return write_study(runs, folder)


def _vit_study(runs: Sequence[Run], folder: Path) -> str:
    from clipedu.vit_study import write_study

    return write_study(runs, folder)


def _vit_variants() -> dict[str, dict[str, Any]]:
    """Extra tokens x position encodings (`clipedu.models.vit`), and the fractal mask alone with summary tokens that are learned."""
    arms = {"plain": "none", "wide": "wide", "registers": "registers", "summary": "summary", "fractal": "fractal"}
    options = {
        f"{arm}+{positions}": {"extra": extra, "pos_embed": positions}
        for positions in ("none", "sincos2d", "learned", "alibi", "rope")
        for arm, extra in arms.items()
    }
    options["fractal-learned+none"] = {"extra": "fractal", "pos_embed": "none", "summary": "learned"}
    return {name: {"image_options": chosen} for name, chosen in options.items()}


# -d^2 starts at temperature 1, for long runs: a learned temperature moves by a factor of 1.2 in the laptop preset's 250 steps,
# and retrieval stays near 8 %. At 0.03 to 0.1 it reaches 45 %.
SQUARED = {"geometry": "euclidean-squared", "temperature": 0.1}
COURSE_LOSSES = ("clip", "cyclip", "vicreg", "sogclr", "onlineclr")

COMPARISONS = {
    "geometries": Comparison(
        "cosine, Euclidean d^2 and Lorentz d, the last two also with entailment; temperature learned",
        {
            "cosine": {"geometry": "cosine"},
            "euclidean-squared": SQUARED,
            "lorentz": {"geometry": "lorentz"},
            "euclidean-squared+entailment": {
                **SQUARED,
                "entailment": 0.2,
                "entailment_options": {"min_radius": 0.3, "final_min_radius": 0.1},
            },
            "lorentz+entailment": {"geometry": "lorentz", "entailment": 0.2, "entailment_options": {"min_radius": 0.1}},
        },
        {"learn_temperature": True},
    ),
    # A balance takes time: 2 * (sum of lr * weight_decay) is 16, 8 and 6 for the three. A second moment that forgets within 50
    # steps, because norms and gradients here change within hundreds.
    "norms": Comparison(
        "do weight norms settle where theory says: AdamW at a constant lr and under a cosine, AdamC under a cosine",
        {
            "adamw-constant": {"optimizer": "adamw", "schedule": "constant"},
            "adamw-cosine": {"optimizer": "adamw", "schedule": "cosine"},
            "adamc-cosine": {"optimizer": "adamc", "schedule": "cosine"},
        },
        {
            "batch_size": 32,
            "epochs": 8,
            "lr": 1e-3,
            "weight_decay": 2.0,
            "warmup": 0.05,
            "optimizer_options": {"betas": [0.9, 0.98]},
            "norms_every": 4,
        },
        seeds=(0,),
        study=_norms_study,
    ),
    "decay": Comparison(
        "the course's table explained: what weight decay does under SGD, Adam (coupled L2) and AdamW, loss by loss",
        {
            f"{loss}+{optimizer}": {"loss": loss, "optimizer": optimizer, "loss_options": {}}
            for loss in COURSE_LOSSES
            for optimizer in ("sgd", "adam", "adamw")
        }
        | {
            f"{loss}-scaled+{optimizer}": {"loss": loss, "optimizer": optimizer, "loss_options": {"scale": "clip"}}
            for loss in ("sogclr", "onlineclr")
            for optimizer in ("sgd", "adam")
        }
        | {
            f"sogclr+{optimizer}-no-decay": {
                "loss": "sogclr",
                "optimizer": optimizer,
                "loss_options": {},
                "weight_decay": 0.0,
            }
            for optimizer in ("adam", "adamw")
        },
        {"norms_every": 5},
        seeds=(0,),
        study=_decay_study,
    ),
    "vit": Comparison(
        "do registers, summary tokens or the fractal mask help a vision transformer, with five position encodings",
        _vit_variants(),
        {"image_encoder": "fractal_vit_nano_patch4_32", "epochs": 6, "lr": 1e-3, "clip_grad": 1.0, "norms_every": 50},
        study=_vit_study,
    ),
}

# What a table shows, in this order, of what the runs measured.
COLUMNS = {
    "tr@1": "TR@1",
    "ir@1": "IR@1",
    "top1": "top-1",
    "average": "average",
    "generality_within": "generality, within",
    "generality_pooled": "generality, pooled",
    "text_nearer_root": "text nearer root",
    "cone_captions": "captions in cone",
    "cone_captions_chance": "chance of it",
    "cone_images": "images in cone",
    "cone_images_chance": "chance of that",
    "modality_gap": "modality gap",
    "foil_place": "place told",
    "foil_relation": "relation told",
    "foil_binding": "binding told",
}


def comparison_cells(
    name: str,
    base: Experiment,
    seeds: Sequence[int],
    *,
    given: Collection[str] = (),
    only: Collection[str] | None = None,
    per_optimizer: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[int, dict[str, Experiment]]:
    """The experiments of a comparison: seed -> folder name "<variant>-seed<seed>" -> experiment.

    Args:
        given: fields of `base` that somebody has set: they go over what the comparison shares.
        only: names of variants; None is all of them.
        per_optimizer: what a preset changes for the cells of one optimizer, as in a grid.
    Raises:
        ClipeduError: an unknown comparison or variant, a field in `given` that every variant sets, or a base experiment
            that does not go with a variant.
    """
    from clipedu.objective import check_names

    if name not in COMPARISONS:
        raise unknown_name("comparison", name, COMPARISONS)
    comparison = COMPARISONS[name]
    for one in only or ():
        if one not in comparison.variants:
            raise unknown_name(f"variant of {name!r}", one, comparison.variants)
    varied = set.intersection(*map(set, comparison.variants.values())) | {"seed"}
    if clash := sorted(varied & set(given)):
        raise ClipeduError(f"{clash[0]}={getattr(base, clash[0])!r} can't be given: {name!r} compares by {clash[0]}")
    free = {key: value for key, value in comparison.shared.items() if key not in given}

    def cell(changes: dict[str, Any], seed: int) -> Experiment:
        own = (per_optimizer or {}).get(changes.get("optimizer", base.optimizer), {})
        own = {key: value for key, value in own.items() if key not in given and key not in comparison.shared}
        return base.replace(**{**free, **own, **changes, "seed": seed})

    cells = {
        seed: {
            f"{variant}-seed{seed}": cell(changes, seed)
            for variant, changes in comparison.variants.items()
            if only is None or variant in only
        }
        for seed in seeds
    }
    for of_seed in cells.values():
        for experiment in of_seed.values():
            check_names(experiment)
    return cells


def run_comparison(
    cells: Mapping[int, dict[str, Experiment]], folder: str | Path, *, progress: bool = True
) -> Iterator[Run]:
    """Run what is not finished yet of `comparison_cells`, seed by seed; yields every run."""
    from clipedu.grid import run_grid

    for of_seed in cells.values():
        yield from run_grid(of_seed, folder, progress=progress)


def variant(run: Run) -> str:
    """Which variant of a comparison a run is: its folder's name without the seed."""
    return run.name.rpartition("-seed")[0] or run.name


def comparison_table(runs: Iterable[Run], columns: dict[str, str] = COLUMNS) -> pandas.DataFrame:
    """Mean and standard deviation (n - 1; nan for one run) of every score over the runs of a variant.

    Returns:
        a frame with one row a variant, in the order of the runs; columns "runs" (how many have scores), then
        "<heading> mean" and "<heading> sd" for each of `columns` that a run has measured.
    """
    import pandas

    names, rows = [], []
    for run in runs:
        names.append(variant(run))
        rows.append({key: run.metrics.get(key) for key in columns})
    frame = pandas.DataFrame(rows, dtype=float).assign(variant=names)
    groups = frame.groupby("variant", sort=False)
    table = pandas.DataFrame({"runs": groups["average"].count()})
    for key, heading in columns.items():
        if frame[key].notna().any():
            table[f"{heading} mean"], table[f"{heading} sd"] = groups[key].mean(), groups[key].std()
    return table


def comparison_text(table: pandas.DataFrame) -> str:
    """The table as Markdown, "mean ± sd" a cell."""
    headings = [column.removesuffix(" mean") for column in table.columns if column.endswith(" mean")]
    lines = [
        "| variant | runs | " + " | ".join(headings) + " |",
        "|---|---|" + "---|" * len(headings),
    ]
    for name, row in table.iterrows():
        cells = [_cell(row[f"{heading} mean"], row[f"{heading} sd"]) for heading in headings]
        lines.append(f"| {name} | {int(row['runs'])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_comparison(table: pandas.DataFrame, folder: str | Path) -> Path:
    """Write comparison.md and comparison.csv into `folder`; returns the path of the former."""
    folder = Path(folder)
    write_text(folder / "comparison.md", comparison_text(table) + "\n")
    write_text(folder / "comparison.csv", table.to_csv())
    return folder / "comparison.md"


def _cell(mean: float, sd: float) -> str:
    if mean != mean:
        return "–"
    return f"{mean:.2f}" if sd != sd else f"{mean:.2f} ± {sd:.2f}"
