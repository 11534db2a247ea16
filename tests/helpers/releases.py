"""Small models to export, with random weights; and the code of an export, run as a user would."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from clipedu import Experiment, Run, fit
from clipedu.data.tokenizer import train_tokenizer
from clipedu.exports.release import PROBES, Release
from clipedu.models import build_model
from clipedu.workflow.opening import Scale
from tests.conftest import few_to_score_on

SMALL = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}  # of the text model
VIT = {"embed_dim": 16, "depth": 1, "num_heads": 2}


def release(scale: Scale | None = Scale(12.5, learned=True), clean: bool | str = False, **changes: Any) -> Release:  # noqa: B008
    """A model of an experiment with these changes, as if it were trained."""
    settings: dict[str, Any] = {"text_options": SMALL, "embedding_dim": 8, "text_length": 32}
    experiment = Experiment(**settings | changes)
    tokenizer = train_tokenizer(PROBES * 3, experiment.text_length, vocab_size=200)
    tokenizer.clean = clean
    model = build_model(experiment, tokenizer.vocab_size, special_tokens=tokenizer.special_tokens).eval()
    model.tokenizer = tokenizer
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # numbers that begin at zero or one would hide a fault
        for name, value in model.named_parameters():
            if value.ndim == 1 and not name.startswith("geometry."):
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return Release("a small model", model, experiment.image_size, experiment.resize, scale)


@functools.cache
def trained_run() -> Run:
    """A finished run, made once a process; for reading only."""
    folder = tempfile.mkdtemp(prefix="exports-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    experiment = Experiment(
        train_size=32, batch_size=16, epochs=1, embedding_dim=8, text_options=SMALL, evaluate_every=1, ema_decay=0.5
    )
    with few_to_score_on():
        return fit(experiment, Path(folder) / "mine", progress=False, report=False)


def photo(path: Path, size: int = 32) -> torch.Tensor:
    """Write a picture of noise, without loss; returns its pixels, uint8 [1, 3, S, S]."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(3).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def same(theirs: torch.Tensor, ours: torch.Tensor, most: float = 1e-5) -> bool:
    """Whether two embeddings differ by less than that share of the largest number."""
    return float((theirs - ours).abs().max()) <= most * float(ours.abs().max())
