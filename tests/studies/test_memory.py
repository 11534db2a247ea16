"""The study of SogCLR's memory: the exact normaliser typed out, estimates whose error is known, a run that is read back."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from clipedu import ClipeduError, Experiment, fit
from clipedu.geometry import build_geometry
from clipedu.studies.memory import (
    ESTIMATES,
    batch_normaliser,
    exact_normaliser,
    memory_table,
    summary_table,
    write_study,
)
from tests.conftest import few_to_score_on

pytestmark = pytest.mark.xdist_group("memory studied")


def pairs_of(count: int):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, count, 6, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", ["cosine", "lorentz", "euclidean-squared"])
def test_the_exact_normaliser_is_the_mean_over_all_others(name):
    geometry, tau = build_geometry(name, 6), 0.3
    image, text = pairs_of(5)
    similarity = geometry.double().similarity(image, text).detach()
    naive = [
        [math.log(sum(math.exp((s[i, j] - s[i, i]) / tau) for j in range(5) if j != i) / 4) for i in range(5)]
        for s in (similarity, similarity.T)
    ]
    found = exact_normaliser(image, text, geometry.float(), tau)
    np.testing.assert_allclose(found.detach().numpy(), naive, rtol=1e-6)
    assert next(geometry.parameters(), torch.zeros(1)).dtype == torch.float32


def test_a_batch_of_all_rows_is_exact_and_rows_without_a_batch_are_nan():
    geometry = build_geometry("cosine", 6)
    image, text = pairs_of(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))

    def embed(rows):
        return image[rows], text[rows]

    whole = batch_normaliser(embed, order, 9, geometry, 0.2)
    torch.testing.assert_close(whole, exact_normaliser(image, text, geometry, 0.2))
    part = batch_normaliser(embed, order, 4, geometry, 0.2)
    assert part.isnan().sum(1).tolist() == [1, 1] and part[:, order[8]].isnan().all()
    rows = order[4:8]
    torch.testing.assert_close(part[:, rows], exact_normaliser(image[rows], text[rows], geometry, 0.2))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    experiment = Experiment(
        loss="sogclr", loss_options={"gamma": 0.5}, train_size=64, batch_size=16, epochs=2, embedding_dim=8,
        text_options={"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "dropout": 0.0},
        keep_checkpoints=9, checkpoint_every="9min",
    )  # fmt: skip
    with few_to_score_on():
        return fit(experiment, tmp_path_factory.mktemp("memory") / "a-seed0", progress=False, report=False)


def test_a_run_is_measured_at_each_checkpoint(run):
    rows = memory_table(run)
    assert list(rows["step"]) == [4] * 3 + [8] * 3 and list(rows["estimate"]) == [*ESTIMATES] * 2
    model, loss = run.model(), run.training_state("cpu")["loss"]
    from clipedu.inference.embed import embed_pairs
    from clipedu.training.datasets import load_train

    pairs = load_train(run.experiment)
    pairs.tokenize(model.tokenizer)
    found = embed_pairs(model, pairs)
    exact = exact_normaliser(found.image, found.first_text, model.geometry, 0.05)
    end = rows[(rows["step"] == 8) & (rows["estimate"] == "memory")].iloc[0]
    naive = np.mean([np.median(side) for side in (loss["log_u"].double() - exact).numpy()])
    assert end["difference"] == pytest.approx(naive, abs=1e-6)
    ranks = [[np.argsort(np.argsort(side)) for side in values.numpy()] for values in (loss["log_u"], exact)]
    spearman = np.mean([np.corrcoef(ranks[0][k], ranks[1][k])[0, 1] for k in (0, 1)])
    assert end["rank correlation"] == pytest.approx(spearman, abs=1e-4)  # hardly any ties
    assert rows.equals(memory_table(run))  # nothing random is left


def test_what_is_written_and_said(run, tmp_path):
    text = write_study([run], tmp_path)
    assert "| a | memory | 1 |" in text and (tmp_path / "memory.png").stat().st_size > 10_000
    assert len(pd.read_csv(tmp_path / "memory.csv")) == 6
    with pytest.raises(ClipeduError, match="no run in .* is finished"):
        write_study([], tmp_path)


def test_a_run_of_another_loss_is_refused(run, monkeypatch):
    from clipedu.runs import checkpoint

    state = run.training_state("cpu")
    monkeypatch.setattr(checkpoint, "read_state", lambda *_: state | {"loss": {}})
    with pytest.raises(ClipeduError, match="keeps no log u: the study of the memory is of sogclr"):
        memory_table(run)


def test_the_summary_is_of_the_end_with_an_interval():
    rows = pd.DataFrame(
        [
            {
                "variant": "a",
                "seed": seed,
                "step": step,
                "estimate": "memory",
                "difference": value,
                "rank correlation": 0.5,
            }
            for seed, step, value in ((0, 4, 9.0), (0, 8, 1.0), (1, 4, 9.0), (1, 8, 2.0))
        ]
    )
    (row,) = summary_table(rows).to_dict("records")
    assert (
        row["seeds"] == 2
        and row["difference"] == 1.5
        and row["difference interval"] == pytest.approx(12.706 * 0.5, rel=1e-3)
    )
    assert row["rank correlation interval"] == 0
