"""Every script has a help that runs, and names itself in it."""

import pytest

from tests.helpers.processes import ROOT, run_python


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.stem)
def test_help(path, tmp_path):
    done = run_python(path, "--help", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert f"python scripts/{path.name}" in done.stdout and "--help" in done.stdout
