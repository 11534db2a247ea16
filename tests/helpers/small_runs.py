"""What tests do with small runs: stop them, and compare them bit for bit."""

import signal

import torch

from clipedu import load_run
from clipedu.training.trainer import Trainer

QUIET = {"progress": False, "report": False}


def stop_at(patch, step: int) -> None:
    original = Trainer._train_on

    def interrupt(self, *arguments):
        if self.step == step - 1:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    patch.setattr(Trainer, "_train_on", interrupt)


def assert_same(run, whole) -> None:
    """Bit for bit: the weights, and so the scores."""
    ours, theirs = load_run(run.folder).weights(), whole.weights()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert run.status == "finished" and run.metrics == whole.metrics
