"""What the tests of run folders share."""

from pathlib import Path

import pandas as pd
import torch

from clipedu.config.experiment import Experiment
from clipedu.norms import COLUMNS

EX = Experiment(
    text_options={"dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32},
    embedding_dim=8,
    text_length=12,
    loss="cyclip",
)


def state_of(step: int) -> dict:
    return {"step": step, "seconds": 0.5, "data": "abc", "loss": {}, "none": None,
            "optimizer": {"state": {0: {"m": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
            "random": torch.get_rng_state(), "random_device": None}  # fmt: skip


def frames(steps: int = 2) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """History, norms and layers with the columns that a run has."""
    step = list(range(steps))
    history = pd.DataFrame({"step": step, "lr": 0.1, "loss": 1 / 3})
    norms = pd.DataFrame({"step": step, "part": "all", "weight": 1.5, "gradient": 2.5, "update": 1e-3})
    words = {"layer": "a = b", "part": "text", "kind": "matrix", "group": "decayed", "law": "decoupled"}
    layers = pd.DataFrame({name: words.get(name, 0.25) for name in COLUMNS}, index=step).assign(step=step)
    return history, norms, layers


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
