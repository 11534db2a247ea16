"""`clipedu bench train`: a training step beside a bare PyTorch loop.

The bare loop is what one writes first: batches by indexing, the two towers, open_clip's `ClipLoss`, `backward`, torch's
`AdamW(fused=True)`. It records nothing. Ours is `Trainer.run` with everything that is on by default: a record of each
step, norms of the model's parts, and those of every layer each ten steps. Towers, data and augmentation are the same.

    laptop    the preset: 32 px, batches of 128, one thread
    course    ResNet-50 and DistilBERT with random weights, 224 px, batches of 16, two threads
    frozen    the laptop preset with both encoders frozen: projections on top of kept features, one thread

The two take turns, a block of ten steps each, so that other load on the machine meets both. A ratio is the median over pairs of
neighbouring blocks, with its quartiles. Seconds of the processor (all threads together) hardly feel other load at all.
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
from torch import Tensor, nn
from torch.nn.functional import normalize

from clipedu.bench.measure import machine, print_line
from clipedu.config.experiment import Experiment
from clipedu.data.augment import augment
from clipedu.data.tokenizer import Tokenizer, train_tokenizer
from clipedu.data.scenes.dataset import Scenes
from clipedu.models import DualEncoder
from clipedu.training.datasets import TrainingData
from clipedu.training.setup import prepare
from clipedu.training.trainer import Trainer
from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.markdown import markdown_row, markdown_table

BLOCK = 10  # steps: one of them has rows of every layer
WORDS = 30_522  # of DistilBERT's vocabulary


@dataclass(frozen=True)
class Case:
    """What is trained, with how many threads and blocks."""

    experiment: Experiment
    threads: int
    blocks: int
    block: int = BLOCK
    vocabulary: int | None = None


def cases() -> dict[str, Case]:
    course = {
        "image_encoder": "resnet50",
        "text_encoder": "distilbert",
        "image_size": 224,
        "text_length": 30,
        "batch_size": 16,
        "embedding_dim": 256,
        "train_size": 64,
        "augment": "crop-flip",
    }
    return {
        "laptop": Case(Experiment(epochs=1000, train_size=4000), 1, 12),
        "course": Case(Experiment(epochs=1000, **course), 2, 3, vocabulary=WORDS),
        "frozen": Case(Experiment(epochs=1000, train_size=4000, image_frozen=True, text_frozen=True), 1, 20, block=100),
    }


def bare_loop(trainer: Trainer, model: DualEncoder) -> Iterator[None]:
    """Make the steps of a bare PyTorch loop with the same towers and data."""
    from open_clip.loss import ClipLoss

    ex, pairs = trainer.experiment, trainer.pairs
    rows = torch.arange(len(pairs))
    frozen = trainer.precomputed
    pixels = pairs.pixels(rows) if frozen.image is None else frozen.image
    ids, mask, owner = pairs.all_tokens()
    lengths = mask.sum(1)
    first = torch.searchsorted(owner, torch.arange(len(pairs) + 1))
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": ex.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=ex.lr, fused=True)
    loss, scale = ClipLoss(), torch.tensor(1 / trainer.loss.temperature)
    model.train()
    step = 0
    while True:
        order = torch.randperm(len(pairs))
        for start in range(0, len(pairs) - ex.batch_size + 1, ex.batch_size):
            index = order[start : start + ex.batch_size]
            caption = first[index] + torch.randint(5, (len(index),))
            image = pixels[index]
            if frozen.image is None:
                image = augment(image, ex.augment, seed=0, step=step)
            if frozen.text is None:
                longest = lengths[caption].max()
                text = (ids[caption, :longest], mask[caption, :longest])
            else:
                text = (frozen.text[0][caption],)
            image, text = model((image,), text)
            total = loss(normalize(image), normalize(text), scale)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            step += 1
            yield


def trainer_of(case: Case) -> Trainer:
    ex = case.experiment
    pairs = Scenes(size=ex.train_size, image_size=ex.image_size)
    tokenizer = train_tokenizer([c for row in range(len(pairs)) for c in pairs.captions(row)], ex.text_length)
    if case.vocabulary:
        more = case.vocabulary - tokenizer.vocab_size
        tokenizer.tokenizer.add_tokens([f"[unused{k}]" for k in range(more)])
        tokenizer = Tokenizer(tokenizer.tokenizer, ex.text_length)
    return prepare(ex, TrainingData(train=pairs, tokenizer=tokenizer), progress=False)


def time_block(steps: Iterator[Any], count: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(steps)
    return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count


def bench_train(names: Sequence[str] = ("laptop", "course", "frozen"), *, blocks=None, write=print_line):
    for name in names:
        case = cases()[name]
        torch.set_num_threads(case.threads)
        trainer = trainer_of(case)
        bare = bare_loop(trainer, copy.deepcopy(trainer.model))
        ours = trainer.run()
        time_block(bare, 3), time_block(ours, 3)
        rounds = []
        for n in range(blocks or case.blocks):
            pair = [0, 0]
            for k in (0, 1) if n % 2 else (1, 0):
                pair[k] = time_block((ours, bare)[k], case.block)
            rounds.append(pair)
        r = np.array(rounds)  # rounds, who, what
        ratio = r[:, 0] / r[:, 1]
        q = np.quantile(ratio, [0.25, 0.5, 0.75], axis=0)
        m = np.median(r, axis=0) * 1e3
        write(f"{name}: ours {m[0,0]:.2f} ms (cpu {m[0,1]:.2f}), bare {m[1,0]:.2f} (cpu {m[1,1]:.2f}); wall ratio {q[1,0]:.3f} [{q[0,0]:.3f} {q[2,0]:.3f}]; cpu ratio {q[1,1]:.3f} [{q[0,1]:.3f} {q[2,1]:.3f}]")


if __name__ == "__main__":
    import sys
    bench_train(sys.argv[1:] or ("laptop", "course", "frozen"))
