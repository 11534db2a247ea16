import pytest

from clipedu.config.experiment import Experiment
from clipedu.evaluation.metrics import METRICS, SPACE
from tests.helpers.fake_run import fake_run
from tests.report.pages import read, rows


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    run = fake_run("my <run>", loss="cyclip", steps=20, rows=5)
    return read(run, tmp_path_factory.mktemp("single"), baseline={"name": "ridge", "tr@1": 8.61, "ir@1": 12.13})


def test_one_run_says_what_it_is_and_how_to_repeat_it(single):
    text, markdown = single
    assert "Run my <run>" in text
    assert "test_resnet (images) and distilbert-nano (captions) were trained on scenes with the loss CyCLIP" in text
    assert f"{Experiment().epochs} epochs in batches of 128, seed 0, 1 min 15 s" in text
    assert (
        "retrieval among 40 images and 200 captions and zero-shot classification of 60 images into 12 classes" in text
    )
    assert "clipedu train --loss cyclip --optimizer adamw --seed 0" in text
    assert "    clipedu train --loss cyclip --optimizer adamw --seed 0" in markdown


def test_one_run_shows_scores_with_error_chance_and_baseline(single):
    _, markdown = single
    # 20 % of 40 images: s.e. sqrt(.2 x .8 / 40) = 6.32 %, chance 1 / 40; zero-shot: 60 images, 12 classes
    assert rows(markdown, "TR@1") == [["TR@1", "20.00", "6.32", "2.5", "8.61"]]
    assert rows(markdown, "IR@1") == [["IR@1", "20.00", "6.32", "2.5", "12.13"]]
    assert rows(markdown, "top-1") == [["top-1", "20.00", "5.16", "8.33", "–"]]
    assert rows(markdown, "average") == [["average", "20.00", "3.44", "4.44", "–"]]


def test_one_run_defines_its_scores_and_lists_settings_and_environment(single):
    text, markdown = single
    assert "share of images with one of their own captions" in text
    assert "share of captions whose own image" in text
    assert rows(markdown, r"weight\_decay")[0][1] == "0.02"
    assert rows(markdown, "torch") == [["torch", "2.15.0"]]
    assert rows(markdown, "commit") == [["commit", "none"]]


def test_a_failed_run_is_reported_as_one(tmp_path):
    run = fake_run("lost", steps=0, status="failed", note="the loss is not finite at step 0")
    text, markdown = read([run], tmp_path)
    assert "This run is not finished: failed. the loss is not finite at step 0" in text
    assert "It has no scores" in text
    assert text.count("No figure here") == 9 and "![" not in markdown


def test_a_run_that_was_continued_says_so(tmp_path):
    run = fake_run(steps=2, rows=2, note="2 epochs until step 8, then 3")
    run.command = "clipedu train --epochs 3"
    text, _ = read(run, tmp_path)
    assert "It was continued for more epochs: 2 epochs until step 8, then 3." in text
    assert "The command of such a run from the start:" in text and "repeats it" not in text


def test_the_shape_of_the_embeddings_is_named_and_explained_as_everywhere(tmp_path):
    run = fake_run(steps=2, rows=2)
    run.metrics |= {key: 0.125 for key in SPACE}
    _, markdown = read(run, tmp_path)
    for key in SPACE:
        (row,) = rows(markdown, METRICS[key].heading.replace("_", r"\_"))
        assert row[1:] == ["0.125", METRICS[key].explanation]


def test_averaged_weights_have_a_column_and_the_page_says_which_is_which(tmp_path):
    import pandas as pd

    run = fake_run(steps=2, rows=2, average=20.0, ema_decay=0.99)
    run.metrics |= {"averaged/tr@1": 25.0, "averaged/average": 24.5}
    run.validation = pd.DataFrame(
        [{"step": s, "epoch": 1.0, "weights": "model", "tr@1": 1.0 * s, "average": 2.0 * s} for s in (1, 2)]
    )
    text, markdown = read(run, tmp_path, baseline={"name": "ridge", "tr@1": 8.61})
    assert rows(markdown, "TR@1") == [["TR@1", "20.00", "6.32", "2.5", "25.00", "8.61"]]
    assert rows(markdown, "IR@1")[0][-2:] == ["–", "–"] and rows(markdown, "average")[0][4] == "24.50"
    assert "moving average of the weights (ema_decay=0.99); all else on this page is of the trained weights" in text
    assert "validation.png" in markdown and "Scores during training" in text
