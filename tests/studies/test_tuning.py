"""Tuning one experiment: the best value on pairs held out, and nothing else changed."""

import pytest

from clipedu import Experiment
from clipedu.studies import tuning
from clipedu.studies.tuning import default_range, tune, tune_cells
from clipedu.training.trainer import Trainer
from clipedu.utils.finite import NotFinite
from tests.helpers.errors import message_of

TINY = Experiment(train_size=48, batch_size=16, epochs=1, embedding_dim=16, seed=3)


def test_the_best_value_is_in_the_experiment(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    options = {"sampler": "grid", "pruner": "none", "holdout": 0.25, "progress": False}
    seen = []
    original = Trainer._train_on

    def record(self, *arguments):
        seen.append((self.experiment.seed, self.experiment.holdout))
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_on", record)
    tuned = tune(TINY, "lr=1e-3,1e-2", tmp_path / "lr", **options)
    assert tuned.lr in (1e-3, 1e-2) and tuned == TINY.replace(lr=tuned.lr) and set(seen) == {(3, 0.25)}
    assert not (tmp_path / "lr/best").exists()
    seen.clear()
    assert tune(TINY, "lr=1e-3,1e-2", tmp_path / "lr", **options) == tuned and not seen


def test_a_setting_without_a_range_is_looked_for_around_its_value():
    found = default_range(Experiment(lr=1e-3), "lr")
    assert (found.low, found.high, found.log) == (1e-4, 1e-2, True)
    assert "weight_decay=0.0 has no range around it" in message_of(
        default_range, Experiment(weight_decay=0), "weight_decay"
    )
    assert "temperature=None has no range around it" in message_of(default_range, Experiment(), "temperature")
    assert "unknown setting to tune without a range 'epochs'. Allowed: lr, weight_decay" in message_of(
        default_range, Experiment(), "epochs"
    )


def test_each_cell_has_its_own_and_one_without_a_score_stays_as_it_is(tmp_path, monkeypatch, caplog):
    pytest.importorskip("optuna")
    original = Trainer._train_on

    def diverge(self, *arguments):
        if self.experiment.loss == "cyclip":
            raise NotFinite("the loss is not finite")
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_on", diverge)
    cells = {f"adamw-{loss}": TINY.replace(loss=loss) for loss in ("clip", "cyclip")}
    tuned = tune_cells(cells, ["lr=0.01..0.011"], tmp_path, trials=1, pruner="none", holdout=0.25, progress=False)
    found = tuned.experiments
    assert found["adamw-clip"] == cells["adamw-clip"].replace(lr=found["adamw-clip"].lr) != cells["adamw-clip"]
    assert found["adamw-cyclip"] == cells["adamw-cyclip"] and "adamw-cyclip: as it was" in tuned.text
    assert "adamw-cyclip stays as it is" in caplog.text and (tmp_path / "tuning/adamw-clip/study.db").is_file()


def test_listed_values_are_tried_side_by_side_but_not_where_they_change_the_data(tmp_path, monkeypatch):
    for name in ("choose", "tune"):
        monkeypatch.setattr(tuning, name, lambda *_, name=name, **__: pytest.fail(name))
    for words, way in (
        (["lr=0.1,0.2"], "choose"),
        (["lr=0.1..0.2"], "tune"),
        (["train_size=48,64"], "tune"),
        (["lr"], "tune"),
    ):
        with pytest.raises(pytest.fail.Exception, match=f"^{way}$"):
            tune_cells({"one": TINY}, words, tmp_path)
    assert "lr weight_decay=0.1: of several settings each needs its values" in message_of(
        tune_cells, {"one": TINY}, ["lr", "weight_decay=0.1"], tmp_path
    )
