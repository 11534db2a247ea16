"""The table of metrics: complete, consistent, light, and what a run's metrics.json holds."""

import inspect
import re

import pytest

from clipedu.evaluation import metrics
from clipedu.evaluation.metrics import (
    AVERAGED,
    BY_RANK,
    COMPARED,
    COUNTS,
    FOIL_KEYS,
    LEGEND,
    METRICS,
    SCORES,
    SPACE,
    rank_of,
)
from tests.helpers.processes import assert_light


def test_import_is_light():
    assert_light("clipedu.evaluation.metrics")


def test_a_run_measures_nothing_that_is_not_in_the_table(finished):
    assert set(finished.metrics) <= {*METRICS, *COUNTS}
    assert set(COUNTS) <= set(finished.metrics) and {*SCORES, *FOIL_KEYS} <= set(finished.metrics)


def test_cones_are_in_the_table_too():
    from clipedu.evaluation import hierarchy

    keys = set(re.findall(r'"(cone_[a-z_]+)":', inspect.getsource(hierarchy.cone_scores)))
    assert len(keys) == 5 and keys <= set(METRICS)


def test_foils_are_those_that_are_made():
    from clipedu.evaluation.foils import FOILS

    assert [key.removeprefix("foil_") for key in FOIL_KEYS] == list(FOILS)


def test_keys_and_headings_are_unique_and_units_known():
    assert len({metric.key for metric in METRICS.values()}) == len(METRICS) == len(metrics._TABLE)
    assert len({metric.heading for metric in METRICS.values()}) == len(METRICS)
    for key, metric in METRICS.items():
        assert metric.key == key and metric.definition and not metric.definition.endswith(".")
        assert metric.unit in ("%", "share", "correlation", "distance", "1")
        assert metric.chance is None or isinstance(metric.chance, float) or metric.chance in METRICS


def test_selections_are_of_the_table_and_have_no_key_twice():
    for selection in (AVERAGED, BY_RANK, COMPARED, FOIL_KEYS, SPACE, tuple(SCORES)):
        assert len(set(selection)) == len(selection) and set(selection) <= set(METRICS)
    assert SCORES == {"tr@1": "TR@1", "ir@1": "IR@1", "top1": "top-1", "average": "average"}
    assert BY_RANK == ("tr@1", "tr@5", "tr@10", "ir@1", "ir@5", "ir@10", "top1", "top5")
    assert not set(SPACE) & set(BY_RANK) and {"alignment", "cone_saturated", *FOIL_KEYS} < set(SPACE)


@pytest.mark.parametrize("key", SCORES)
def test_what_a_terminal_shows_has_a_short_definition(key):
    assert METRICS[key].short and METRICS[key].unit == "%" and METRICS[key].higher_is_better


def test_explanations_add_percent_and_a_fixed_chance():
    assert METRICS["foil_background"].explanation == (
        "true caption before one that is wrong in the background, in percent; chance 50"
    )
    assert METRICS["generality_within"].explanation.endswith("within a scene's six captions; chance 0")
    for key in ("modality_gap", "cone_captions"):  # no chance, and one that is measured
        assert METRICS[key].explanation == METRICS[key].definition


def test_the_legend_is_of_the_scores():
    assert [line.split(":")[0] for line in LEGEND] == [
        "TR@k (text retrieval, image to text)",
        "IR@k (image retrieval, text to image)",
        "top-k (zero-shot classification)",
        "average",
        "chance",
        "s.e.",
    ]


def test_rank_of_a_key():
    assert [rank_of(key) for key in ("tr@1", "ir@10", "top5", "tr@3")] == [("tr", 1), ("ir", 10), ("top", 5), ("tr", 3)]
    assert [rank_of(key) for key in ("average", "text_nearer_root", "tr@", "top", "top1x", "root_gap")] == [None] * 6
