"""Markdown tables of frames."""

import pandas as pd

from clipedu.utils.markdown import markdown


def test_a_frame_becomes_a_table_with_rounded_floats():
    frame = pd.DataFrame({"loss": ["clip", "vicreg"], "average": [46.666, 7.0], "seeds": [3, 1]})
    assert markdown(frame, 2).splitlines() == [
        "| loss | average | seeds |",
        "|---|---|---|",
        "| clip | 46.67 | 3 |",
        "| vicreg | 7.00 | 1 |",
    ]


def test_a_frame_without_rows_is_a_header():
    assert markdown(pd.DataFrame({"loss": []}), 1) == "| loss |\n|---|"
