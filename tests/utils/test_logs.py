"""The library's log lines: which are shown where."""

import logging
import subprocess
import sys

import pytest

from clipedu.utils.logs import AboveBars, log_to_stderr
from tests.helpers.processes import run_python


@pytest.fixture(autouse=True)
def logger():
    """The library's logger without a handler, as a notebook has it; afterwards as it was."""
    logger = logging.getLogger("clipedu")
    before, level = logger.handlers[:], logger.level
    logger.handlers[:] = []
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.handlers[:] = before
    logger.setLevel(level)


def test_the_command_line_shows_information_once(logger, capsys):
    log_to_stderr()
    log_to_stderr()
    logger.info("%s files", 4)
    logger.debug("not shown")
    logging.getLogger("another").warning("not ours")
    shown = capsys.readouterr()
    assert shown.err.count("4 files\n") == 1 and "not shown" not in shown.err and shown.out == ""
    assert sum(isinstance(handler, AboveBars) for handler in logger.handlers) == 1


def test_lines_go_above_a_progress_bar(logger, capsys):
    from tqdm import tqdm

    log_to_stderr()
    with tqdm(total=2, file=sys.stderr, mininterval=0) as bar:
        bar.update(1)
        logger.warning("waiting")
        bar.update(1)
    assert "\nwaiting" not in (shown := capsys.readouterr().err) and "waiting\n" in shown  # the bar is cleared first


def test_a_notebook_shows_warnings_and_no_information():
    code = "import logging; log = logging.getLogger('clipedu'); log.info('quiet'); log.warning('loud')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "loud\n" and done.stdout == ""


SHOWN = """
import logging
from clipedu.utils.logs import show_progress_lines
{before}
for progress in {calls}:
    show_progress_lines(progress)
logging.getLogger("clipedu").info("three files to fetch")
"""


@pytest.mark.parametrize(
    ("before", "calls", "lines"),
    [
        ("", (True, True), ["three files to fetch"]),  # once, though it was asked for twice
        ("", (False,), []),
        ("logging.basicConfig(level='INFO', format='mine: %(message)s')", (True,), ["mine: three files to fetch"]),
    ],
)
def test_progress_lines_of_a_script_are_shown_once(before, calls, lines):
    done = run_python("-c", SHOWN.format(before=before, calls=calls))
    assert done.stderr.splitlines() == lines and done.stdout == ""
