"""Small runs that began at the same weights, opened for a blend."""

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path

from clipedu import Experiment, fit
from clipedu.workflow.opening import open_model
from tests.helpers.shard_maker import make_shards, photo, sample, write_tar
from tests.helpers.small_runs import QUIET

RATES = (1e-2, 3e-3, 1e-3)


def small_runs(count=2, **settings):
    """Runs of four steps with other learning rates, made once a process: for reading only."""
    return [_made(lr, json.dumps(settings, sort_keys=True)) for lr in RATES[:count]]


def opened(count=2, **settings):
    """The same, each opened anew."""
    return [open_model(run.folder) for run in small_runs(count, **settings)]


@functools.cache
def pairs_folder():
    """A folder of 16 training pairs and 6 others to score on."""
    folder = make_shards(_folder() / "own", 16)
    files = [file for k in range(6) for file in sample(f"v{k}", photo(100 + k), [f"picture {k}", f"scored {k}"])]
    return write_tar(folder / "own-val-0.tar", files).parent


@functools.cache
def _made(lr, settings):
    plain = {
        "data": str(pairs_folder()), "batch_size": 4, "epochs": 1, "image_size": 16, "embedding_dim": 8, "text_length": 12,
        "device": "cpu", "text_options": {"dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32},
    }  # fmt: skip
    return fit(Experiment(**{**plain, **json.loads(settings), "lr": lr}), _folder() / f"lr-{lr:g}", **QUIET)


def _folder():
    """A folder that goes with the process."""
    folder = tempfile.mkdtemp(prefix="blends-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
