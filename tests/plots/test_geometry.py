"""Figures of spaces: what is drawn is what was measured."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform

from clipedu.evaluation.embedding_space import norm_summary
from clipedu.evaluation.hierarchy import generality_scores
from clipedu.plots import geometry as gp
from clipedu.plots.disk_projection import Disk
from clipedu.utils.errors import ClipeduError
from tests.helpers.fake_space import THREE, fake_space, three
from tests.helpers.figures import drawn, words


def test_root_distances_are_counted_and_the_share_is_told():
    spaces = three()
    figure = gp.plot_root_distances(spaces)
    drawn(figure)
    for ax, (name, space) in zip(figure.axes, spaces.items(), strict=True):
        share = norm_summary(space.geometry, space.image, space.text)["text_nearer_root"]
        assert ax.get_title() == f"{name}: the caption is nearer\nin {100 * share:.0f} % of the pairs"
        medians = sorted(line.get_xdata()[0] for line in ax.lines)
        expected = sorted(np.median(space.radius(side)) for side in (space.image, space.text))
        np.testing.assert_allclose(medians, expected)
    assert "radians" in figure.axes[0].get_xlabel() and "radians" not in figure.axes[1].get_xlabel()


def test_generality_has_a_box_a_level_and_one_of_images():
    spaces = three()
    figure = gp.plot_generality(spaces)
    drawn(figure)
    for ax, (name, space) in zip(figure.axes, spaces.items(), strict=True):
        assert [tick.get_text() for tick in ax.get_xticklabels()] == [*"012345", "image"]
        medians = [
            line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2
        ]
        levels = [np.median(space.radius(space.phrase[space.chain[:, level]])) for level in range(6)]
        for expected in (*levels, np.median(space.radius(space.image))):
            assert min(abs(np.array(medians) - expected)) < 1e-9
        assert f"{generality_scores(space)['generality_within']:+.2f}" in ax.get_title() and name in ax.get_title()


def test_generality_needs_chains():
    with pytest.raises(ClipeduError, match="the space 'photographs' has no chains"):
        gp.plot_generality({"photographs": fake_space(chains=False)})


def test_disks_stand_side_by_side_with_circle_and_ways():
    spaces = three()
    figure = gp.plot_disk(spaces, chains=2)
    drawn(figure)
    assert [len(ax.patches) for ax in figure.axes] == [1, 0, 1]  # the plane has no rim
    for ax, space in zip(figure.axes, spaces.values(), strict=True):
        ways = [line.get_xydata() for line in ax.lines if line.get_linestyle() == "-"]
        assert len(ways) == 12  # two chains of six captions and an image
        start, end = Disk(space).place(torch.stack([space.phrase[0], space.phrase[1]])).numpy()
        np.testing.assert_allclose(ways[0][[0, -1]], [start, end], atol=1e-6)
        np.testing.assert_allclose(ways[5][-1], Disk(space).place(space.image[:1]).numpy()[0], atol=1e-6)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[:6] == [f"level {level}" for level in range(6)] and "root" in names


def test_disk_without_chains_shows_captions():
    figure = gp.plot_disk({"a": fake_space(chains=False)})
    drawn(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()][0] == "captions"
    assert len([line for line in figure.axes[0].lines if line.get_linestyle() == "-"]) == 2


@pytest.mark.parametrize("name", THREE)
def test_maps_show_pca_and_neighbours(name):
    space = fake_space(name, rows=12)
    figure = gp.plot_maps(space)
    drawn(figure)
    both = torch.cat([space.image, space.text]).numpy()
    if name == "cosine":
        both = both / np.linalg.norm(both, axis=1, keepdims=True)
    centred = both - both.mean(0)
    sizes = np.linalg.svd(centred, compute_uv=False) ** 2
    assert f"{100 * sizes[:2].sum() / sizes.sum():.0f} % of the variance" in figure.axes[0].get_title()
    assert "t-SNE" in figure.axes[1].get_title()
    placed = np.concatenate([points.get_offsets() for points in figure.axes[0].collections])
    np.testing.assert_allclose(np.var(placed, axis=0), sizes[:2] / len(both), rtol=1e-6)


def clusters() -> np.ndarray:
    """Distances of 30 points in three far clusters."""
    noise = np.random.default_rng(0)
    return squareform(pdist(noise.normal(size=(30, 5)) + 40 * np.eye(5)[np.arange(30) % 3]))


def check_clusters(placed):
    spread = squareform(pdist(placed))
    own = np.arange(30)[:, None] % 3 == np.arange(30) % 3
    nearest = np.where(np.eye(30, dtype=bool), np.inf, spread).argmin(axis=1)
    assert placed.shape == (30, 2) and own[np.arange(30), nearest].all()


def test_neighbour_map_keeps_clusters_and_is_seeded():
    placed = gp.neighbour_map(clusters())
    check_clusters(placed)
    np.testing.assert_array_equal(placed, gp.neighbour_map(clusters()))


def test_an_unknown_method():
    with pytest.raises(ClipeduError, match="unknown method 'umpa'. Did you mean 'umap'"):
        gp.plot_maps(fake_space(), method="umpa")


def test_umap_gets_the_distances_and_a_seed(monkeypatch):
    """A stand-in for umap-learn, whose first map takes half a minute to compile."""
    seen = {}

    class UMAP:
        def __init__(self, **options):
            seen.update(options)

        def fit_transform(self, distances):
            seen["distances"] = distances
            return distances[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    space = fake_space(rows=12)
    figure = gp.plot_maps(space, method="umap", points=10, seed=5)
    drawn(figure)
    assert "UMAP" in figure.axes[1].get_title()
    both = torch.cat([space.image[:10], space.text[:10]])
    torch.testing.assert_close(torch.as_tensor(seen.pop("distances")), space.geometry.distance(both, both).detach())
    assert seen == {"metric": "precomputed", "random_state": 5, "n_jobs": 1}


def test_no_spaces():
    with pytest.raises(ClipeduError, match="no spaces to plot"):
        gp.plot_disk({})
    assert "caption 3" not in words(gp.plot_root_distances({"a": fake_space()}))
