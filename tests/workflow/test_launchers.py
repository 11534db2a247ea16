"""Real launchers start two processes that make one run: torchrun, Accelerate's, and the one for notebooks."""

import socket
import sys

import nbformat
import pytest
import torch
from nbclient import NotebookClient

from clipedu import fit, load_run
from clipedu.config.command_line import experiment_words
from tests.helpers.processes import environment, run_python
from tests.helpers.small_runs import QUIET
from tests.helpers.trackers import assert_is_log_of, of_tensorboard

pytestmark = pytest.mark.xdist_group("two processes")
PLAIN = ("GROUP_RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")


@pytest.fixture(scope="module")
def alone(small, tmp_path_factory):
    """The run of one process, without dropout."""
    options = {**small.text_options, "dropout": 0.0, "attention_dropout": 0.0}
    ex = small.replace(text_options=options, loss="sogclr", optimizer="sgd", lr=0.005)
    return fit(ex, tmp_path_factory.mktemp("alone") / "run", **QUIET)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def launched(words, experiment, folder):
    """Run `clipedu train` in two processes, and return its run and what was printed."""
    plain = {name: value for name, value in environment().items() if name not in PLAIN}
    changes = experiment.changed()
    done = run_python("-m", *words, "-m", "clipedu", "train", "--folder", folder, *experiment_words(changes), env=plain)
    assert done.returncode == 0, done.stderr
    return load_run(folder), done


def assert_is_run_of_both(run, alone):
    """Check that a run is that of one process, up to rounding, and was made by two."""
    assert run.status == "finished" and list(run.history) == list(alone.history)
    for name, error in {"lr": 0.0, "loss": 1e-4, "image_norm": 1e-4, "text_norm": 1e-4}.items():
        ours, theirs = (torch.tensor(one.history[name].to_numpy()) for one in (run, alone))
        torch.testing.assert_close(ours, theirs, rtol=error, atol=error)
    assert len(run.norms) == len(alone.norms) and len(run.layers) == len(alone.layers)
    assert not list(run.folder.rglob("*.partial"))


def test_torchrun_and_the_first_process_alone_logs(alone, tmp_path, port):
    tracked = []
    try:
        import tensorboard  # noqa: F401

        tracked = ["tensorboard"]
    except ImportError:
        pass
    words = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    run, done = launched(words, alone.experiment.replace(track=tracked), tmp_path / "run")
    assert_is_run_of_both(run, alone)
    assert done.stdout.count("Trained in") == 1
    if tracked:
        assert_is_log_of(of_tensorboard(run.folder), run, double=False)
        assert len(list((run.folder / "tensorboard").glob("events*"))) == 1


def test_accelerate_launch(alone, tmp_path, port):
    pytest.importorskip("accelerate")
    words = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    words += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", port]
    run, done = launched(words, alone.experiment, tmp_path / "run")
    assert_is_run_of_both(run, alone)
    assert done.stdout.count("Trained in") == 1


CELLS = [
    "import torch; torch.set_num_threads(2)\nx = torch.ones(500, 500, requires_grad=True); (x @ x).exp().sum().backward()",
    """
import os
from accelerate import notebook_launcher
from clipedu import Experiment, fit

def train():
    fit(Experiment.from_json(SETTINGS), FOLDER, progress=False, report=False)
    with open(FOLDER + " by " + os.environ["RANK"], "w") as file:
        file.write(str(torch.get_num_threads()))

notebook_launcher(train, num_processes=2, use_port=PORT)
""",
]


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_notebook_launcher_after_torch_was_used(alone, tmp_path, port):
    """OpenMP's threads of the notebook do not come with the fork: without care the processes wait for them without end."""
    pytest.importorskip("accelerate")
    names = {"SETTINGS": alone.experiment.to_json(), "FOLDER": str(tmp_path / "run"), "PORT": str(port)}
    given = "\n".join(f"{name} = {value!r}" for name, value in names.items())
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (given, *CELLS)])
    plain = {name: value for name, value in environment().items() if name not in PLAIN}
    NotebookClient(book, timeout=120, kernel_name="python3").execute(env=plain)
    assert {(path.name, path.read_text()) for path in tmp_path.glob("* by *")} == {("run by 0", "1"), ("run by 1", "1")}
    assert_is_run_of_both(load_run(tmp_path / "run"), alone)
