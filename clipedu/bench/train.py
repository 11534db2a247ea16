"""`clipedu bench train`: a training step beside other loops (`loops.py`).

Ours is `Trainer.run` with everything that is on by default: a record of each step, norms of the model's parts, and
those of every layer each ten steps.

    laptop    the preset: 32 px, batches of 128, one thread                                             against a bare loop
    photographs  ResNet-50 and DistilBERT with random weights, 224 px, batches of 16, two threads       against a bare loop
    frozen    the laptop preset with both encoders frozen, their features kept, one thread              against a bare loop
    course    only with CUDA: the course's sizes, 256 px, batches of 128      against the course's way, and open_clip's loop

The loops take turns, a block of steps each, so that other load on the machine meets all of them. A ratio is the median over
rounds, with quartiles, of our seconds by theirs. Seconds of the processor are those of all threads of the process; with one
thread they hardly feel other load. Below, the share of our steps that waited for a batch, and what the steps compute (of
matrix products and convolutions) as a share of what a large matrix product reaches on the same machine.
"""

from __future__ import annotations

import copy
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from clipedu.bench.loops import Loop, bare_loop, clip_loss, course_loop, open_clip_loop
from clipedu.bench.measure import machine, print_line
from clipedu.config.experiment import Experiment
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.tokenizer import Tokenizer, train_tokenizer
from clipedu.training.datasets import TrainingData
from clipedu.training.objective import start_temperature
from clipedu.training.setup import prepare
from clipedu.training.trainer import Trainer
from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.markdown import markdown_row, markdown_table

WORDS = 30_522  # of DistilBERT's own vocabulary
WARM_UP = 3  # steps
_TOWERS = {"image_encoder": "resnet50", "text_encoder": "distilbert", "text_length": 30, "embedding_dim": 256}


@dataclass(frozen=True)
class Case:
    """What is trained, and against what.

    Attributes:
        settings: of the experiment.
        against: name -> loop.
        steps: in a block. Ten have one with rows of every layer among them.
        rounds: of blocks.
        threads: of torch; None keeps the current number.
        words: size of the vocabulary; None is that of the scenes' captions.
        device: where it makes sense.
    """

    settings: dict[str, Any]
    against: dict[str, Loop]
    steps: int = 10
    rounds: int = 12
    threads: int | None = 1
    words: int | None = None
    device: str = "cpu"


_BARE: dict[str, Loop] = {"bare loop": bare_loop}
CASES = {
    "laptop": Case({"train_size": 4000}, _BARE),
    "photographs": Case(
        {**_TOWERS, "image_size": 224, "batch_size": 16, "train_size": 64, "augment": "crop-flip", "norms_every": 10},
        _BARE,
        rounds=3,
        threads=2,
        words=WORDS,
    ),
    "frozen": Case({"train_size": 4000, "image_frozen": True, "text_frozen": True}, _BARE, steps=100, rounds=20),
    "course": Case(
        {**_TOWERS, "image_size": 224, "batch_size": 128, "train_size": 2048, "augment": "crop-flip"},
        {"course's way": course_loop, "open_clip's loop": open_clip_loop, "bare loop": bare_loop},
        steps=20,
        threads=None,
        words=WORDS,
        device="cuda",
    ),
}
"""All cases by name."""


def bench_train(
    cases: Sequence[str] | None = None,
    *,
    rounds: int | None = None,
    fused: bool = False,
    write: Callable[[str], None] = print_line,
) -> list[dict[str, Any]]:
    """Measure, write a Markdown table line by line, and return its rows.

    Args:
        cases: names in `CASES`; None takes all that fit the machine.
        rounds: how often each loop has its turn; None as the case has it.
        fused: give our optimizer torch's fused kernel too, which rounds otherwise than its default.
        write: called with each line; prints by default.

    Returns:
        dicts with case, against, ours and theirs (seconds a step), ratio, low and high (its quartiles), processor (ratio of
        the processor's seconds), waited (share of our time) and ceiling (share of a matrix product's speed).

    Raises:
        ClipeduError: an unknown case, one for another device, no round, or open_clip is not installed.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = [name for name, case in CASES.items() if case.device == device] if cases is None else list(cases)
    for name in chosen:
        if name not in CASES:
            raise unknown_name("case", name, CASES)
        if CASES[name].device == "cuda" and device == "cpu":
            raise ClipeduError(
                f"case {name!r} needs a GPU with CUDA; without one there are laptop, photographs and frozen"
            )
    if rounds is not None and rounds < 1:
        raise ClipeduError(f"rounds={rounds} must be at least 1")
    clip_loss()  # raises if open_clip is missing
    before = torch.get_num_threads()
    settings = {"optimizer_options": {"fused": True}} if fused else {}
    write(_header(device))
    columns = [
        "case",
        "threads",
        "ours, ms",
        "against",
        "theirs, ms",
        "ratio",
        "quartiles",
        "processor",
        "waited",
        "ceiling",
    ]
    write(markdown_table(columns, []))
    rows = []
    try:
        for name in chosen:
            case = CASES[name]
            torch.set_num_threads(case.threads or before)
            for row in _measure(case, case.rounds if rounds is None else rounds, settings):
                rows.append({"case": name, **row})
                write(_line(rows[-1]))
    finally:
        torch.set_num_threads(before)
    return rows


def trainer_of(case: Case, settings: dict[str, Any] | None = None) -> Trainer:
    """Prepare a case's experiment, with changed settings, on drawn scenes."""
    ex = Experiment(**{"epochs": 100_000, **case.settings, **(settings or {})})
    pairs = Scenes(size=ex.train_size, image_size=ex.image_size)
    tokenizer = train_tokenizer([c for row in range(len(pairs)) for c in pairs.captions(row)], ex.text_length)
    if case.words is not None:
        tokenizer.tokenizer.add_tokens([f"[unused{k}]" for k in range(case.words - tokenizer.vocab_size)])
        tokenizer = Tokenizer(tokenizer.tokenizer, ex.text_length)
    return prepare(ex, TrainingData(train=pairs, tokenizer=tokenizer), progress=False)


def _measure(case: Case, rounds: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
    trainer = trainer_of(case, settings)
    ex = trainer.experiment
    trainer.look_late()  # as `fit` does
    loops: list[Iterator[Any]] = [trainer.run()]
    for loop in case.against.values():
        model = copy.deepcopy(trainer.model)
        loops.append(loop(ex, trainer.pairs, model, trainer.precomputed, start_temperature(ex)))
    with FlopCounterMode(display=False) as counter:
        next(loops[0])
    for steps in loops:
        _block(steps, WARM_UP)
    waited = 0.0
    blocks = np.empty((rounds, len(loops), 2))
    for turn in range(rounds):
        order = range(len(loops)) if turn % 2 else reversed(range(len(loops)))
        for k in order:
            before = trainer.waited
            blocks[turn, k] = _block(loops[k], case.steps)
            waited += trainer.waited - before
    for steps in loops:
        steps.close()  # type: ignore[attr-defined]  # all are generators
    seconds = np.median(blocks, axis=0)
    speed = counter.get_total_flops() / seconds[0, 0]
    found = []
    for k, name in enumerate(case.against, 1):
        low, middle, high = np.quantile(blocks[:, 0] / blocks[:, k], (0.25, 0.5, 0.75), axis=0)
        found.append(
            {
                "against": name,
                "threads": torch.get_num_threads(),
                "ours": float(seconds[0, 0]),
                "theirs": float(seconds[k, 0]),
                "ratio": float(middle[0]),
                "low": float(low[0]),
                "high": float(high[0]),
                "processor": float(middle[1]),
                "waited": waited / float(blocks[:, 0, 0].sum() * case.steps),
                "ceiling": speed / _ceiling(trainer),
            }
        )
    return found


def _block(steps: Iterator[Any], count: int) -> tuple[float, float]:
    """Return seconds of a step, by the clock and of the processor, as the mean of `count`."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(steps)
    wait()
    return (time.perf_counter() - clock) / count, (time.process_time() - processor) / count


def _ceiling(trainer: Trainer) -> float:
    """Return operations a second of a large matrix product, in the precision of the step."""
    device = trainer.device
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a = torch.randn(size, size, device=device, dtype=dtype)

    def products() -> Iterator[None]:
        while True:
            a @ a
            yield

    steps = products()
    _block(steps, 2)
    return 2 * size**3 / min(_block(steps, 5)[0] for _ in range(3))


def _header(device: str) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("clipedu", "torch", "open_clip_torch"))
    return (
        f"{machine(device)}, {os.cpu_count()} cores; {versions}, Python {platform.python_version()}. Steps of training in "
        "turn; ratio = ours / theirs, by the clock, median and quartiles; processor = the same of processor time.\n"
    )


def _line(row: dict[str, Any]) -> str:
    ours, theirs = (f"{1e3 * row[key]:.1f}" for key in ("ours", "theirs"))
    return markdown_row(
        [
            *(row["case"], str(row["threads"]), ours, row["against"], theirs, f"**{row['ratio']:.2f}**"),
            f"{row['low']:.2f} to {row['high']:.2f}",
            *(f"{row['processor']:.2f}", f"{row['waited']:.1%}", f"{row['ceiling']:.0%}"),
        ]
    )
