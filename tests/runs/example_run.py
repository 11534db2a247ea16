"""What the tests of run folders share."""

from pathlib import Path

import torch

from clipedu.config.experiment import Experiment

EX = Experiment(
    text_options={"dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32},
    embedding_dim=8,
    text_length=12,
    loss="cyclip",
)


def state_of(step: int) -> dict:
    return {"step": step, "optimizer": {"state": {0: {"m": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
            "random": torch.get_rng_state(), "none": None, "data": "abc"}  # fmt: skip


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
