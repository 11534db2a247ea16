"""A run to export, made once; released models of other libraries."""

from __future__ import annotations

import pytest

from tests.helpers.hub_server import TOKEN
from tests.helpers.releases import trained_run
from tests.interop.conftest import released  # noqa: F401  a fixture


@pytest.fixture(scope="session", autouse=True)
def own_modules(tmp_path_factory):
    """transformers keeps code of models in a folder of the tests, not in the user's."""
    import transformers.dynamic_module_utils as library

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


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
