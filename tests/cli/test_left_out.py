"""What was left out, as the command line prints it."""

from __future__ import annotations

import json

from clipedu.cli.left_out import print_left_out, print_left_out_of_run


def test_reasons_are_printed(capsys):
    print_left_out(
        "toy/train", ["0.tar: a: no caption", "0.tar: b: no caption"], ["2: no caption, e.g. 0.tar: a"], "d.json"
    )
    assert (
        capsys.readouterr().out
        == "2 samples of toy/train were left out (all: d.json)\n  2: no caption, e.g. 0.tar: a\n"
    )
    print_left_out("toy/train", [], [])
    assert capsys.readouterr().out == ""


def test_a_run_of_an_earlier_version(tmp_path, capsys):
    print_left_out_of_run(tmp_path)
    sets = [{"name": "toy", "split": "val", "rows": 3, "skipped": ["0.tar: a: no image"]}]
    (tmp_path / "data.json").write_text(json.dumps(sets))
    print_left_out_of_run(tmp_path)
    shown = capsys.readouterr().out
    assert shown.startswith("1 samples of toy/val were left out (all: ") and shown.endswith(
        "\n  e.g. 0.tar: a: no image\n"
    )
