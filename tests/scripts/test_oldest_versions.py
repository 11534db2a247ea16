"""The oldest versions that CI tests: one pin a dependency, none without a bound."""

import sys

import pytest
from packaging.requirements import Requirement

from tests.helpers.processes import ROOT, load_script

HEAD = '[project]\ndependencies = ["{}"]\n'


def test_every_dependency_has_a_lower_bound():
    tool = load_script("oldest_versions")
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pins = [Requirement(pin) for pin in tool.oldest_versions(text)]
    names = [pin.name for pin in pins]
    assert {"torch", "torchvision", "timm", "transformers", "numpy", "jupyterlab"} <= set(names)
    assert len(names) == len(set(names)) and all(str(pin.specifier).startswith("==") for pin in pins)
    assert ("tomli" in names) is (sys.version_info < (3, 11))


def test_a_bound_is_read_beside_others_and_its_lack_is_an_error():
    tool = load_script("oldest_versions")
    assert tool.oldest_versions(HEAD.format("torch<3,>=2.7")) == ["torch==2.7"]
    assert tool.oldest_versions(HEAD.format("tomli>=2; python_version < '3'")) == []
    with pytest.raises(ValueError, match="tqdm has no lower bound"):
        tool.oldest_versions(HEAD.format("tqdm"))
