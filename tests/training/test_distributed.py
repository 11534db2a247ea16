"""One run in two processes: the numbers of one process, one folder, and ends that all share."""

import os
import socket

import pytest
import torch

from clipedu import Experiment, fit, load_run, resume
from clipedu.losses import LOSSES
from clipedu.training import setup
from clipedu.training.datasets import load_training_data
from clipedu.training.distributed import check_shared, load_shared_data
from clipedu.training.setup import prepare
from clipedu.utils.ranks import joined, meet
from tests.helpers.errors import message_of
from tests.helpers.shard_maker import make_shards
from tests.helpers.small_runs import QUIET, stop_at

pytestmark = pytest.mark.xdist_group("two processes")  # one pair of processes for all

STEPS = 50
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}
CASES = {
    **{name: {"loss": name, "image_frozen": True} for name in LOSSES},  # the text tower alone: quick
    "batch norm": {"loss": "sogclr"},
    "learned temperature": {"loss": "sogclr", "learn_temperature": True, "clip_grad": 0.5},
    "lorentz": {"loss": "clip", "geometry": "lorentz", "entailment": 0.2, "learn_temperature": True},
    "parts": {"loss": "onlineclr", "accumulate": 2, "image_frozen": True},
}
FOILS = {
    "data": "scenes",
    "train_size": 16,
    "image_size": 32,
    "epochs": 5,
    "foils": 1.0,
    "learn_temperature": True,
    "image_frozen": True,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    own = make_shards(tmp_path_factory.mktemp("data") / "own", 16)
    make_shards(own, 4, name="own", split="val", captions=2)
    return Experiment(
        data=str(own), batch_size=8, epochs=STEPS // 2, image_size=16, embedding_dim=8, text_length=12, device="cpu",
        norms_every=10, text_options={"dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32, **NO_DROPOUT},
    )  # fmt: skip


def in_double(build):
    return lambda *values, **options: build(*values, **options).double()


def curve(experiment, data):
    """The loss, what is watched and the gradient's norm of each step, computed in float64; and the loss's own state."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        for name in ("build_model", "build_objective"):
            patch.setattr(setup, name, in_double(getattr(setup, name)))
        torch.set_default_dtype(torch.float64)
        try:
            trainer = prepare(experiment, data, progress=False)
            rows = [[r.loss, *r.watch.values(), r.norms["all"]["gradient"]] for r in trainer.run()]
        finally:
            torch.set_default_dtype(torch.float32)
    return {"rows": torch.tensor(rows, dtype=torch.float64), "state": trainer.loss.state_dict()}


def drawn(experiment):
    """Scenes whose pictures are there: they are drawn in float32."""
    data = load_shared_data(experiment)
    data.train.pixels(torch.arange(1))
    return data


def work(number, folder, port, small):
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "LOCAL_RANK": str(number)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    seen = {}
    with joined():
        data = load_shared_data(small)
        for name, changes in CASES.items():
            seen[name] = curve(small.replace(**changes), data)
        foiled = small.replace(**FOILS)
        seen["foils"] = curve(foiled, drawn(foiled))
        seen["uneven"] = message_of(fit, small.replace(batch_size=5), f"{folder}/uneven")
        seen["uneven parts"] = message_of(check_shared, small.replace(batch_size=6, accumulate=2))
        seen["no rows"] = message_of(check_shared, small.replace(batch_size=2))
        short = small.replace(epochs=3, loss="sogclr")
        fit(short, f"{folder}/both", **QUIET)
        with pytest.MonkeyPatch.context() as patch:
            if number == 1:  # a signal to one of them stops both after the same step
                stop_at(patch, 3)
            with pytest.raises(KeyboardInterrupt):
                fit(short, f"{folder}/stopped", **QUIET)
        meet()
        seen["status"] = load_run(f"{folder}/stopped").note
        meet()
        resume(f"{folder}/stopped", **QUIET)
        seen["resumed"] = resume(f"{folder}/of one", **QUIET).status
        seen["diverged"] = message_of(fit, small.replace(lr=1e30, optimizer="sgd"), f"{folder}/diverged", **QUIET)
    torch.save(seen, f"{folder}/{number}.pt")


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    """What two processes have seen and made."""
    path = tmp_path_factory.mktemp("two")
    short = small.replace(epochs=3, loss="sogclr")
    fit(short, path / "alone", **QUIET)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            fit(short, path / "of one", **QUIET)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (str(path), port, small), nprocs=2)
    return path


@pytest.fixture(scope="module")
def seen(folder):
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


@pytest.fixture(scope="module")
def data(small):
    return load_training_data(small)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_curve_of_one(small, data, seen, name):
    alone = curve(small.replace(**CASES[name]), data)
    assert len(alone["rows"]) == STEPS
    for both in seen:
        torch.testing.assert_close(both[name]["rows"], alone["rows"], rtol=1e-6, atol=1e-6)
        for key, value in alone["state"].items():
            torch.testing.assert_close(both[name]["state"][key], value, rtol=1e-6, atol=1e-6)


def test_foils_of_two_processes_are_those_of_one(small, seen):
    """The rows that have a foil are not shared equally, and the mean is over all of them."""
    foiled = small.replace(**FOILS)
    alone = curve(foiled, drawn(foiled))
    for both in seen:
        torch.testing.assert_close(both["foils"]["rows"], alone["rows"], rtol=1e-6, atol=1e-6)


def test_batches_that_cannot_be_shared(folder, seen):
    for both in seen:
        assert both["uneven"] == (
            "batch_size=5 cannot be shared equally by 2 processes: give a multiple of 2, such as 4 or 6, or start another "
            "number of processes"
        )
        assert "batch_size=6 with accumulate=2 cannot" in both["uneven parts"] and "4 or 8" in both["uneven parts"]
        assert "batch_size=2 leaves 1 pair to each of 2 processes" in both["no rows"]
    assert not (folder / "uneven").exists()


def scores(path):
    return torch.tensor(list(load_run(path).metrics.values()), dtype=torch.float64)


@pytest.mark.parametrize("name", ["both", "stopped", "of one"])
def test_one_folder_that_goes_from_one_to_two_processes_and_back(folder, seen, name):
    run, alone = load_run(folder / name), load_run(folder / "alone")
    assert run.status == "finished" and len(run.history) == 6
    torch.testing.assert_close(
        torch.tensor(run.history["loss"]), torch.tensor(alone.history["loss"]), rtol=1e-4, atol=1e-4
    )
    assert list(run.history) == list(alone.history) and len(run.layers) == len(alone.layers)
    assert not list(run.folder.rglob("*.partial"))
    again = resume(run.folder, epochs=4, **QUIET)  # in one process
    assert again.status == "finished" and len(again.history) == 8


def test_ends_are_shared(folder, seen):
    for both in seen:
        assert both["status"] == "by the user after step 3 of 6" and both["resumed"] == "finished"
        assert "is not finite" in both["diverged"]
    assert load_run(folder / "diverged").status == "failed"
