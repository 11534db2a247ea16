"""Weights from files and from the hub, with and without a network."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from clipedu.models.dual_encoder import build_model
from clipedu.models.image_encoders import build_image_encoder
from clipedu.models.text_encoders import build_text_encoder
from clipedu.models.weights import cached_timm_weights, from_hub
from clipedu.utils.errors import ClipeduError
from tests.helpers.errors import message_of

SMALL = {"dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32}


def saved(model, path: Path, drop: str = "", **more) -> str:
    state = {name: t.contiguous() for name, t in model.state_dict().items() if not drop or not name.endswith(drop)}
    save_file({**state, **more}, path)
    return str(path)


def same(one, two) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_file_is_loaded_whole(tmp_path):
    torch.manual_seed(1)
    image = build_image_encoder("test_resnet")
    with torch.no_grad():
        image.bn1.running_mean.fill_(7)
    path = saved(
        image, tmp_path / "image.safetensors", **{"fc.weight": torch.zeros(10, 192)}
    )  # a classifier is left out
    assert not same(build_image_encoder("test_resnet"), image)
    assert same(build_image_encoder("test_resnet", path), image)

    text = build_text_encoder("distilbert-nano", vocab_size=50, **SMALL)
    path = saved(text, tmp_path / "text.safetensors")
    assert same(build_text_encoder("distilbert-nano", path, vocab_size=50, **SMALL), text)


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(build_image_encoder("test_resnet"), tmp_path / "w.safetensors")
    build_image_encoder("test_resnet", "~/w.safetensors")


def test_counters_of_batches_may_be_missing(tmp_path):
    """Batch norms count batches; converted files don't have that, and evaluation doesn't use it."""
    image = build_image_encoder("test_resnet")
    assert same(build_image_encoder("test_resnet", saved(image, tmp_path / "w", drop="num_batches_tracked")), image)


def test_a_file_that_is_not_there():
    message = message_of(build_image_encoder, "test_resnet", "no/such.safetensors")
    assert message == (
        "weights 'no/such.safetensors' for 'test_resnet': no such file. Allowed: random, pretrained, or the path of a "
        ".safetensors file"
    )
    assert "'randon' for 'distilbert-nano': no such file" in message_of(build_text_encoder, "distilbert-nano", "randon")


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x80\x04\x95pickle"])
def test_a_file_that_is_no_safetensors(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    message = message_of(build_image_encoder, "test_resnet", str(tmp_path / "w.safetensors"))
    assert "cannot be read as safetensors" in message and "test_resnet" in message


def test_a_cut_file(tmp_path):
    path = Path(saved(build_image_encoder("test_resnet"), tmp_path / "w.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])
    assert "cannot be read as safetensors" in message_of(build_image_encoder, "test_resnet", str(path))


def test_weights_that_do_not_fit(tmp_path):
    path = saved(build_image_encoder("test_resnet"), tmp_path / "w.safetensors", drop="bn1.weight")
    message = message_of(build_image_encoder, "test_resnet", path)
    assert "do not fit 'test_resnet'" in message and "0 of another shape" in message and "bn1.weight" in message
    assert "tensors missing" in message_of(build_image_encoder, "test_vit", path)

    text = build_text_encoder("distilbert-nano", vocab_size=50, **SMALL)
    path = saved(text, tmp_path / "text.safetensors")
    message = message_of(build_text_encoder, "distilbert-nano", path, vocab_size=51, **SMALL)
    assert "0 tensors missing, 1 of another shape (first: embeddings.word_embeddings.weight)" in message


# the hub


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """The hub is not told to be offline, but nobody answers; and nothing was fetched before."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)


@pytest.mark.timeout(45)  # the hub's own client would try for 47 and for 100 seconds here
def test_pretrained_weights_without_a_network(no_network):
    message = message_of(build_image_encoder, "test_resnet", "pretrained")
    assert message.startswith(
        "pretrained weights of image encoder 'test_resnet': not on this machine, and the hub cannot be"
    )
    assert message.endswith("or choose another image_weights")
    message = message_of(build_text_encoder, "distilbert-base-uncased", "pretrained")
    assert "text encoder 'distilbert-base-uncased': not on this machine, and the hub cannot be reached" in message
    assert message.endswith("or choose another text_weights")
    assert "'some/thing': not on this machine" in message_of(build_text_encoder, "some/thing")


def test_what_was_fetched_before_is_used_without_a_network(no_network, monkeypatch, tmp_path):
    image = build_image_encoder("test_resnet")
    in_cache(tmp_path, "timm/test_resnet.r160_in1k", lambda folder: saved(
        image, folder / "model.safetensors", **{"fc.weight": torch.zeros(1000, 384), "fc.bias": torch.zeros(1000)}
    ))  # fmt: skip
    again = build_image_encoder("test_resnet", "pretrained")
    assert same(again, image) and again.made_as == image.made_as
    text = build_text_encoder("distilbert-nano", vocab_size=64, **SMALL)
    in_cache(tmp_path, "some/thing", text.save_pretrained)
    assert same(build_text_encoder("some/thing", "pretrained"), text)


def in_cache(cache: Path, repository: str, save) -> None:
    """Save files where the hub's client keeps what it has fetched."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save(folder / "snapshots" / ("0" * 40))


def test_errors_of_the_hub_are_one_line_and_wrong_options_pass(no_network):
    with (
        pytest.raises(ClipeduError, match="x: not on this machine, and the hub cannot be reached .boom."),
        from_hub("x", "y") as local,
    ):
        assert local
        raise OSError("boom")
    with pytest.raises(TypeError), from_hub("x", "y"):
        raise TypeError("a wrong option passes through")
    with pytest.raises(KeyboardInterrupt), from_hub("x", "y"):
        raise KeyboardInterrupt


def test_two_threads_each_find_the_hub_as_it_is_for_them(no_network, monkeypatch):
    """One thread finds no network, the other does: neither changes what the other, or anybody afterwards, does."""
    import threading

    monkeypatch.setattr("clipedu.models.weights.reachable", lambda _: threading.current_thread().name == "online")
    both_inside, seen = threading.Barrier(2), {}

    def ask() -> None:
        name = threading.current_thread().name
        with pytest.raises(ClipeduError) as caught, from_hub("x", "y") as local:
            both_inside.wait(30)
            seen[name] = local, constants.HF_HUB_OFFLINE
            both_inside.wait(30)
            raise OSError("boom")
        seen[name] += (str(caught.value).split(" (")[0],)

    threads = [threading.Thread(target=ask, name=name) for name in ("online", "offline")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == {
        "online": (False, False, "x: not available"),
        "offline": (True, False, "x: not on this machine, and the hub cannot be reached"),
    }
    assert constants.HF_HUB_OFFLINE is False


def test_weights_that_do_not_come_from_the_hub_are_left_to_timm():
    assert cached_timm_weights("gcvit_tiny") == {}
    with pytest.raises(OSError, match="timm/test_resnet.r160_in1k has not been fetched: neither model.safetensors nor"):
        cached_timm_weights("test_resnet")


def test_a_hub_that_answers_is_asked(no_network, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        import threading

        def answer():
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ClipeduError, match="x: not available .gone."), from_hub("x", "y") as local:
            assert not local
            raise OSError("gone\nand more")
        thread.join()


def test_a_folder_that_transformers_saved(tmp_path, monkeypatch):
    """Stands for the hub: weights and configuration come from it, in float32, with as many rows as the tokenizer has ids."""
    text = build_text_encoder("distilbert-nano", vocab_size=64, **SMALL)
    text.half().save_pretrained(tmp_path / "model")
    name = str(tmp_path / "model")
    again = build_text_encoder(name, "pretrained", vocab_size=64)
    assert again.config.dim == 16 and next(again.parameters()).dtype == torch.float32
    assert same(again.half(), text)
    shorter = build_text_encoder(name, "pretrained", vocab_size=50)
    assert shorter.config.vocab_size == 50
    rows = shorter.get_input_embeddings().weight
    assert rows.shape == (50, 16) and torch.equal(rows.half(), text.get_input_embeddings().weight[:50])
    monkeypatch.setattr("clipedu.models.weights.reachable", None)  # a folder is read without asking for a network
    fresh = build_text_encoder(name, "random", vocab_size=50)
    assert fresh.config.dim == 16 and {key: t.shape for key, t in fresh.state_dict().items()} == {
        key: t.shape for key, t in shorter.state_dict().items()
    }  # so that a run's checkpoint fits a model built without the hub's weights


def test_a_folder_that_is_damaged(tmp_path):
    (tmp_path / "config.json").write_text("{")
    assert f"text encoder '{tmp_path}' cannot be built: " in message_of(build_text_encoder, str(tmp_path))


# real weights

WEIGHTS = Path(os.environ.get("CLIPEDU_DATA", "")) / "weights" / "mobilenetv2_100_tf_224_ptq.fp32.safetensors"
SHARDS = Path(os.environ.get("CLIPEDU_DATA", "")) / "imagenet-sample"


@pytest.mark.skipif(
    not WEIGHTS.is_file() or not SHARDS.is_dir(), reason="needs CLIPEDU_DATA with weights and imagenet-sample"
)
def test_real_weights_tell_real_photographs_apart():
    """Features of the same photograph, cut out differently, are far more alike than those of different classes."""
    from clipedu import Experiment, load_pairs

    experiment = Experiment(
        image_encoder="mobilenetv2_100", image_weights=str(WEIGHTS), image_options={"pad_type": "same"},
        image_size=128, pixel_stats="inception", image_frozen=True, text_options=SMALL,
    )  # fmt: skip
    model = build_model(experiment, vocab_size=50).eval()
    pixels = load_pairs(str(SHARDS), "zeroshot", image_size=128, size=12).pixels(torch.arange(12))
    with torch.no_grad():
        one, two = (torch.nn.functional.normalize(model.image_features(x), dim=1) for x in (pixels, pixels.flip(-1)))
    assert one.shape == (12, 1280) and one.isfinite().all()
    assert one.std(0).max() > 0.01
    assert torch.equal((one @ two.T).argmax(1), torch.arange(12))
