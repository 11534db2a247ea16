"""Two tasks for the fractal mask: same window, and quadrant.

A picture has 4 x 4 patches of one pixel each, in four windows of 2 x 2. A pixel is marked or not.

    same window   two pixels are marked: in the same window (1) or in two windows (0)?   chance 1/2
    quadrant      one pixel is marked: in which window (0 to 3, row by row)?             chance 1/4

What theory says before anything is trained:

    no position encoding at all               patches have no order for the model, so all pictures are alike: chance at both.
                                              Plain registers change nothing, since every patch sees them alike
    fractal mask, summary tokens all alike    windows are distinguished only as "mine" and "another": right at
                                              the first, chance at the second
    fractal mask, learned summary tokens      windows have names: right at both
    a code for each place                     right at both

So a model *can* answer. Whether 300 steps find it is another matter: an arm that can may still stand at chance for some seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from clipedu.models.vit import build_vit
from clipedu.utils.checks import checked_number
from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.finite import check_trained
from clipedu.utils.seeding import seeded

GRID, BASE = 4, 2
WINDOWS = (GRID // BASE) ** 2
NOISE = 0.05
SHAPE: dict[str, Any] = {
    "img_size": GRID,
    "patch_size": 1,
    "in_chans": 4,
    "embed_dim": 32,
    "depth": 3,
    "num_heads": 4,
    "base": BASE,
}
BATCH, TEST = 128, 4000  # samples a step, and to score on


def same_window(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw pictures with two marked pixels, and whether these share a window.

    Half of the labels are 1, alternating.

    Returns:
        pixels, float32 [count, 4, 4, 4]: channels (mark, 1 - mark, empty, empty) plus noise of standard deviation 0.05;
        labels, int64 [count].
    """
    noise = seeded(seed, 0)
    label = torch.arange(count) % 2
    windows, places = _two_of(WINDOWS, count, noise), _two_of(BASE * BASE, count, noise)
    same = label.bool()
    windows[same, 1] = windows[same, 0]  # two places of one window, for `places` are never equal
    loose = torch.randint(BASE * BASE, (count,), generator=noise)
    places[~same, 1] = loose[~same]  # in two windows the places may be equal
    return _pixels(_members()[windows, places], noise), label


def quadrant(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw pictures with one marked pixel, and the window that it is in.

    Windows are 0 to 3, row by row, all equally often, in turn.

    Returns:
        pixels, float32 [count, 4, 4, 4], as in `same_window`; labels, int64 [count].
    """
    noise = seeded(seed, 1)
    label = torch.arange(count) % WINDOWS
    place = torch.randint(BASE * BASE, (count,), generator=noise)
    return _pixels(_members()[label, place][:, None], noise), label


class Task(NamedTuple):
    """How samples are drawn, `draw(count, seed)`, and the number of classes."""

    draw: Callable[[int, int], tuple[Tensor, Tensor]]
    classes: int


TASKS = {"same window": Task(same_window, 2), "quadrant": Task(quadrant, WINDOWS)}


def accuracy_after_training(
    task: str,
    *,
    extra: str = "none",
    pos_embed: str = "none",
    summary: str | None = None,
    registers: int | None = None,
    seed: int = 0,
    steps: int = 300,
    lr: float = 2e-3,
) -> float:
    """Train a small vision transformer on a task and measure its accuracy.

    It has 3 blocks and is 32 wide. It is trained by AdamW with torch's other settings and a constant lr, with 128 fresh
    samples a step. First weights and samples are drawn from `seed`; the global random state is neither used nor
    changed.

    Args:
        task: "same window" or "quadrant".
        extra, pos_embed, summary, registers: of `clipedu.models.vit.build_vit`.
        seed: of first weights and samples; models that differ in one option see the same samples.
        steps: of training, at least 1.
        lr: constant learning rate.
    Returns:
        share of right answers on 4,000 fresh samples, 0 to 1. Chance is 1/2 and 1/4; the standard error of 4,000 samples is 0.8 and 0.7 hundredths there.
    Raises:
        ClipeduError: an unknown task, no steps, no number as lr, or options that do not go together.
        NotFinite: a weight became NaN or infinite.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    if steps < 1:
        raise ClipeduError(f"steps={steps}: training needs at least 1")
    checked_number("lr", lr, at_least=0)
    draw, classes = TASKS[task]
    chosen: dict[str, Any] = {"extra": extra, "pos_embed": pos_embed, "summary": summary, "registers": registers}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build_vit(**SHAPE, **chosen, num_classes=classes)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=lr)
    pixels, labels = draw(steps * BATCH, 2 * seed)
    for batch in torch.arange(steps * BATCH).split(BATCH):
        optimizer.zero_grad()
        cross_entropy(model(pixels[batch]), labels[batch]).backward()
        optimizer.step()
    check_trained(model, "the transformer", f"after {steps} steps (lr {lr:g})")
    pixels, labels = draw(TEST, 2 * seed + 1)
    with torch.no_grad():
        right = model.eval()(pixels).argmax(1) == labels
    return right.double().mean().item()


def _members() -> Tensor:
    """Return the patches of each window: int64 [windows, 4]."""
    patches = torch.arange(GRID * GRID).view(GRID // BASE, BASE, GRID // BASE, BASE)
    return patches.transpose(1, 2).reshape(WINDOWS, BASE * BASE)


def _two_of(number: int, count: int, noise: torch.Generator) -> Tensor:
    """Draw ordered pairs of different numbers below `number`.

    All are equally likely: int64 [count, 2].
    """
    return torch.rand(count, number, generator=noise).argsort(1)[:, :2]


def _pixels(marked: Tensor, noise: torch.Generator) -> Tensor:
    """Make pictures with these patches marked.

    [count, marks] int64 -> [count, 4, 4, 4].
    """
    mark = one_hot(marked, GRID * GRID).sum(1).float()
    pixels = torch.stack([mark, 1 - mark, torch.zeros_like(mark), torch.zeros_like(mark)], 1)
    pixels += NOISE * torch.randn(pixels.shape, generator=noise)
    return pixels.unflatten(2, (GRID, GRID))
