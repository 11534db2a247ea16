import re
from pathlib import Path

import pytest

from clipedu.report.writer import write_report
from clipedu.utils.errors import ClipeduError
from tests.helpers.fake_run import fake_run


def test_figures_are_embedded_in_html_and_beside_the_markdown(tmp_path):
    folder = tmp_path / "made" / "if-it-does-not-exist"
    assert write_report(fake_run("my <run>", steps=20, rows=5), folder) == folder / "report.html"
    html, markdown = ((folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert html.count('src="data:image/png;base64,') == html.count("<img") == 8
    assert "http" not in html and "<script" not in html and "my <run>" not in html
    for name in re.findall(r"\]\((plots/[\w-]+\.png)\)", markdown):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert len(list((folder / "plots").iterdir())) == 8


def test_errors_that_a_user_can_correct(tmp_path):
    with pytest.raises(ClipeduError, match="give at least one"):
        write_report([], tmp_path)
    with pytest.raises(ClipeduError, match="has no 'name'"):
        write_report(fake_run(steps=2, rows=2), tmp_path, baseline={"tr@1": 1.0})
    (tmp_path / "file").write_text("")
    with pytest.raises(ClipeduError, match="Give a folder you may write to"):
        write_report(fake_run(steps=2, rows=2), tmp_path / "file")


def test_an_error_leaves_the_report_that_was_there(tmp_path, monkeypatch):
    run = fake_run(steps=2, rows=2)
    write_report(run, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}

    def half(self, content, *args, **kwargs):
        with self.open("wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(ClipeduError, match=r"report\.md cannot be written: No space left on device"):
        write_report(run, tmp_path)
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(ClipeduError, match=r"plots/.*\.png cannot be written: No space left on device"):
        write_report(run, tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
