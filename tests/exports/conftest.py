"""A run to export, made once; released models of other libraries."""

from __future__ import annotations

import pytest

from tests.helpers.hub_server import TOKEN
from tests.helpers.releases import trained_run
from tests.interop.conftest import released  # noqa: F401  a fixture


@pytest.fixture
def trained():
    """A finished run; for reading only."""
    return trained_run()


@pytest.fixture
def token(monkeypatch, tmp_path):
    """A user who may publish under the name "me"."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
