"""The page of an inspected model."""

import pandas as pd
import pytest

from clipedu import ClipeduError
from clipedu.report.inspection_page import LAYER_COLUMNS, layer_rows, write_inspection
from tests.report.inspected import inspected


def test_the_page_has_all_parts(tmp_path):
    path = write_inspection(inspected(), tmp_path / "out")
    assert path == tmp_path / "out/inspect.html" and len(pd.read_csv(tmp_path / "out/layers.csv")) == 6
    page = (tmp_path / "out/inspect.md").read_text()
    for heading in ("What stands out", "Where the norms are, and where the recipe says", "Logit scale", "Embeddings", "Tokens of the image encoder",
                    "What is not known", "All matrices"):  # fmt: skip
        assert f"## {heading}\n" in page, heading
    for words in ("600 numbers in 6 tensors, 5 of them matrices", "adamw, peak lr 0.001", "Expected: the norm at the end", "Something is not known",
                  "| bias | -10 |", "modality gap", "largest / median"):  # fmt: skip
        assert words in page, words
    html = path.read_text()
    assert html.count("<img") == 4 and "runs/&lt;mine&gt;" in html and "<mine>" not in html


def test_a_page_of_weights_alone(tmp_path):
    found = inspected(recipe=None, scale=None, space=None, scores={}, tokens=None, unknown=[], pairs="")
    found.layers = found.layers.assign(**dict.fromkeys(("expected", "balance", "end", "ratio", "turns"), float("nan")))
    write_inspection(found, tmp_path)
    page = (tmp_path / "inspect.md").read_text()
    assert "No recipe is known, so only what is there is shown" in page and "Nothing of the above" in page
    assert "## Logit scale" not in page and "## Embeddings" not in page


def test_the_folder_of_a_run_keeps_its_own_table(tmp_path):
    for name in ("experiment.json", "environment.json", "layers.csv"):
        (tmp_path / name).write_text("own")
    with pytest.raises(ClipeduError, match="is the folder of a run, which has files of its own: give another --folder"):
        write_inspection(inspected(), tmp_path)
    assert (tmp_path / "layers.csv").read_text() == "own"
    write_inspection(inspected(), tmp_path / "inspect")


def test_the_table_of_layers():
    rows = layer_rows(inspected())
    assert len(rows) == 5 and all(len(row) == len(LAYER_COLUMNS) for row in rows)
    assert rows[0] == [
        "image_encoder.$conv_1.weight",
        "10x10",
        "normalised",
        "1",
        "1.1",
        "0.91",
        "0.1",
        "0.5",
        "4.0",
        "–",
    ]
    assert rows[3][2:6] == ["frozen", "4", "–", "–"]
