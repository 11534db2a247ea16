"""Trackers by name; what is missing is told with the command that installs it."""

import sys

import pytest

from clipedu.config.experiment import TRACKERS as NAMES
from clipedu.trackers import TRACKERS, check_installed
from tests.helpers.errors import message_of
from tests.helpers.processes import modules_after


def test_settings_know_all_trackers():
    assert tuple(TRACKERS) == NAMES and all(entry.description for entry in TRACKERS.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    message = message_of(check_installed, [name])
    assert message == f"track='{name}' needs the package {name}: pip install {name}, or leave it out"


@pytest.mark.parametrize("error", [ImportError("cannot import name 'x'"), AttributeError("no numpy.bool\nsecond line")])
def test_a_package_that_does_not_fit_others(monkeypatch, error):
    def broken(name):
        raise error

    monkeypatch.setattr("clipedu.trackers.registry.importlib.import_module", broken)
    message = message_of(check_installed, ["trackio"])
    assert "track='trackio' needs the package trackio, which" in message and str(error).splitlines()[0] in message
    assert "pip install" in message and "second" not in message


def test_no_tracker_needs_nothing():
    check_installed([])


def test_nothing_is_imported_before_it_is_used():
    loaded = modules_after(
        "import clipedu.trackers\nfrom clipedu.cli.parser import build_parser\n"
        "try: build_parser().parse_args(['train', '--help'])\nexcept SystemExit: pass"
    )
    assert loaded.isdisjoint({"torch", "tensorboard", "trackio", "wandb", "pandas"})
