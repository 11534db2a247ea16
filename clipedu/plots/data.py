"""Figures of data: pictures, captions, copies, dead links, augmentation.

Every function takes pairs or numbers (most of them from `clipedu.data.survey`) and returns a matplotlib `Figure`. Pictures are
shown pixel by pixel, as the model gets them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import torch

from clipedu.data.augment import AUGMENTATIONS, OPERATIONS, augment, operate
from clipedu.data.survey import LINK_ROT, half_life, sampling_error, words
from clipedu.plots.style import COLOURS, dress, line_style, new_figure, panels, plain, shorten
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from clipedu.data.pairs import Pairs

ACROSS = 6  # pictures in a row


def show_pairs(pairs: Pairs, rows: Sequence[int]) -> Figure:
    """Show the pictures of some rows, each with its first caption.

    Raises ClipeduError: no rows.
    """
    if not len(rows):
        raise ClipeduError("there are no rows to show: give at least one")
    across = min(ACROSS, len(rows))
    down = -(-len(rows) // across)
    figure = new_figure(1.85 * across, 2.55 * down)
    for row, ax in zip(rows, panels(figure, len(rows), across), strict=True):
        captions = pairs.captions(row)
        title = fill(shorten(captions[0], 90), 24) if captions else f"row {row}"
        _show(ax, pairs.pixels(torch.tensor([row]))[0], title)
    return figure


def plot_lengths(captions: Mapping[str, Sequence[str]]) -> Figure:
    """Plot how many words captions have, as shares of the captions.

    The dotted line is what is left of 30 tokens for words.
    """
    figure = new_figure(7.2, 3.4)
    ax = figure.subplots()
    lengths = {name: np.array([len(words(caption)) for caption in texts]) for name, texts in captions.items()}
    bins = np.arange(0, max(length.max() for length in lengths.values()) + 2) - 0.5
    for number, (name, length) in enumerate(lengths.items()):
        colour, dashes = line_style(number)
        share = 100 * np.histogram(length, bins)[0] / len(length)
        label = f"{name}: median {np.median(length):g}, from {length.min()} to {length.max()}"
        ax.stairs(share, bins, color=colour, linestyle=dashes, linewidth=1.8, label=plain(label))
    ax.axvline(28.5, color="#666666", linestyle=":", label="28 word pieces fit into 30 tokens")
    ax.legend(fontsize=9)
    dress(ax, "Captions are short", "words in a caption (at most 30 are kept)", "share of captions, %")
    return figure


def plot_rank_frequency(counts: Mapping[str, Counter[str]]) -> Figure:
    """Plot how frequent words are over their rank, both axes logarithmic.

    The words of rank 1, 10, 100 and 1000 are named.
    """
    figure = new_figure(7.2, 4.0)
    ax = figure.subplots()
    for number, (name, counted) in enumerate(counts.items()):
        colour, dashes = line_style(number)
        ranked = counted.most_common()
        share = 100 * np.array([count for _, count in ranked]) / counted.total()
        once = sum(count == 1 for count in counted.values())
        label = f"{name}: {len(ranked):,} words, {once:,} of them once"
        ax.loglog(
            np.arange(1, len(share) + 1), share, color=colour, linestyle=dashes, linewidth=1.8, label=plain(label)
        )
        for rank in (1, 10, 100, 1000):
            if rank <= len(ranked):
                ax.annotate(
                    plain(ranked[rank - 1][0]),
                    (rank, share[rank - 1]),
                    xytext=(4, 5 if number == 0 else -13),
                    textcoords="offset points",
                    color=colour,
                    fontsize=9,
                )
    ax.margins(y=0.12)
    ax.legend(fontsize=9, loc="lower left")
    dress(ax, "Few words are frequent, most are rare", "rank of the word", "share of all words, %")
    return figure


def show_copies(pairs: Pairs, both: Sequence[tuple[int, int]], most: int = ACROSS) -> Figure:
    """Show rows that may be copies, one above the other.

    Args:
        pairs: where pictures and captions are taken from; of captions the beginnings are shown.
        both: the two rows of each copy.
        most: copies that are shown, the first ones.
    Raises:
        ClipeduError: no copies.
    """
    shown = [(int(first), int(second)) for first, second in both][:most]
    if not shown:
        raise ClipeduError("there are no copies to show: allow more bits to differ")
    figure = new_figure(max(4.0, 1.85 * len(shown)), 4.6)
    axes = figure.subplots(2, len(shown), squeeze=False)
    for column, rows in enumerate(shown):
        for row, ax in zip(rows, axes[:, column], strict=True):
            captions = pairs.captions(row) or [""]
            _show(ax, pairs.pixels(torch.tensor([row]))[0], f"row {row}\n{fill(shorten(captions[0], 60), 24)}")
    return figure


def plot_link_rot() -> Figure:
    """Plot what is left of lists of links, by their age.

    The curves are what a constant rate of loss would make of each list.
    """
    figure = new_figure(7.2, 3.6)
    ax = figure.subplots()
    years = np.linspace(0, 15, 100)
    for number, (what, after, lost) in enumerate(LINK_ROT):
        colour, dashes = line_style(number + 1)
        life = half_life(lost, after)
        ax.plot(years, 100 * 0.5 ** (years / life), color=colour, linestyle=dashes, linewidth=1.2)
        ax.plot(
            after,
            100 * (1 - lost),
            "o",
            color=colour,
            label=f"{what}: {100 * lost:.3g} % dead, half-life {life:.0f} years",
        )
    ax.axhline(50, color="#666666", linestyle=":")
    ax.set_ylim(0, 104)
    ax.legend(fontsize=9, loc="lower left")
    dress(
        ax,
        "Links die: a list that is fetched today is another data set",
        "years after the list was published",
        "links left, %",
    )
    return figure


def plot_sampling(captions: Sequence[str], sample: int, seed: int = 0) -> Figure:
    """Plot how frequent words are in a sample, over that in all captions.

    The band is the predicted error of a random sample.

    Args:
        captions: the population.
        sample: how many of them are drawn, without replacement.
        seed: of the sample.
    Raises:
        ClipeduError: a sample that is not smaller than the population.
    """
    population = len(captions)
    if not 1 <= sample < population:
        raise ClipeduError(f"sample={sample} cannot be drawn from {population} captions: give 1 to {population - 1}")
    drawn = np.random.default_rng(seed).permutation(population)[:sample]
    holds = [set(words(caption)) for caption in captions]
    everywhere = Counter(word for caption in holds for word in caption)
    there = Counter(word for place in drawn for word in holds[place])
    share = {word: count / population for word, count in everywhere.items() if count < population}
    x = np.array(list(share.values()))
    ratio = np.array([there[word] / sample for word in share]) / x
    error = np.array([sampling_error(p, sample, population) for p in x])
    inside = np.mean(np.abs(ratio - 1) <= 2 * error)

    figure = new_figure(7.2, 4.0)
    ax = figure.subplots()
    ax.plot(
        100 * x,
        ratio,
        ".",
        color=COLOURS[0],
        alpha=0.35,
        markersize=5,
        label=f"a word ({100 * inside:.0f} % inside the band)",
    )
    order = x.argsort()
    ax.fill_between(
        100 * x[order],
        1 - 2 * error[order],
        1 + 2 * error[order],
        color=COLOURS[1],
        alpha=0.2,
        label="two standard errors",
    )
    ax.axhline(1, color="#666666", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_ylim(-0.1, 4)
    ax.legend(fontsize=9)
    title = f"{sample:,} of {population:,} captions: frequent words agree, rare ones vary by chance"
    dress(ax, title, "captions with the word, % of all", "frequency in the sample / in all")
    return figure


def show_operations(picture: Tensor) -> Figure:
    """Show what each of RandAugment's operations does to one picture.

    The picture is uint8 [3, H, W]; movements are shown in both directions.
    """
    shown = {"as it is": picture.float()}
    for name in list(OPERATIONS)[1:]:
        moves = name in ("shear-x", "shear-y", "translate-x", "translate-y", "rotate")
        for sign in (1, -1) if moves else (1,):
            label = f"{name} {'+' if sign > 0 else '-'}" if moves else name
            shown[label] = operate(name, picture[None], sign)[0]
    figure = new_figure(1.6 * 5, 1.85 * 3)
    for (label, pixels), ax in zip(shown.items(), panels(figure, len(shown), 5), strict=True):
        _show(ax, pixels, label)
    return figure


def show_augmented(picture: Tensor, steps: int = ACROSS) -> Figure:
    """Show one picture as a run would see it in several steps.

    The picture is uint8 [3, H, W]; each kind of augmentation has a row.
    """
    kinds = AUGMENTATIONS[1:]
    figure = new_figure(1.5 * (steps + 1), 1.65 * len(kinds))
    axes = figure.subplots(len(kinds), steps + 1, squeeze=False)
    for how, line in zip(kinds, axes, strict=True):
        _show(line[0], picture, f"as it is\n{how}" if how == kinds[0] else how)
        for step, ax in enumerate(line[1:]):
            _show(ax, augment(picture[None], how, seed=0, step=step)[0], f"step {step}" if how == kinds[0] else "")
    return figure


def show_mirrored(pairs: Pairs, rows: Sequence[int], false: Sequence[bool]) -> Figure:
    """Show mirror images of rows with their first captions.

    Args:
        pairs: where pictures and captions are taken from.
        rows: their numbers.
        false: for each row, whether its caption is no longer true.
    Raises:
        ValueError: rows and verdicts are not equally many.
    """
    figure = new_figure(1.85 * len(rows), 3.2)
    axes = figure.subplots(1, len(rows), squeeze=False)[0]
    for row, wrong, ax in zip(rows, false, axes, strict=True):
        verdict = "FALSE" if wrong else "still true"
        caption = fill(shorten(pairs.captions(row)[0], 80), 24)
        _show(ax, pairs.pixels(torch.tensor([row]))[0].flip(2), f"{verdict}:\n{caption}")
        ax.title.set_color(COLOURS[1] if wrong else COLOURS[2])
    return figure


def _show(ax: Axes, pixels: Tensor, title: str) -> None:
    """Show a picture [3, H, W] in 0..255 without axes, its title above it."""
    ax.imshow(pixels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())
    ax.set_title(plain(title), fontsize=8)
    ax.axis("off")
