"""The doctor: what it says of versions that fit, and of those that do not."""

import re
import sys

import pytest

from clipedu.utils.doctor import doctor, required_versions, torch_pair, widget_pair


@pytest.mark.parametrize(
    "torch, wanted, error, fine, words",
    [
        ("2.15.0", "==2.15.0", "", True, "asks for torch ==2.15.0"),
        ("2.15.0+cu132", "==2.15.0", "", True, "loads"),
        ("2.15.0", "", "", True, "of any version"),
        ("2.16.0.dev20261101+cpu", ">=2.14.0", "", True, "loads"),
        ("2.13.0", ">=2.14.0", "", False, "asks for torch >=2.14.0, but torch is 2.13.0"),
        ("2.13.0", "==2.15.0", "", False, "asks for torch ==2.15.0, but torch is 2.13.0: install both in one command"),
        ("2.15.0", "==2.15.0", "operator torchvision::nms does not exist", False, "(operator torchvision::nms does not exist)"),
    ],
)  # fmt: skip
def test_torch_pair(torch, wanted, error, fine, words):
    finding = torch_pair(torch, "0.29.2", wanted, error)
    assert finding.fine is fine and words in finding.note
    assert str(finding).startswith("fine" if fine else "MEND")


@pytest.mark.parametrize("back, front, fine", [("8.1.9", "3.0.17", True), ("7.7.1", "3.0.17", False),
                                               ("8.1.9", "1.1.0", False), ("8.1.9", "", False), ("", "", False)])  # fmt: skip
def test_widget_pair(back, front, fine):
    finding = widget_pair(back, front)
    assert finding.fine is fine and ("pip install" in finding.note) is not fine


@pytest.mark.parametrize(
    "requirements, fine, words",
    [
        (["torch>=2.7", "umap-learn>=0.5", "huggingface_hub>=1"], True, "3 packages"),
        (["torch>=2.99"], False, 'clipedu needs torch>=2.99 (here 2.7.1): pip install --upgrade "torch>=2.99"'),
        (["tqdm>=4", "torch>=2.7"], False, "tqdm>=4 (here missing)"),
        (["ruff>=9; extra == 'test'", "tomli>=9; python_version < '3'"], True, "0 packages"),
    ],
)
def test_required_versions(requirements, fine, words):
    installed = {"torch": "2.7.1", "umap-learn": "0.5.7", "huggingface-hub": "1.3.0"}
    finding = required_versions(requirements, installed)
    assert finding.fine is fine and words in finding.note


def test_doctor_looks_at_what_is_installed(capsys):
    doctor()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    for line, what in zip(lines, ("Python 3.", "dependencies ", "torch ", "torchvision ", "ipywidgets "), strict=True):
        assert re.match(rf"(fine|MEND)   {what}", line)
    assert sys.executable in lines[0] and lines[1].startswith("fine") and lines[2].startswith("fine")
