r"""Does SogCLR know the global normaliser? `clipedu compare memory`.

SogCLR divides by u_i, a running average of the anchor's batches, in place of the mean over the whole data set. Both can be computed:
with the embeddings of all N training pairs at a checkpoint

    exact            log of the mean over all j != i of exp(h_ij / tau), in one streamed pass
    memory           log u_i, as the checkpoint has it
    fresh batch      the same mean over one random batch of the run's size, no memory
    in training      the same as that, with the model in training mode (dropout, statistics of the batch)

For each of the last three the table has the median of its difference to the exact one, in nats, and Spearman's rank correlation over
the anchors: 1 where it knows which anchors are hard. Both directions, images and texts as anchors, are averaged.

The memory is from the model in training mode and from its past: the third row says what the first of these does, and what is
left is the past.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from tqdm import tqdm

from clipedu.plots.memory import plot_memory
from clipedu.plots.style import save_figure
from clipedu.studies.comparison import Comparison, variant
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_text
from clipedu.utils.markdown import frame_table
from clipedu.utils.statistics import interval, rank_correlation

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

    from clipedu.data.pairs import Pairs
    from clipedu.geometry import Geometry
    from clipedu.losses.sogclr import SogCLR
    from clipedu.models import DualEncoder
    from clipedu.runs.run import Run

ESTIMATES = ("memory", "fresh batch", "in training")


def exact_normaliser(image: Tensor, text: Tensor, geometry: Geometry, temperature: float) -> Tensor:
    """Compute the log of the global normaliser of each anchor.

    It is log mean_{j != i} exp((S_ij - S_ii) / tau), in float64.

    Args:
        image, text: embeddings of the same N pairs, [N, D] each, N >= 2.
        geometry: computes S.
        temperature: tau.
    Returns:
        [2, N]: images as anchors, texts as anchors. No matrix [N, N] is kept.
    """
    from clipedu.losses.streaming import negatives_by_tiles

    log_sums, _ = negatives_by_tiles(deepcopy(geometry).double(), image.double(), text.double(), temperature)
    return log_sums - np.log(len(image) - 1)


def batch_normaliser(
    embed: Callable[[Tensor], tuple[Tensor, Tensor]],
    order: Tensor,
    batch_size: int,
    geometry: Geometry,
    temperature: float,
) -> Tensor:
    """Return the same mean over one batch for each anchor.

    Args:
        embed: rows [B] -> embeddings of their images and of their texts, [B, D] each.
        order: a permutation of all N rows; each `batch_size` of them are a batch.
        batch_size: B; rows that fill no batch are nan.
        geometry, temperature: as those of `exact_normaliser`.
    Returns:
        float64 [2, N].
    """
    import torch

    found = torch.full((2, len(order)), torch.nan, dtype=torch.float64)
    for start in range(0, len(order) - batch_size + 1, batch_size):
        rows = order[start : start + batch_size]
        found[:, rows] = exact_normaliser(*embed(rows), geometry, temperature)
    return found


def memory_table(run: Run) -> pandas.DataFrame:
    """Measure the memory at every checkpoint of a run.

    Args:
        run: trained with SogCLR (`form="log"`); its training pairs are opened again.
    Returns:
        a row a checkpoint and estimate: "variant", "seed", "step", "estimate" (of `ESTIMATES`), "difference" (its log minus the
        exact one, median over the anchors, nats), "rank correlation".
    Raises:
        ClipeduError: a run of another loss, or one whose data is gone or has changed.
    """
    import pandas
    import torch

    from clipedu.runs.checkpoint import checkpoints, read_state, read_weights, step_of
    from clipedu.runs.paths import located
    from clipedu.training.datasets import check_unchanged, load_train
    from clipedu.training.objective import build_objective

    model, experiment = run.model(), located(run)
    pairs = load_train(experiment)
    pairs.tokenize(model.tokenizer)
    check_unchanged(run.training_state("cpu"), pairs, experiment.data)
    generator = torch.Generator().manual_seed(experiment.seed)
    order = torch.randperm(len(pairs), generator=generator)
    made: list[dict[str, Any]] = []
    for path in sorted(checkpoints(run.folder), key=step_of):
        state = read_state(path, "cpu")
        if "log_u" not in state["loss"]:
            raise ClipeduError(
                f"{run.folder} was trained with loss={experiment.loss!r}, which keeps no log u: the study of the memory is of sogclr "
                "with form=log"
            )
        model.load_state_dict(read_weights(path))
        loss = cast("SogCLR", build_objective(experiment, model.geometry, len(pairs)))
        loss.load_state_dict(state["loss"])
        measured = _measure(model, pairs, order, experiment.batch_size, float(loss.temperature_value), loss.log_u)
        for name, (difference, correlation) in measured.items():
            one = {"variant": variant(run), "seed": experiment.seed, "step": step_of(path), "estimate": name}
            made.append({**one, "difference": difference, "rank correlation": correlation})
    return pandas.DataFrame(made)


def _measure(
    model: DualEncoder, pairs: Pairs, order: Tensor, batch_size: int, temperature: float, log_u: Tensor
) -> dict[str, tuple[float, float]]:
    """Compare the estimates at one checkpoint with the exact normaliser: difference and rank correlation."""
    import torch

    from clipedu.inference.embed import embed_pairs

    training = deepcopy(model).train()  # whose statistics move

    def as_trained(rows: Tensor) -> tuple[Tensor, Tensor]:
        ids, mask = pairs.tokens(rows)
        return training.encode_image(pairs.pixels(rows)), training.encode_text(ids, mask)

    embeddings = embed_pairs(model, pairs)
    image, text = embeddings.image, embeddings.first_text
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of dropout
        exact = exact_normaliser(image, text, model.geometry, temperature)
        how = order, batch_size, model.geometry, temperature
        fresh = batch_normaliser(lambda rows: (image[rows], text[rows]), *how)
        found = dict(zip(ESTIMATES, (log_u.double(), fresh, batch_normaliser(as_trained, *how)), strict=True))
    return {name: _compared(values.numpy(), exact.numpy()) for name, values in found.items()}


def _compared(values: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """Return the median difference and the rank correlation, means of both directions, over the anchors that have a value."""
    sides = []
    for one, other in zip(values, exact, strict=True):
        known = np.isfinite(one)
        sides.append((np.median((one - other)[known]), rank_correlation(one[known], other[known])))
    difference, correlation = np.mean(sides, axis=0)
    return float(difference), float(correlation)


def summary_table(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return the end of the runs: mean and 95 % interval over seeds.

    Args:
        rows: of `memory_table`, of any number of runs.
    Returns:
        a row a variant and estimate: "variant", "estimate", "seeds", and for "difference" and "rank correlation" the mean and, as
        "... interval", half of Student's 95 % interval (nan for one seed).
    """
    import pandas

    ends = rows[rows["step"] == rows.groupby(["variant", "seed"])["step"].transform("max")]
    made = []
    for (name, estimate), group in ends.groupby(["variant", "estimate"], sort=False):
        row: dict[str, Any] = {"variant": name, "estimate": estimate, "seeds": len(group)}
        for key in ("difference", "rank correlation"):
            row[key], row[f"{key} interval"] = interval(group[key])
        made.append(row)
    return pandas.DataFrame(made)


def write_study(runs: Sequence[Run], folder: str | Path) -> str:
    """Write memory.csv and memory.png; return the summary and their paths.

    Raises:
        ClipeduError: no run is finished, or as `memory_table`.
    """
    import pandas

    folder = Path(folder)
    runs = [run for run in runs if run.status == "finished"]
    if not runs:
        raise ClipeduError(f"no run in {folder} is finished: there is no memory to study")
    rows = pandas.concat(
        [memory_table(run) for run in tqdm(runs, desc="memory against the exact normaliser", unit="run")]
    )
    write_text(folder / "memory.csv", rows.to_csv(index=False))
    save_figure(plot_memory(rows), folder / "memory.png")
    return (
        f"{frame_table(summary_table(rows), 2)}\n\nFigure: {folder}/memory.png. Every checkpoint: {folder}/memory.csv\n"
        "After the last step; ± is half of Student's 95 % interval over the seeds"
    )


def _gamma(gamma: float, **changes: Any) -> dict[str, Any]:
    return {"loss_options": {"gamma": gamma, **changes}}


# One checkpoint an epoch, all of them kept: the study reads what each of them remembers.
COMPARISON = Comparison(
    "how well does SogCLR's memory know the global normaliser, by gamma, its schedule and the batch; beside one fresh batch",
    {
        "gamma-1": _gamma(1.0),
        "gamma-0.8": _gamma(0.8),
        "gamma-0.3": _gamma(0.3),
        "gamma-0.1": _gamma(0.1),
        "gamma-0.1-cosine": _gamma(0.1, gamma_schedule="cosine"),
        "gamma-0.3-batch-32": {**_gamma(0.3), "batch_size": 32},
        "gamma-0.3-batch-512": {**_gamma(0.3), "batch_size": 512},
    },
    {"loss": "sogclr", "train_size": 4096, "epochs": 8, "checkpoint_every": "600min", "keep_checkpoints": 1000},
    study=write_study,
)
