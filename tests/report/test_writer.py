import re
from html import unescape

import pytest

from clipedu.config.course import course_table
from clipedu.config.experiment import Experiment
from clipedu.report.course_section import course_blocks
from clipedu.report.score_table import score_table
from clipedu.report.writer import write_report
from clipedu.utils.errors import ClipeduError
from tests.helpers.fake_run import fake_run

LOSSES, OPTIMIZERS = ("sogclr", "clip", "cyclip", "vicreg", "onlineclr"), ("adamw", "sgd", "adam")


def read(runs, folder, **options):
    """Both pages: the text of the HTML (tags removed) and the Markdown."""
    path = write_report(runs, folder, **options)
    assert path == folder / "report.html"
    html = path.read_text(encoding="utf-8")
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    text = unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)))
    return text, (folder / "report.md").read_text(encoding="utf-8")


def rows(markdown, start):
    """Cells of the Markdown table rows whose first cell is `start`."""
    cells = [
        [cell.strip(" *") for cell in line.strip("|").split(" | ")] for line in markdown.splitlines() if line[:1] == "|"
    ]
    return [row for row in cells if row[0] == start]


@pytest.fixture(scope="module")
def grid():
    """Averages that fall from cell to cell in the course's order of averages: rank correlation exactly 1."""
    order = course_table().sort_values("average", ascending=False)
    place = {(row.loss, row.optimizer): n for n, row in enumerate(order.itertuples())}
    return [
        fake_run(f"{o}-{k}", loss=k, optimizer=o, steps=4, rows=3, average=90.0 - 5 * place[k, o])
        for o in OPTIMIZERS
        for k in LOSSES
    ]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    run = fake_run("my <run>", loss="cyclip", steps=20, rows=5)
    folder = tmp_path_factory.mktemp("single") / "made" / "if-need-be"
    return *read(run, folder, baseline={"name": "ridge", "tr@1": 8.61, "ir@1": 12.13}), folder


def test_one_run_says_what_it_is_and_how_to_repeat_it(single):
    text, markdown, _ = single
    assert "Run my <run>" in text
    assert "test_resnet (images) and distilbert-nano (captions) were trained on scenes with the loss CyCLIP" in text
    assert f"{Experiment().epochs} epochs in batches of 128, seed 0, 1 min 15 s" in text
    assert (
        "retrieval among 40 images and 200 captions and zero-shot classification of 60 images into 12 classes" in text
    )
    assert "clipedu train --loss cyclip --optimizer adamw --seed 0" in text
    assert "    clipedu train --loss cyclip --optimizer adamw --seed 0" in markdown


def test_one_run_shows_scores_with_error_chance_and_yardstick(single):
    _, markdown, _ = single
    # 20 % of 40 images: s.e. sqrt(.2 x .8 / 40) = 6.32 %, chance 1 / 40; zero-shot: 60 images, 12 classes
    assert rows(markdown, "TR@1") == [["TR@1", "20.00", "±6.32", "2.5", "8.61"]]
    assert rows(markdown, "IR@1") == [["IR@1", "20.00", "±6.32", "2.5", "12.13"]]
    assert rows(markdown, "top-1") == [["top-1", "20.00", "±5.16", "8.33", "–"]]
    assert rows(markdown, "average") == [["average", "20.00", "±3.44", "4.44", "–"]]


def test_one_run_defines_its_scores_and_lists_settings_and_environment(single):
    text, markdown, _ = single
    assert "share of images with one of their own captions" in text
    assert "share of captions whose own image" in text
    assert rows(markdown, r"weight\_decay")[0][1] == "0.02"
    assert rows(markdown, "torch") == [["torch", "2.15.0"]]
    assert rows(markdown, "commit") == [["commit", "none"]]


def test_one_run_embeds_its_figures(single):
    _, markdown, folder = single
    html = (folder / "report.html").read_text()
    assert html.count('src="data:image/png;base64,') == html.count("<img") == 8
    assert "http" not in html and "<script" not in html and "my <run>" not in html
    for name in re.findall(r"\]\((plots/[\w-]+\.png)\)", markdown):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert len(list((folder / "plots").iterdir())) == 8


def test_a_failed_run_is_reported_as_one(tmp_path):
    run = fake_run("lost", steps=0, status="failed", note="the loss is not finite at step 0")
    text, markdown = read([run], tmp_path)
    assert "This run is not finished: failed. the loss is not finite at step 0" in text
    assert "It has no scores" in text
    assert text.count("No figure here") == 9 and "![" not in markdown


def test_a_run_that_learned_nothing_is_called_so(tmp_path):
    run = fake_run("blind", steps=2, rows=2, average=5.0)  # chance is 4.44
    assert "no better than chance: this model has learned nothing" in read(run, tmp_path)[0]
    _, markdown = read([run, fake_run("seeing", steps=2, rows=2, seed=1)], tmp_path)
    assert rows(markdown, "blind")[0][-1] == "at chance" and rows(markdown, "seeing")[0][-1] == "best"


def test_many_runs_are_in_the_courses_order_with_the_best_marked(grid, tmp_path):
    text, markdown = read(grid[::-1], tmp_path, baseline={"name": "ridge", "tr@1": 8.6, "ir@1": 12.1, "seconds": 3.0})
    names = [line.split(" | ")[0].strip("|* ") for line in markdown.splitlines() if line[:1] == "|"]
    names = [name for name in names if re.fullmatch(r"(adamw|sgd|adam)-\w+", name)]
    assert names[:15] == [f"{o}-{k}" for o in OPTIMIZERS for k in LOSSES]
    assert "15 runs (15 finished)" in text and "is that of adamw-cyclip" in text
    assert "| **adamw-cyclip** | **AdamW** | **CyCLIP** | **90.00**" in markdown
    assert rows(markdown, "adamw-sogclr")[0][-1] == "≈ best" and rows(markdown, "adam-onlineclr")[0][-1] == ""
    assert rows(markdown, "chance") == [["chance", "", "", "2.5", "2.5", "8.33", "4.44", "", "", ""]]
    assert rows(markdown, "ridge") == [["ridge", "", "", "8.60", "12.10", "–", "–", "", "3.0 s", "yardstick"]]
    html = (tmp_path / "report.html").read_text()
    assert html.count("<img") == 3 and html.count("<tr class=best>") == 1


def test_many_runs_stand_beside_the_corrected_course_table(grid, tmp_path):
    text, markdown = read(grid, tmp_path)
    row = next(row for row in rows(markdown, "AdamW") if row[1] == "SogCLR")
    assert row == ["AdamW", "SogCLR", "13.18", "10.30", "24.55", "16.01†", "85.00", "2", "2"]
    assert "14.15†" in text and markdown.count("†") == 3
    assert "printed were 16.68 for AdamW + SogCLR (its three scores give 16.01) and 14.81 for AdamW + CLIP" in text
    assert "Only orderings may be compared" in text
    assert "over the 15 cells that both have: +1.00" in text
    assert "within ±0.52" in text


def test_the_rank_correlation_needs_four_cells_that_differ(grid):
    def said(runs):
        return course_blocks(score_table(runs))[-1].text

    assert "share 3 of 15 cells: too few" in said(grid[:3])
    assert "over the 4 cells that both have: +1.00" in said(grid[:4])
    assert "With so few cells, unrelated tables may give any value" in said(grid[:4])
    assert "no order to compare" in said([fake_run(k, loss=k, steps=2, rows=2) for k in LOSSES])


def test_runs_outside_the_courses_grid_are_not_compared_with_it(tmp_path):
    runs = [fake_run("a", loss="siglip", steps=2, rows=2), fake_run("b", loss="dcl", steps=2, rows=2, average=5.0)]
    text, _ = read(runs, tmp_path)
    assert "course's published" not in text and "Spearman" not in text and "Losses and optimizers" in text


def test_no_run_is_dropped(grid, tmp_path):
    stopped = fake_run(
        "halted", loss="clip", optimizer="adam", steps=3, status="stopped", note="by the user after step 3"
    )
    text, markdown = read([*grid[:2], stopped, fake_run("gone", steps=0, status="failed", note="nan | inf")], tmp_path)
    assert "4 runs (2 finished, 1 stopped, 1 failed)" in text
    (row,) = [row for row in rows(markdown, "halted") if len(row) == 10]
    assert row[3:8] == ["–"] * 5 and row[-1] == "stopped: by the user after step 3"
    assert "failed: nan | inf" in text


def test_nothing_is_scored_yet(tmp_path):
    runs = [fake_run(name, steps=0, status="running") for name in ("a", "b")]
    text, _ = read(runs, tmp_path)
    assert "None has scores yet" in text and "No figure here" in text and "Spearman" not in text


def test_settings_are_split_into_common_and_different_even_for_runs_of_one_name(tmp_path):
    runs = [fake_run("same", steps=2, rows=2), fake_run("same", steps=2, rows=2, seed=1, lr=0.5)]
    text, markdown = read(runs, tmp_path)
    assert "| run | lr | seed |" in markdown
    assert [row for row in rows(markdown, "same") if len(row) == 3] == [
        ["same", f"{Experiment().lr:g}", "0"],
        ["same", "0.5", "1"],
    ]
    assert rows(markdown, r"batch\_size") == [[r"batch\_size", "128"]]
    assert "date" not in text  # never the same, says nothing
    (repeat,) = [row for row in rows(markdown, "AdamW") if len(row) == 6]
    assert repeat == ["AdamW", "CLIP", "2", "20.00", "0.00", "lr, seed"]


def test_scores_of_different_test_sets_are_not_compared_in_silence(tmp_path):
    runs = [fake_run("a", steps=2, rows=2), fake_run("b", steps=2, rows=2, seed=1)]
    assert "different test sets" not in read(runs, tmp_path)[0]
    runs[1].metrics["retrieval_captions"] = 40
    assert "different test sets" in read(runs, tmp_path)[0]


def test_what_can_be_mended_is_said(tmp_path):
    with pytest.raises(ClipeduError, match="give at least one"):
        write_report([], tmp_path)
    with pytest.raises(ClipeduError, match="has no 'name'"):
        write_report(fake_run(steps=2, rows=2), tmp_path, baseline={"tr@1": 1.0})
    (tmp_path / "file").write_text("")
    with pytest.raises(ClipeduError, match="Give a folder you may write to"):
        write_report(fake_run(steps=2, rows=2), tmp_path / "file")
