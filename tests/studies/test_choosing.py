"""Choosing listed values: all are tried on pairs held out, each experiment keeps its own best."""

import pytest

from clipedu import Experiment
from clipedu.runs.folders import find_runs, load_run
from clipedu.studies.choosing import choose
from clipedu.studies.sweep.space import axes, shown
from clipedu.training.trainer import Trainer
from clipedu.utils.finite import NotFinite

TINY = Experiment(train_size=48, batch_size=16, epochs=1, embedding_dim=16, seed=3)


@pytest.fixture
def seen(monkeypatch):
    """What is trained; VICReg's weights are not finite."""
    trained, original = [], Trainer._train_on

    def record(self, *arguments):
        trained.append(self.experiment)
        if self.experiment.loss == "vicreg":
            raise NotFinite("the loss is not finite")
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_on", record)
    return trained


def test_every_combination_is_run_on_pairs_held_out_and_the_best_is_kept(tmp_path, seen):
    values = axes(["lr=1e-5,1e-3,1e-2", "temperature=0.1"])
    cells = {"clip": TINY, "broken": TINY.replace(loss="vicreg"), "sogclr": TINY.replace(loss="sogclr", holdout=0.5)}
    chosen = choose(cells, values, tmp_path, holdout=0.25, progress=False)
    assert len({one.to_json() for one in seen}) == len(chosen.table) == 9 and {one.seed for one in seen} == {3}
    assert {(one.loss, one.holdout) for one in seen} == {("clip", 0.25), ("vicreg", 0.25), ("sogclr", 0.5)}
    for name in ("clip", "sogclr"):
        own = chosen.table[chosen.table["experiment"] == name]
        best = own.loc[own["score"].idxmax()]
        found = chosen.experiments[name]
        assert own["chosen"].sum() == 1 and best["chosen"]
        assert found == cells[name].replace(lr=best["lr"], temperature=best["temperature"])
        assert ("lr" in best["ends"]) == (found.lr != 1e-3) and "temperature" not in best["ends"]
        run = load_run(tmp_path / f"{name}+lr{shown(found.lr)}+temperature{found.temperature:g}")
        assert run.metrics["average"] == best["score"] and not list(run.folder.glob("checkpoint/*"))
    assert chosen.experiments["broken"] == cells["broken"]
    assert len(find_runs([tmp_path])) == 9
    assert "| broken | as it was | as it was | – | no run has a score |" in chosen.markdown()
    seen.clear()
    assert choose(cells, values, tmp_path, holdout=0.25, progress=False).experiments == chosen.experiments and not seen


def test_words_and_items_of_options_can_be_chosen(tmp_path, seen):
    values = axes(["loss_options.gamma=0.5", "schedule=cosine,constant"])
    chosen = choose({"sogclr": TINY.replace(loss="sogclr")}, values, tmp_path, holdout=0.25, progress=False)
    row = chosen.table[chosen.table["chosen"]].iloc[0]
    found = chosen.experiments["sogclr"]
    assert (found.loss_options["gamma"], found.schedule) == (row["loss_options.gamma"], row["schedule"])
    assert "schedule" not in row["ends"]
