import math
from types import SimpleNamespace

import pytest

from clipedu.config.experiment import Experiment
from clipedu.report.score_table import at_chance, repeats, score_table, scores_text, undecided


def run(name="a", status="finished", note="", metrics=None, **changes):
    return SimpleNamespace(
        name=name,
        experiment=Experiment(**changes),
        metrics=metrics or {},
        status=status,
        note=note,
        seconds=1.0,
    )


def scored(average, **more):
    counts = {"retrieval_images": 1000, "retrieval_captions": 5000, "zeroshot_images": 1000, "zeroshot_classes": 50}
    return run(metrics={"tr@1": average, "ir@1": average, "top1": average, "average": average, **counts}, **more)


def test_the_table_is_in_the_courses_order_and_drops_nothing():
    runs = [
        run("x", loss="clip", optimizer="zzz", status="failed", note="loss is nan"),
        scored(5.0, name="c", loss="clip", optimizer="adam"),
        scored(5.0, name="b", loss="clip", optimizer="adamw"),
        scored(5.0, name="d", loss="sogclr", optimizer="adamw"),
        scored(5.0, name="a", loss="clip", optimizer="adamw"),
    ]
    table = score_table(runs)
    assert list(table["name"]) == ["d", "a", "b", "c", "x"]
    assert [runs[place].name for place in table.index] == list(table["name"])
    failed = table.iloc[-1]
    assert math.isnan(failed["average"]) and (failed["status"], failed["note"]) == ("failed", "loss is nan")


def test_undecided_holds_those_within_the_error_of_a_difference():
    runs = [
        scored(40.0, name="best"),
        scored(38.0, name="near"),
        scored(30.0, name="far"),
        run("none", status="stopped"),
    ]
    table = score_table(runs)
    error = math.sqrt(0.4 * 0.6 / 1000 / 3) * 100
    assert table.loc[0, "error"] == pytest.approx(error)
    assert 2.0 < 1.96 * math.sqrt(2) * error < 10.0
    assert undecided(table) == {1}
    assert undecided(score_table([run("none")])) == set()


def test_at_chance_holds_those_within_the_error_of_chance():
    chance = (0.1 + 0.1 + 2) / 3
    runs = [scored(0.0), scored(chance + 0.2), scored(chance + 2), run("none", status="failed")]
    table = score_table(runs)
    assert table.loc[0, "chance"] == pytest.approx(chance)
    assert at_chance(table) == {0, 1}


def test_repeats_give_mean_and_spread_and_what_differs():
    runs = [scored(v, name=f"s{s}", seed=s, lr=1e-3 * (1 + (s == 2))) for s, v in enumerate((10.0, 12.0, 17.0))]
    runs += [scored(3.0, loss="cyclip"), run("stopped", status="stopped", loss="cyclip")]
    (row,) = repeats(runs).itertuples()
    assert (row.loss, row.runs, row.mean, row.differ) == ("clip", 3, 13.0, "lr, seed")
    assert row.sd == pytest.approx(math.sqrt((9 + 1 + 16) / 2))
    assert row.interval == pytest.approx(4.3027 * row.sd / math.sqrt(3), rel=1e-4), "t of two degrees of freedom"
    assert len(repeats([run("none")])) == 0


def test_scores_as_text():
    metrics = {"tr@1": 12.5, "ir@1": 10.0, "average": 11.25, "retrieval_images": 40, "retrieval_captions": 200}
    lines = scores_text(metrics).splitlines()
    assert lines[2].split()[:3] == ["TR@1", "12.50", "2.50"] and lines[-1] == "on 40 images with 200 captions"
    assert len(lines) == 6
    metrics |= {"root_distance_image": 0.5, "root_distance_text": 0.25, "text_nearer_root": 0.9}
    metrics |= {"generality_within": 0.75, "generality_pooled": -0.5}
    metrics |= {"cone_captions": 0.2, "cone_captions_chance": 0.05, "cone_images": 0.1, "cone_images_chance": 0.01}
    root, rank, cones = scores_text(metrics).splitlines()[-3:]
    assert "images 0.50, captions 0.25" in root and "90 % of pairs" in root
    assert "0.75 within a scene, -0.50 over all" in rank
    assert cones.endswith("captions 20 % (chance 5), images 10 % (chance 1)")


def test_every_score_is_a_line_with_its_heading_chance_and_meaning():
    metrics = {
        "tr@1": 1.0,
        "ir@1": 2.0,
        "top1": 3.0,
        "average": 2.0,
        "retrieval_images": 100,
        "retrieval_captions": 100,
    }
    metrics |= {"zeroshot_images": 90, "zeroshot_classes": 10, "foil_size": 61.6, "foil_shape": 54.4}
    assert (
        scores_text(metrics)
        == """
score          %  chance
TR@1        1.00    1.00   image -> text: its best-ranked caption is one of its own
IR@1        2.00    1.00   text -> image: its own image ranks first
top-1       3.00   10.00   zero-shot: the right class of all
average     2.00    4.00   mean of the lines above, the course's score
on 100 images with 100 captions; 90 images in 10 classes
true caption before one wrong in its ... (%, chance 50): shape 54, size 62"""
    )
