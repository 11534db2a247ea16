import numpy as np
import pytest
import torch

from clipedu import LOSSES
from clipedu.plots import losses as loss_plots
from clipedu.toys.similarity_batch import examine, lead, remembered, scene_batch, similarity_losses, with_rivals
from clipedu.utils.errors import ClipeduError
from tests.helpers.figures import drawn, words
from tests.helpers.processes import assert_light

BATCH = scene_batch(32)
S = BATCH.similarity


def shown(ax, number=0):
    return np.asarray(ax.images[number].get_array())


def squares(ax):
    """Centres of the black squares."""
    return sorted(
        (round(p.get_x() + 0.47), round(p.get_y() + 0.47)) for p in ax.patches if p.get_edgecolor()[:3] == (0, 0, 0)
    )


DIAGONAL = [(row, row) for row in range(8)]


def test_importing_is_light():
    assert_light("clipedu.plots.losses")


def test_the_table_has_every_loss_with_its_formula():
    table = loss_plots.loss_table()
    lines = table.splitlines()
    assert len(lines) == 2 + len(LOSSES)
    for line, entry in zip(lines[2:], LOSSES.values(), strict=True):
        assert f"`{entry.name}`" in line and entry.description in line and f"${entry.formula}$" in line
        assert line.count("|") == 3  # a bar in a formula would break the table


def test_the_batch_shows_pictures_numbers_and_captions():
    figure = loss_plots.plot_batch(BATCH)
    drawn(figure)
    ax = figure.axes[0]
    np.testing.assert_array_equal(shown(ax), S.numpy())
    np.testing.assert_array_equal(shown(ax, 1), np.concatenate([*BATCH.pixels.permute(0, 2, 3, 1).numpy()]))
    left, right, low, high = ax.images[1].get_extent()
    assert right < -0.5 and (low, high) == (7.5, -0.5)  # a picture beside each row, the first on top
    assert [label.get_text() for label in ax.get_xticklabels()] == list(BATCH.captions)
    assert squares(ax) == DIAGONAL and "0.80" in words(figure)


def test_weights_share_one_scale_with_blue_for_pull():
    maps = {name: examine(name, S, temperature=0.05).weights for name in similarity_losses()}
    figure = loss_plots.plot_weights(maps, BATCH)
    drawn(figure)
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == len(maps)
    for ax, (name, weights) in zip(panels, maps.items(), strict=True):
        np.testing.assert_allclose(shown(ax), (weights / weights.abs().sum()).numpy())
        assert ax.get_title().startswith(name) and f"{weights.abs().sum():.3g}" in ax.get_title()
        assert squares(ax) == DIAGONAL
        image, first = ax.images[0], panels[0].images[0]
        assert (image.norm.vmin, image.norm.vmax) == (first.norm.vmin, first.norm.vmax)
        assert image.norm.vmin == -image.norm.vmax
        pull, push = image.cmap(image.norm(-0.1)), image.cmap(image.norm(0.1))
        assert pull[2] > pull[0] + 0.2 and push[0] > push[2] + 0.2  # blue, red
        np.testing.assert_allclose(image.norm(0.0), 0.5)


def test_weights_without_names_or_with_one_map_or_none():
    drawn(loss_plots.plot_weights({"one": torch.eye(3).double()}))
    drawn(loss_plots.plot_weights({"nothing": torch.zeros(3, 3).double()}))
    with pytest.raises(ClipeduError, match="at least one"):
        loss_plots.plot_weights({})


def test_who_prints_percent_of_a_row():
    pulls = {"clip at 0.01": examine("clip", S, temperature=0.01).pull, "even": torch.ones(8).double()}
    figure = loss_plots.plot_who(pulls, BATCH)
    drawn(figure)
    (ax, _) = figure.axes
    numbers = [float(text.get_text()) for text in ax.texts]
    assert sum(numbers[:8]) == pytest.approx(100, abs=0.3) and numbers[8:] == [12.5] * 8
    assert "-0.0" not in [text.get_text() for text in ax.texts]
    np.testing.assert_allclose(
        shown(ax)[0] ** 2, 100 * (pulls["clip at 0.01"] / pulls["clip at 0.01"].sum()).clamp(min=0)
    )
    assert "12.5" in ax.get_title()


def test_shares_are_cumulative_from_the_easiest():
    pull = torch.tensor([4.0, 1.0, 3.0, 2.0]).double()
    figure = loss_plots.plot_shares({"even": torch.ones(4).double(), "odd": pull}, torch.tensor([-1.0, 3.0, 0.5, 2.0]))
    drawn(figure)
    equal, even, odd = figure.axes[0].lines
    np.testing.assert_allclose(even.get_ydata(), equal.get_ydata())
    np.testing.assert_allclose(odd.get_ydata(), [0, 10, 30, 60, 100])
    np.testing.assert_allclose(odd.get_xdata(), [0, 25, 50, 75, 100])
    (border,) = figure.axes[0].collections
    assert border.get_segments()[0][0][0] == 75  # three of four pairs are ahead
    drawn(loss_plots.plot_shares({"clip": examine("clip", S, temperature=0.05).pull}, lead(S)))


def test_memory_shows_g_u_and_the_weight():
    visits = [S] * 2 + [with_rivals(S, 0.45)] + [S] * 3
    histories = {form: remembered(visits, 0.01, form) for form in ("log", "course")}
    figure = loss_plots.plot_memory(histories, 6)
    drawn(figure)
    above, below = figure.axes
    g, log, course = above.lines
    np.testing.assert_allclose(g.get_ydata(), histories["log"]["g"][:, 6])
    np.testing.assert_allclose(course.get_ydata(), histories["course"]["u"][:, 6])
    np.testing.assert_allclose(below.lines[0].get_ydata(), np.exp(g.get_ydata() - log.get_ydata()))


def test_silenced_counts_over_temperature():
    figure = loss_plots.plot_silenced({"none": [0, 0], "bad": [8, 3]}, (0.01, 0.05), 8)
    drawn(figure)
    (ax,) = figure.axes
    assert list(ax.lines[1].get_ydata()) == [8, 3] and ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.01", "0.05"] and "of 8" in ax.get_ylabel()


def test_sizes_have_a_mark_for_each_loss_and_scale():
    sizes = {"paper": {"a": 1.0, "b": 20.0}, "clip": {"a": 1.0, "b": 2.0}}
    figure = loss_plots.plot_sizes(sizes)
    drawn(figure)
    (ax,) = figure.axes
    assert [list(line.get_xdata()) for line in ax.lines] == [[1.0, 20.0], [1.0, 2.0]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"] and ax.yaxis_inverted()


def test_the_edited_batch_shows_s_w_and_the_sums_of_its_rows():
    weights = examine("cyclip", S, temperature=0.05).weights
    figure = loss_plots.plot_edited(BATCH, S, weights, (3, 5))
    drawn(figure)
    left, middle, right = [ax for ax in figure.axes if ax.get_title()]
    np.testing.assert_array_equal(shown(middle), weights.numpy())
    assert (left.lines[0].get_xdata()[0], left.lines[0].get_ydata()[0]) == (5, 3)  # column, row
    pull, push = (np.array([bar.get_width() for bar in right.patches[k : k + 8]]) for k in (0, 8))
    np.testing.assert_allclose(pull + push, weights.sum(1), atol=1e-12)
    np.testing.assert_allclose(push - pull, weights.abs().sum(1))
    assert right.get_ylim() == (7.5, -0.5)
    drawn(loss_plots.plot_edited(BATCH, S, torch.zeros_like(S), (0, 0)))


def test_a_dollar_in_a_name_is_no_formula():
    drawn(loss_plots.plot_weights({"$x": torch.eye(3).double(), "_y$": torch.eye(3).double()}))
