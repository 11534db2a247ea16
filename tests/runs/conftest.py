"""A new run, and a model and a tokenizer to keep in it."""

import pytest
import torch

from clipedu.data.tokenizer import train_tokenizer
from clipedu.models import build_model
from clipedu.runs.folders import new_run
from clipedu.runs.run import Run
from tests.runs.example_run import EX


@pytest.fixture
def run(tmp_path) -> Run:
    return new_run(EX, tmp_path / "run")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["a red circle", "a blue square on green", "two stars"] * 3, 12)


@pytest.fixture(scope="module")
def model(tokenizer):
    model = build_model(EX, tokenizer.vocab_size)
    model.tokenizer = tokenizer
    with torch.no_grad():
        for p in model.parameters():
            p += 0.01
    return model.eval()


@pytest.fixture(scope="module", autouse=True)
def scored_on_few(few_scenes):
    """All runs of this folder are scored on few scenes."""
