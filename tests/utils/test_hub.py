"""Helpers for the Hub, and pretrained weights: the real clients against a stand-in server on loopback."""

import logging
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from clipedu import load_run
from clipedu.utils.errors import ClipeduError
from clipedu.utils.hub import check_reachable, explained, http_errors, quiet, reachable, status_of
from tests.helpers.hub_server import client_settings, serve_hub
from tests.helpers.processes import environment


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub with a timm ResNet and a small DistilBERT with its tokenizer, both with weights made here."""
    import timm
    from safetensors.torch import save_file
    from transformers import DistilBertConfig, DistilBertModel

    from clipedu.data.tokenizer import train_tokenizer

    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(7)
    image = timm.create_model("test_resnet")
    folder = root / image.pretrained_cfg["hf_hub_id"]
    folder.mkdir(parents=True)
    save_file(image.state_dict(), folder / "model.safetensors")
    tokenizer = train_tokenizer(["a small red star above a blue ring", "a large green box on stripes"] * 20, length=16)
    text = DistilBertModel(
        DistilBertConfig(vocab_size=tokenizer.vocab_size, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    )
    text.save_pretrained(root / "distilbert-base-uncased")
    tokenizer.save(root / "distilbert-base-uncased")
    with serve_hub(root) as (endpoint, seen):
        yield endpoint, seen, image.state_dict(), text.state_dict()


def train(endpoint: str, tmp_path: Path, *words: str) -> subprocess.CompletedProcess:
    online = environment(**client_settings(endpoint, tmp_path / "hf"))
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "clipedu",
            "train",
            "--train-size",
            "32",
            "--batch-size",
            "16",
            "--epochs",
            "1",
            "--embedding-dim",
            "16",
            "--text-length",
            "16",
            "--folder",
            str(tmp_path / "run"),
            *words,
        ],
        capture_output=True,
        text=True,
        env=online,
        timeout=400,
    )


def test_train_from_pretrained_weights(hub, tmp_path):
    """Both encoders come from the hub, frozen, so the run's checkpoint must hold exactly what the hub served."""
    endpoint, seen, image, text = hub
    done = train(
        endpoint,
        tmp_path,
        "--image-weights",
        "pretrained",
        "--text-encoder",
        "distilbert-base-uncased",
        "--text-weights",
        "pretrained",
        "--image-frozen",
        "true",
        "--text-frozen",
        "true",
    )
    assert done.returncode == 0, done.stderr
    assert any("test_resnet" in request for request in seen) and any("distilbert" in request for request in seen)
    model = load_run(tmp_path / "run").model()
    for name, value in model.image_encoder.state_dict().items():
        assert torch.equal(value, image[name]), name
    for name, value in model.text_encoder.state_dict().items():
        assert torch.equal(value, text[name]), name


def test_a_name_the_hub_does_not_have(hub, tmp_path):
    done = train(hub[0], tmp_path, "--text-encoder", "distilbert/no-such-model")
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert done.stderr.strip().splitlines()[-1].startswith("clipedu: ") and "distilbert/no-such-model" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_network(tmp_path):
    """A closed port: one line, soon."""
    done = train("http://127.0.0.1:9", tmp_path, "--image-weights", "pretrained")
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert "Traceback" not in done.stderr and "image_weights" in done.stderr.strip().splitlines()[-1]


CLOSED = "http://127.0.0.1:9"  # nothing listens there


def test_reachable(tmp_path):
    with serve_hub(tmp_path) as (endpoint, _):
        assert reachable(endpoint) and reachable(f"{endpoint}/no/such/page")  # a 404 is an answer too
    assert not reachable(CLOSED)


def test_check_reachable(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ClipeduError, match="^birds cannot be fetched: HF_HUB_OFFLINE is set, unset it$"):
        check_reachable("birds")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", CLOSED)
    with pytest.raises(ClipeduError, match="birds cannot be fetched: http://127.0.0.1:9 cannot be reached, check the"):
        check_reachable("birds")


def lose_the_connection():
    """What the Hub's own client raises when there is no server."""
    from huggingface_hub.utils import get_session

    get_session().get(CLOSED)


def test_a_lost_connection_is_an_http_error_without_a_status(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(http_errors()) as caught:
        lose_the_connection()
    assert status_of(caught.value) is None
    with (
        pytest.raises(ClipeduError, match=r"owner/birds cannot be fetched \(.+\): what has arrived is kept, the same"),
        explained("owner/birds"),
    ):
        lose_the_connection()


def test_every_answer_of_the_hub_is_an_http_error():
    from huggingface_hub import errors

    for name in ("GatedRepoError", "RepositoryNotFoundError", "RevisionNotFoundError", "RemoteEntryNotFoundError"):
        assert issubclass(getattr(errors, name), http_errors()), name


def test_errors_that_are_not_the_hubs_pass_through():
    for error in (KeyError("x"), FileNotFoundError("x"), ClipeduError("x")):
        with pytest.raises(type(error)), explained("owner/birds"):
            raise error


@pytest.mark.parametrize("error", [None, KeyError])
def test_quiet_is_quiet_and_then_as_before(error):
    from huggingface_hub.utils import are_progress_bars_disabled
    from huggingface_hub.utils import logging as hub_logging

    before, hidden = hub_logging.get_verbosity(), are_progress_bars_disabled()
    with nullcontext() if error is None else pytest.raises(error), quiet():
        assert hub_logging.get_verbosity() == logging.ERROR and are_progress_bars_disabled()
        if error:
            raise error
    assert (hub_logging.get_verbosity(), are_progress_bars_disabled()) == (before, hidden)
    with quiet(bars=True):
        assert are_progress_bars_disabled() == hidden


def test_quiet_silences_the_bars_of_transformers_too():
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging as library

    for hidden in (False, True):
        with quiet(bars=hidden):
            assert library.is_progress_bar_enabled() is hidden
            with quiet():
                assert not library.is_progress_bar_enabled() and are_progress_bars_disabled()
            assert library.is_progress_bar_enabled() is hidden and are_progress_bars_disabled() is not hidden
