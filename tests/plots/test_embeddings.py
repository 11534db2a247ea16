"""Figures of embeddings: similarities, wins and principal components against their definitions."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from clipedu.plots.embeddings import main_axes, plot_embedding_map, plot_similarity
from clipedu.utils.errors import ClipeduError
from tests.helpers.fake_run import fake_run
from tests.helpers.figures import drawn


def test_similarity_shows_cosines_the_best_caption_and_how_often_a_match_wins():
    run = fake_run(rows=20)
    figure = plot_similarity(run, pairs=12)
    drawn(figure)
    kept = run.embeddings()
    x, y = (side / side.norm(dim=1, keepdim=True) for side in (kept["image"], kept["text"]))
    cosine = (x @ y.T).numpy()
    matrix = figure.axes[0]
    np.testing.assert_allclose(matrix.images[0].get_array(), cosine[:12, :12], atol=1e-6)
    rings = matrix.collections[0].get_offsets()
    np.testing.assert_array_equal(rings, [(np.argmax(cosine[row, :12]), row) for row in range(12)])
    right = sum(np.argmax(cosine[row, :12]) == row for row in range(12))
    assert f"{right} of 12 right" in matrix.get_title()
    assert len(matrix.get_yticklabels()) == 12 and r"\$5 <b>" in matrix.get_yticklabels()[0].get_text()
    couples = [cosine[i, i] > cosine[j, k] for i in range(20) for j in range(20) for k in range(20) if j != k]
    assert f"wins in {100 * np.mean(couples):.1f} %" in figure.axes[1].get_title()


def test_a_collapsed_model_wins_half_the_time_and_can_still_be_drawn():
    run = fake_run()
    same = torch.ones(30, 8)
    run.embeddings = lambda: {"image": same, "text": same, "captions": ["same"] * 30}
    figure = plot_similarity(run)
    drawn(figure)
    assert "wins in 50.0 %" in figure.axes[1].get_title()
    drawn(plot_embedding_map(run))


def test_the_map_is_the_pca_of_both_modalities():
    run = fake_run(rows=25)
    figure = plot_embedding_map(run, lines=7)
    drawn(figure)
    kept = run.embeddings()
    unit = torch.cat([side / side.norm(dim=1, keepdim=True) for side in (kept["image"], kept["text"])]).double().numpy()
    centred = unit - unit.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    ax = figure.axes[0]
    clouds = [np.asarray(points.get_offsets()) for points in ax.collections]
    ours = np.concatenate([clouds[0], clouds[2]])
    np.testing.assert_allclose(np.abs(ours), np.abs(centred @ axes[:, [-1, -2]]), atol=1e-6)
    first, second = 100 * variances[[-1, -2]] / variances.sum()
    assert f"first axis ({first:.0f} %" in ax.get_xlabel() and f"({second:.0f} %)" in ax.get_ylabel()
    assert f"{first + second:.0f} % of the variance" in ax.get_title() and "modality gap 0.25" in ax.get_title()
    pairs = [line for line in ax.lines if line.get_color() == "#999999" and len(line.get_xdata())]
    assert len(pairs) == 7
    np.testing.assert_allclose(pairs[3].get_xydata(), [clouds[0][3], clouds[2][3]])
    np.testing.assert_allclose([clouds[1][0], clouds[3][0]], [clouds[0].mean(0), clouds[2].mean(0)], atol=1e-12)


def test_the_map_keeps_lengths_in_other_geometries():
    run = fake_run(geometry="euclidean")
    kept = run.embeddings()
    figure = plot_embedding_map(run)
    clouds = [np.asarray(points.get_offsets()) for points in figure.axes[0].collections]
    centred = torch.cat([kept["image"], kept["text"]]).double()
    centred = centred - centred.mean(0)
    variance = np.square(np.concatenate([clouds[0], clouds[2]])).sum() / centred.square().sum().item()
    shares = torch.linalg.svdvals(centred).square()
    assert variance == pytest.approx((shares[:2].sum() / shares.sum()).item())
    assert "modality gap 0." not in figure.axes[0].get_title()


def test_the_same_run_gives_the_same_picture():
    assert drawn(plot_similarity(fake_run())) == drawn(plot_similarity(fake_run()))


def test_a_tie_counts_half():
    run = fake_run(rows=3, geometry="euclidean")
    image = torch.tensor([[1.0, 0], [1.0, 0], [1.0, 0]])
    run.embeddings = lambda: {
        "image": image,
        "text": image[[0, 1, 2]] + torch.tensor([[0.0, 0], [1, 0], [0, 0]]),
        "captions": ["a"] * 3,
    }
    figure = plot_similarity(run)
    scores = run.geometry().similarity(image, run.embeddings()["text"]).detach().numpy()
    couples = [(scores[i, i] > s) + (scores[i, i] == s) / 2 for i in range(3) for s in scores[~np.eye(3, dtype=bool)]]
    assert f"wins in {100 * np.mean(couples):.1f} %" in figure.axes[1].get_title()


def test_main_axes_are_those_of_scikit_learn():
    points = np.random.default_rng(0).normal(size=(40, 5)) * [3, 1, 2, 0.5, 1] + 7
    places, shares = main_axes(points)
    pca = PCA(2, svd_solver="full").fit(points)
    signs = np.sign(pca.components_[range(2), abs(pca.components_).argmax(axis=1)])
    np.testing.assert_allclose(places, pca.transform(points) * signs, atol=1e-12)
    np.testing.assert_allclose(shares, pca.explained_variance_ratio_, atol=1e-12)
    np.testing.assert_array_equal(main_axes(np.ones((5, 3)))[1], [0, 0])


def test_embeddings_that_are_missing_or_not_finite_are_refused():
    nan = fake_run("nan")
    nan.embeddings = lambda: {"image": torch.full((3, 2), math.nan), "text": torch.ones(3, 2), "captions": ["a"] * 3}
    for draw, match in (
        (lambda: plot_similarity(fake_run("gone", steps=0, status="failed")), "run 'gone' has no embeddings"),
        (lambda: plot_embedding_map(nan), "run 'nan' are not finite"),
    ):
        with pytest.raises(ClipeduError, match=match) as error:
            draw()
        assert "\n" not in str(error.value)
