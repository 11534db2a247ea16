from clipedu.config.course import LOSSES
from clipedu.report.course_section import course_blocks
from clipedu.report.score_table import score_table
from tests.helpers.fake_run import fake_run
from tests.report.pages import read, rows


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
