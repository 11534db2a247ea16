"""Cells at once in worker processes: the numbers of one after the other, stopped, killed, resumed, left out, as in one process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from clipedu import LOSSES, Experiment
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.scenes.sampling import SPLITS
from clipedu.runs.folders import load_run
from clipedu.studies.cells import Group, LeftOut, run_cells
from clipedu.studies.grid import cells, run_grid
from clipedu.studies.runner import run_comparison
from clipedu.training.datasets import load_data
from clipedu.utils.errors import ClipeduError
from clipedu.utils.registry import Entry
from tests.helpers.processes import ROOT, environment
from tests.helpers.small_runs import assert_same

pytestmark = pytest.mark.xdist_group("pool")
SMALL = Experiment(train_size=64, batch_size=16, epochs=2, image_size=32, embedding_dim=16)
LONG = SMALL.replace(
    train_size=256, epochs=12, checkpoint_every="1min", image_encoder="vit_nano_patch4_32", image_options={"depth": 1, "embed_dim": 32},
    text_options={"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
)  # fmt: skip
BEGUN = ("clip", "vicreg")  # what two workers begin with


def of(experiment, losses=("clip", "vicreg", "siglip")):
    return cells(experiment, losses, ["adamw"])


def run(experiments, folder, **options):
    return list(run_grid(experiments, folder, **{"progress": False, "jobs": 2} | options))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, few_scenes):
    """Three long cells, one after the other in this process; for reading only."""
    folder = tmp_path_factory.mktemp("whole")
    list(run_grid(of(LONG), folder, progress=False))
    return folder


def assert_same_cells(folder, whole, names=("adamw-clip", "adamw-vicreg", "adamw-siglip")):
    for name in names:
        assert_same(load_run(folder / name), load_run(whole / name))


def workers_of(folder):
    """Process ids of those that hold the cells' locks."""
    return [json.loads(path.read_text())["pid"] for path in folder.glob("*/.lock.json")]


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def when_trained(folder, then, names=("adamw-clip", "adamw-vicreg")):
    """Do something once these cells are trained for an epoch."""

    def wait():
        until(lambda: all(list((folder / name).glob("checkpoint/step-*")) for name in names))
        then()

    threading.Thread(target=wait, daemon=True).start()


def test_same_numbers_in_order_over_seeds_and_threads_as_they_were(tmp_path, caplog):
    groups = {
        seed: {f"{loss}-seed{seed}": SMALL.replace(loss=loss, seed=seed) for loss in ("clip", "cyclip")}
        for seed in (0, 1)
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        one = list(run_comparison(groups, tmp_path / "one", progress=False))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    two = list(run_comparison(groups, tmp_path / "two", jobs=2, progress=False))
    assert (
        [run.name for run in one]
        == [run.name for run in two]
        == [name for of_seed in groups.values() for name in of_seed]
    )
    for first, second in zip(one, two, strict=True):
        assert_same(second, first)
    assert len({run.history["loss"].iloc[-1] for run in one}) == 4
    again = list(run_comparison(groups, tmp_path / "two", jobs=2, progress=False))
    assert [run.metrics for run in again] == [run.metrics for run in one] and not caplog.records


def test_sigterm_stops_all_and_the_same_call_goes_on(whole, tmp_path):
    from clipedu.utils.interrupts import Terminated, terminable

    when_trained(tmp_path, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Terminated), terminable():
        run(of(LONG), tmp_path)
    for name in ("adamw-clip", "adamw-vicreg"):
        stopped = load_run(tmp_path / name)
        assert stopped.status == "stopped" and stopped.note.startswith("by SIGTERM after step ")
    assert not workers_of(tmp_path) and not (tmp_path / "adamw-siglip").exists()
    run(of(LONG, BEGUN), tmp_path, jobs=1)
    assert_same_cells(tmp_path, whole, of(LONG, BEGUN))


def test_a_caller_that_ends_early_stops_what_is_begun(whole, tmp_path):
    grid = run_grid(of(LONG), tmp_path, jobs=2, progress=False)
    assert next(grid).name == "adamw-clip"
    grid.close()
    assert not workers_of(tmp_path)
    assert [
        load_run(tmp_path / name).status in ("finished", "stopped") for name in of(LONG) if (tmp_path / name).exists()
    ]
    run(of(LONG), tmp_path, jobs=1)
    assert_same_cells(tmp_path, whole)


def test_a_killed_worker_is_named_and_the_others_go_on(whole, tmp_path, caplog):
    def kill():
        os.kill(json.loads((tmp_path / "adamw-clip" / ".lock.json").read_text())["pid"], signal.SIGKILL)

    when_trained(tmp_path, kill)
    with pytest.raises(LeftOut) as caught:
        run(of(LONG), tmp_path)
    (line,) = caught.value.lines
    assert line.startswith("adamw-clip: its process was killed by SIGKILL") and line.endswith(
        "the same command goes on with it"
    )
    assert f"left out: {line}" in caplog.text
    assert load_run(tmp_path / "adamw-clip").status == "stopped"
    assert {load_run(tmp_path / name).status for name in ("adamw-vicreg", "adamw-siglip")} == {"finished"}
    run(of(LONG), tmp_path, jobs=1)
    assert_same_cells(tmp_path, whole)


def test_a_grid_that_was_killed_leaves_no_process_and_goes_on_at_once(whole, tmp_path):
    """A script without a guard, too: the main module is not run by the workers."""
    script = tmp_path / "script.py"
    script.write_text(f"""
from clipedu import Experiment
from clipedu.data.scenes.sampling import SPLITS
from clipedu.studies.grid import cells, run_grid
SPLITS |= {SPLITS!r}
print("once", flush=True)
experiment = Experiment.from_json({LONG.to_json()!r})
list(run_grid(cells(experiment, ["clip", "vicreg", "siglip"], ["adamw"]), {str(tmp_path / "grid")!r}, jobs=2))
""")
    words = [sys.executable, str(script)]
    parent = subprocess.Popen(
        words, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    folder = tmp_path / "grid"
    until(lambda: all(list((folder / name).glob("checkpoint/step-*")) for name in ("adamw-clip", "adamw-vicreg")))
    pids = workers_of(folder)
    with pytest.raises(ClipeduError, match=f"in use by process {parent.pid} "):
        run(of(LONG), folder)
    parent.kill()
    parent.wait()
    run(of(LONG, BEGUN), folder, jobs=1)
    assert parent.communicate()[0] == "once\n"
    assert len(pids) == 2 and all(not os.path.exists(f"/proc/{pid}") for pid in pids)
    assert_same_cells(folder, whole, of(LONG, BEGUN))


def test_damaged_and_diverging_cells_are_as_in_one_process(tmp_path, caplog):
    experiments = of(SMALL)
    experiments["adamw-siglip"] = experiments["adamw-siglip"].replace(lr=1e30, warmup=0)
    found = {}
    assert len(run(experiments, tmp_path / "1", jobs=1)) == 3
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        for name in ("adamw-clip", "adamw-vicreg"):
            (folder / name / "status.json").write_text('{"status": "stopped"}')
        (folder / "adamw-clip" / "norms.csv").write_text("step,part\n0,all,1\n")
        (folder / "adamw-vicreg" / "metrics.json").write_text("{")
        caplog.clear()
        with pytest.raises(LeftOut) as caught:
            run(experiments, folder, jobs=jobs)
        failed = load_run(folder / "adamw-siglip")
        words = sorted(
            record.getMessage().replace(str(folder), "FOLDER") for record in caplog.records
        )  # what comes first is another matter
        lines = [line.replace(str(folder), "FOLDER") for line in caught.value.lines]
        found[jobs] = lines, words, failed.status, failed.note.replace(str(folder), "FOLDER")
    assert found[1] == found[2] and found[1][2] == "failed"
    assert any(word.startswith("adamw-vicreg: FOLDER/adamw-vicreg/metrics.json cannot be read") for word in found[1][1])


def test_an_error_ends_the_grid_and_stops_the_others(tmp_path):
    experiments = of(LONG, ("clip", "vicreg")) | {"bad": LONG.replace(image_options={"no_such": 1})}
    order = {name: experiments[name] for name in ("bad", "adamw-clip", "adamw-vicreg")}
    with pytest.raises(ClipeduError, match="no_such"):
        run(order, tmp_path)
    assert not workers_of(tmp_path)
    assert not any(load_run(path.parent).status == "running" for path in tmp_path.glob("*/status.json"))


class Own(Scenes):
    """A set whose class other processes know by this module's name, or not at all."""


def test_data_that_cannot_be_handed_over_are_used_here(tmp_path, monkeypatch, caplog):
    data = load_data(SMALL)
    monkeypatch.setattr(Own, "__module__", "__main__")
    monkeypatch.setattr(data.train, "__class__", Own)
    runs = list(run_cells([Group(of(SMALL), lambda: data)], tmp_path, jobs=2, progress=False))
    assert [run.status for run in runs] == ["finished"] * 3
    assert (
        "one cell at a time: the data cannot be handed to other processes: Own is defined in the main module"
        in caplog.text
    )


def test_a_loss_of_this_process_is_run_here(tmp_path, monkeypatch, caplog):
    build = LOSSES["clip"].build

    def own(*arguments, **options):
        return build(*arguments, **options)

    monkeypatch.setitem(LOSSES, "mine", Entry("mine", own, "my own"))
    experiments = {name: replace(SMALL, loss=name) for name in ("mine", "clip")}
    assert [run.status for run in run(experiments, tmp_path)] == ["finished"] * 2
    assert "one cell at a time: loss 'mine' was added in this process" in caplog.text


def test_jobs_and_threads_are_checked_first(tmp_path):
    for options in ({"jobs": 0}, {"threads": 0}):
        with pytest.raises(ClipeduError, match="is not a whole number from 1 on"):
            run(of(SMALL), tmp_path / "grid", **options)
    assert not (tmp_path / "grid").exists()
