"""Look into a model: norms, spectra, scale, embeddings and tokens.

    inspect_model(model, pairs, recipe=...)     any `DualEncoder`
    inspect_opened(open_model(name), pairs)     a run, whose recipe and start are known

What the recipe says of a layer is beside what it is (`clipedu.norms.recipe_balance`); what cannot be known is said in `Inspection.unknown`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clipedu.data.pairs import Pairs
from clipedu.evaluation.embedding_space import Space
from clipedu.evaluation.token_artifacts import artifacts
from clipedu.geometry import GEOMETRIES
from clipedu.inference.attention import Tokens, name_tokens, reads_attention, token_norms
from clipedu.inference.radial_gradients import is_orthogonal, radial_gradients
from clipedu.models import DualEncoder
from clipedu.norms.layers import watched_layers
from clipedu.norms.recipe_balance import FORGOTTEN, TrainingRecipe, expected_norms
from clipedu.norms.spectra import power_law_exponents
from clipedu.norms.spectral import SpectralNorms
from clipedu.optim.lr_scales import tower_scales
from clipedu.workflow.opening import Opened, Scale
from clipedu.workflow.scoring import score_set

if TYPE_CHECKING:
    import pandas

PICTURES = 16  # whose token norms are measured
ITERATIONS = 70  # of spectral norms, after the first 30: within about 1 %


@dataclass(frozen=True)
class TokenNorms:
    """Norms of the tokens of a vision transformer.

    Attributes:
        norms: [blocks, B, L].
        tokens: what each of the L is.
        pixels: uint8 [B, 3, H, W].
        table: of `clipedu.artifacts`, a row a block.
    """

    norms: Tensor
    tokens: Tokens
    pixels: Tensor
    table: pandas.DataFrame


@dataclass(frozen=True)
class Inspection:
    """What was found in a model.

    Attributes:
        name: what to call it.
        about: what it is, in a sentence.
        layers: a row a tensor with an axis: layer, part, kind ("matrix", "head", "1-D", "tied"), shape, size, trained, norm ||w||, rms
            (||w|| / sqrt(size)), spectral (largest singular value), stable_rank (norm^2 / spectral^2), alpha, normalised (whether a normalisation
            follows: True, False, or None where that was not measured), and of the recipe balance, end, left, turns, rotation, why (see
            `expected_norms`), expected (end, or balance where that is not known) and ratio (norm / expected).
        recipe: how it was trained; None where that is not known.
        scale: its logit scale; None where that is not known.
        scale_range: smallest and largest logit scale that its geometry allows.
        geometry: the name of its geometry.
        pairs: what it was shown, in words; "" for nothing.
        scores: by key of `METRICS`.
        space: its embeddings of these pairs.
        tokens: None for an image encoder whose tokens cannot be read.
        unknown: what is not known, a sentence each.
    """

    name: str
    about: str
    layers: pandas.DataFrame
    recipe: TrainingRecipe | None
    scale: Scale | None
    scale_range: tuple[float, float]
    geometry: str
    pairs: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    space: Space | None = None
    tokens: TokenNorms | None = None
    unknown: list[str] = field(default_factory=list)


def inspect_opened(one: Opened, pairs: Pairs | None = None, *, recipe: TrainingRecipe | None = None) -> Inspection:
    """Inspect a model that was opened by its name.

    Args:
        one: of `open_model`.
        pairs: with captions; None leaves out what needs any.
        recipe: of a model that is no run; a run has its own.
    Raises:
        ClipeduError: as `inspect_model`.
    """
    run, ex = one.run, one.experiment
    if run is None:
        return inspect_model(one.model, pairs, name=one.name, recipe=recipe, scale=one.scale)
    about = (
        f"{ex.image_encoder} (images) and {ex.text_encoder} (captions), trained on {ex.data} with the loss {ex.loss}"
    )
    if run.blend() is not None:
        unknown = ["It is a blend of models and was not trained as it is, so no recipe says where its norms should be."]
        return inspect_model(
            one.model, pairs, name=one.name, about=f"A blend: {about}", scale=one.scale, unknown=unknown
        )
    rows = run.layers
    recipe = TrainingRecipe(
        ex.optimizer,
        ex.lr,
        ex.weight_decay,
        ex.optimizer_options,
        run.history["lr"].to_numpy() if len(run.history) else None,
        ex.schedule,
        tower_scales(one.model, image=ex.image_lr_scale, text=ex.text_lr_scale, layer_decay=ex.layer_decay),
    )
    first = rows[rows["step"] == 0] if len(rows) else rows
    start = dict(zip(first["layer"], first["weight"], strict=True)) if len(first) else None
    return inspect_model(
        one.model,
        pairs,
        name=one.name,
        about=about,
        recipe=recipe,
        scale=one.scale,
        start=start,
        measured=rows if len(rows) else None,
    )


def inspect_model(
    model: DualEncoder,
    pairs: Pairs | None = None,
    *,
    name: str = "model",
    about: str = "",
    recipe: TrainingRecipe | None = None,
    scale: Scale | None = None,
    start: Mapping[str, float] | None = None,
    measured: pandas.DataFrame | None = None,
    unknown: Sequence[str] = (),
) -> Inspection:
    """Inspect any dual encoder.

    Args:
        model: with its tokenizer; it stays as it is.
        pairs: with captions: embeddings, token norms, and which layers a normalisation follows; None leaves these out.
        name, about: what to call it, and what it is.
        recipe: how it was trained.
        scale: its logit scale.
        start: ||w|| before training, by layer.
        measured: rows of `NormMonitor.frame()` from its training.
        unknown: what a caller knows not to be known.
    Raises:
        ClipeduError: pairs without captions, or a recipe with an unknown optimizer or values that it does not take.
        NotFinite: a weight or an embedding is not finite.
    """
    layers = _weights(model)
    radial = (
        {}
        if pairs is None
        else radial_gradients(model, pairs, logit_scale=20.0 if scale is None else scale.logit_scale)
    )
    layers["normalised"] = [
        is_orthogonal(radial[name], size) if name in radial else None
        for name, size in zip(layers["layer"], layers["size"], strict=True)
    ]
    if recipe is not None and layers["trained"].any():
        layers = layers.merge(expected_norms(model, recipe, start=start, measured=measured), on="layer", how="left")
    else:
        layers = layers.reindex(columns=[*layers, "group", "balance", "end", "left", "turns", "rotation", "why"])
    layers["why"] = [why if isinstance(why, str) else "" for why in layers["why"]]
    layers["expected"] = layers["end"].fillna(layers["balance"]).astype(float)
    layers["ratio"] = layers["norm"] / layers["expected"]
    found: dict[str, Any] = {}
    if pairs is not None:
        found["scores"], found["space"] = score_set(model, pairs, progress=False)
        found["pairs"] = f"{len(pairs):,} pairs of {pairs.name}/{pairs.split}"
        found["tokens"] = _tokens(model, pairs)
    if recipe is None and not unknown:
        unknown = ["No recipe is known: --optimizer, --lr and --weight-decay say how the model was trained."]
    notes = [*unknown, *_unknown(layers, recipe, scale, start, pairs), *_unread(model, pairs, layers)]
    low, high = (math.exp(end) for end in model.geometry.logit_scale_range)
    return Inspection(name, about, layers, recipe, scale, (low, high), _geometry_name(model), unknown=notes, **found)


def _weights(model: DualEncoder) -> pandas.DataFrame:
    """Return norms and spectra of all tensors of a model, as far as they are measured from the weights alone."""
    import pandas

    layers = watched_layers(model, frozen=True)
    matrices = [layer for layer in layers if layer.parameter.ndim > 1]
    norms = SpectralNorms([m.parameter for m in matrices])
    for _ in range(ITERATIONS):
        norms.measure()
    spectral = dict(zip([m.name for m in matrices], norms.measure().tolist(), strict=True))
    alpha = power_law_exponents(model) or {}
    rows = []
    for layer in layers:
        norm = float(torch.linalg.vector_norm(layer.parameter.detach().double()))
        largest = spectral.get(layer.name, math.nan)
        rows.append(
            {
                "layer": layer.name,
                "part": layer.part,
                "kind": layer.kind,
                "shape": "x".join(map(str, layer.parameter.shape)),
                "size": layer.parameter.numel(),
                "trained": layer.parameter.requires_grad,
                "norm": norm,
                "rms": norm / math.sqrt(layer.parameter.numel()),
                "spectral": largest,
                "stable_rank": (norm / largest) ** 2 if largest > 0 else math.nan,
                "alpha": next((alpha[n] for n in layer.name.split(" = ") if n in alpha), math.nan),
            }
        )
    return pandas.DataFrame(rows)


def _tokens(model: DualEncoder, pairs: Pairs) -> TokenNorms | None:
    """Measure token norms of the first pictures, where the image encoder can be read."""
    if not reads_attention(model, pairs.image_size):
        return None
    pixels, tokens = pairs.pixels(torch.arange(min(PICTURES, len(pairs)))), name_tokens(model)
    norms = token_norms(model, pixels)
    return TokenNorms(norms, tokens, pixels, artifacts(norms, tokens, pixels))


def _geometry_name(model: DualEncoder) -> str:
    kind = type(model.geometry)
    return next((name for name, entry in GEOMETRIES.items() if entry.build is kind), kind.__name__)


def _unknown(
    layers: pandas.DataFrame,
    recipe: TrainingRecipe | None,
    scale: Scale | None,
    start: Mapping[str, float] | None,
    pairs: Pairs | None,
) -> list[str]:
    """Say what is not known of norms, recipe and scale."""
    notes = []
    if scale is None:
        notes.append(
            "No logit scale is known: nothing says what the similarities were multiplied by, or the loss has no temperature."
        )
    if recipe is None:
        return notes
    if recipe.rates is None:
        notes.append(
            "The number of steps is not known (--steps). What is expected is the balance at the peak of the lr, where a long run at that lr "
            "would settle. A schedule that falls to 0 ends below it, unless the decay is corrected; a short run ends near its start."
        )
    elif start is None and (layers["left"] > FORGOTTEN).any():
        notes.append(
            f"The norms at the start are not known, and up to {100 * layers['left'].max():.0f} % of their squares are left: for these layers the "
            "balance at the peak of the lr is shown, which the run has not come to."
        )
    if recipe.rates is not None and layers["balance"].notna().any() and layers["left"].isna().all():
        notes.append(
            f"The end of the schedule is not predicted for {recipe.optimizer}, whose steps follow the gradients' size: what is expected is the balance "
            "at the peak lr, with the mean size that gradients had in the run."
        )
    reasons = layers[layers["why"].ne("") & ~layers["why"].isin(["not decayed"])].groupby("why", sort=False)["layer"]
    notes += [f"{why[:1].upper()}{why[1:]} ({_layers(list(names))})." for why, names in reasons]
    if pairs is None:
        notes.append(
            "Which layers a normalisation follows was not measured, since that needs pairs: the theory holds for these alone."
        )
    return notes


def _unread(model: DualEncoder, pairs: Pairs | None, layers: pandas.DataFrame) -> list[str]:
    """Say what could not be measured of this model."""
    notes = []
    if not layers["alpha"].notna().any():
        notes.append(
            'There is no alpha: it needs the package weightwatcher (pip install "clipedu[inspect]") and layers of 50 eigenvalues or more.'
        )
    if pairs is not None and not reads_attention(model, pairs.image_size):
        notes.append(
            f"Token norms were not measured: the image encoder, a {type(model.image_encoder).__name__}, is no vision transformer whose tokens can "
            "be read here."
        )
    return notes


def _layers(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} layers, the first is {names[0]}"
