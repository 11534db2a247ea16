"""Sizes that do not fit are named before anything is built."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from clipedu import Experiment
from clipedu.training import memory
from clipedu.training.memory import check_fits, check_model_memory, check_scenes, step_needs
from clipedu.utils.errors import ClipeduError
from tests.helpers.errors import message_of

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"embedding_dim": 10**9}, "embedding_dim=1000000000"),
        (
            {"text_options": {"dim": 10**6, "n_heads": 1}},
            "text_encoder='distilbert-nano' with text_options={'dim': 1000000",
        ),
        (
            {"image_encoder": "vit_nano_patch4_32", "image_options": {"embed_dim": 400_000}},
            "image_encoder='vit_nano_patch4_32' with",
        ),
    ],
)
def test_a_model_that_does_not_fit_names_its_setting(changes, setting):
    message = message_of(check_model_memory, Experiment(**changes), 1000, 100, CPU)
    assert message.startswith("this run needs at least ") and setting in message and "are free on cpu" in message


def test_memory_of_each_training_pair_counts():
    message = message_of(check_model_memory, Experiment(loss="sogclr"), 1000, 10**13, CPU)
    assert "loss='sogclr' with 10000000000000 training pairs" in message


def test_what_fits_passes(monkeypatch):
    check_model_memory(Experiment(), 1000, 1000, CPU)
    monkeypatch.setattr(memory, "free_memory", lambda device: 10**6)
    with pytest.raises(ClipeduError, match="needs at least .* MB of memory, and 1.0 MB are free"):
        check_model_memory(Experiment(), 1000, 1000, CPU)
    monkeypatch.setattr(memory, "free_memory", lambda device: None)  # not known: nothing is refused
    check_model_memory(Experiment(embedding_dim=10**9), 1000, 1000, CPU)


def test_a_batch_that_does_not_fit(monkeypatch):
    model = torch.nn.Linear(2, 2)
    needs = step_needs(Experiment(batch_size=1000, accumulate=10), model, torch.nn.Module(), optimizer=10, pair=10**6)
    assert needs["batch_size=1000 with accumulate=10"] == 10**8
    monkeypatch.setattr(memory, "free_memory", lambda device: 10**7)
    assert message_of(check_fits, needs, CPU).endswith("is for batch_size=1000 with accumulate=10: choose less of that")


def test_averaged_weights_count():
    model = torch.nn.Linear(10, 10, bias=False)
    one, two = (
        step_needs(Experiment(ema_decay=decay), model, torch.nn.Module(), optimizer=0, pair=0) for decay in (None, 0.9)
    )
    assert [b - a for a, b in zip(one.values(), two.values(), strict=True)] == [400, 0, 0, 0]


def test_scenes_without_end():
    check_scenes(None), check_scenes(1000)
    assert "train_size=100000000000000" in message_of(check_scenes, 10**14)


def test_libraries_are_imported_before_tensors_are_without_numbers():
    """torch 2.7 cannot import torch._dynamo, which timm needs, while "meta" is the default device."""
    code = """
import sys
from clipedu import Experiment
from clipedu.training import memory
def build_model(*args):
    sys.exit({"timm", "transformers"} <= sys.modules.keys() and "imported before")
memory.build_model = build_model
memory.check_model_memory(Experiment.preset("tiny"), 100, 64, "cpu")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "imported before"


def test_a_model_of_too_many_layers_is_not_built_for_hours():
    changed = Experiment(text_options={"n_layers": 10**7})
    message = message_of(check_model_memory, changed, 1000, 100, CPU)
    assert "text_options={'n_layers': 10000000}: more than 20,000 tensors of weights. Choose fewer layers" in message
