"""Weights from files and from the hub, with and without a network."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from clipedu.models.build import build_model
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
        ".safetensors file (or a state dict of torch: .pt, .pth, .bin, .ckpt, .tar)"
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


# prefixes

PREFIXES = [
    "module.",
    "_orig_mod.",
    "visual.trunk.",
    "model.",
    "image_encoder.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "a.very.long.one.",
]


def renamed(model, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor.contiguous() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_taken_off_and_named(prefix, tmp_path, caplog):
    image = build_image_encoder("test_resnet")
    save_file(renamed(image, prefix), tmp_path / "w.safetensors")
    with caplog.at_level("INFO", "clipedu"):
        assert same(build_image_encoder("test_resnet", str(tmp_path / "w.safetensors")), image)
    line = f"weights of test_resnet from w.safetensors: the prefix {prefix!r} of its names is taken off"
    assert [record.message for record in caplog.records] == [line]
    text = build_text_encoder("distilbert-nano", vocab_size=50, **SMALL)
    save_file(renamed(text, prefix), tmp_path / "text.safetensors")
    path = str(tmp_path / "text.safetensors")
    assert same(build_text_encoder("distilbert-nano", path, vocab_size=50, **SMALL), text)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"args": None, "module": {f"module.{name}": t for name, t in state.items()}},
    ],
)
def test_checkpoints_of_torch_are_looked_into(wrap, suffix, tmp_path):
    image = build_image_encoder("test_resnet")
    torch.save(wrap(image.state_dict()), tmp_path / f"w{suffix}")
    assert same(build_image_encoder("test_resnet", str(tmp_path / f"w{suffix}")), image)


def test_words_of_torchs_wrappers_inside_names(tmp_path):
    """A model whose blocks were compiled, or checkpointed, one by one."""
    image = build_image_encoder("test_resnet")
    state = {name.replace("layer1.", "layer1._orig_mod."): tensor for name, tensor in renamed(image, "module.").items()}
    save_file(state, tmp_path / "w.safetensors")
    assert same(build_image_encoder("test_resnet", str(tmp_path / "w.safetensors")), image)


def test_one_encoder_among_others_and_heads(tmp_path, caplog):
    """As open_clip saves a model: both towers, each with a head, and the temperature."""
    image, text = build_image_encoder("test_resnet"), build_text_encoder("distilbert-nano", vocab_size=50, **SMALL)
    heads = {"visual.head.proj.weight": torch.ones(8, 384), "text.proj.weight": torch.ones(8, 16)}
    whole = (
        heads | renamed(image, "visual.trunk.") | renamed(text, "text.transformer.") | {"logit_scale": torch.ones(())}
    )
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in whole.items()}}, tmp_path / "clip.pt")
    path = str(tmp_path / "clip.pt")
    with caplog.at_level("INFO", "clipedu"):
        assert same(build_image_encoder("test_resnet", path), image)
        assert same(build_text_encoder("distilbert-nano", path, vocab_size=50, **SMALL), text)
    assert "'state_dict.module.visual.trunk.'" in caplog.text and "'state_dict.module.text.transformer.'" in caplog.text


def test_of_two_that_fit_the_first_is_taken_and_the_other_named(tmp_path, caplog):
    student, teacher = build_image_encoder("test_resnet"), build_image_encoder("test_resnet")
    save = {"student": student.state_dict(), "teacher": teacher.state_dict()}
    torch.save(save, tmp_path / "w.pt")
    with caplog.at_level("INFO", "clipedu"):
        assert same(build_image_encoder("test_resnet", str(tmp_path / "w.pt")), student)
    assert "'student.' of its names is taken off ('teacher.' would fit too)" in caplog.text


def test_names_without_prefix_win_where_all_fit(tmp_path, caplog):
    image, other = build_image_encoder("test_resnet"), build_image_encoder("test_resnet")
    save_file(renamed(other, "ema.") | renamed(image, ""), tmp_path / "w.safetensors")
    assert same(build_image_encoder("test_resnet", str(tmp_path / "w.safetensors")), image)
    assert not caplog.records


def test_the_prefix_is_named_where_a_tensor_is_missing(tmp_path):
    image = build_image_encoder("test_resnet")
    state = renamed(image, "module.")
    del state["module.bn1.weight"]
    save_file(state | {"module.fc.weight": torch.ones(2, 2)}, tmp_path / "w.safetensors")
    message = message_of(build_image_encoder, "test_resnet", str(tmp_path / "w.safetensors"))
    assert message.endswith(
        "do not fit 'test_resnet' (with the prefix 'module.' taken off): 1 tensors missing, 0 of another shape (first: "
        "bn1.weight); first in the file that the model does not have: fc.weight"
    )


def test_another_models_weights_are_a_short_line(tmp_path):
    path = saved(build_text_encoder("distilbert-nano", vocab_size=50, **SMALL), tmp_path / "w.safetensors")
    message = message_of(build_image_encoder, "test_resnet", path)
    assert (
        "tensors missing" in message and "that the model does not have: embeddings." in message and len(message) < 400
    )


def test_integers_are_no_weights(tmp_path):
    state = {
        name: t.to(torch.int8) if t.ndim == 4 else t
        for name, t in build_image_encoder("test_resnet").state_dict().items()
    }
    save_file(state, tmp_path / "w.safetensors")
    message = message_of(build_image_encoder, "test_resnet", str(tmp_path / "w.safetensors"))
    assert message.endswith(".weight is torch.int8 in the file, torch.float32 in the model")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x80\x04\x95pickle", b"{}"])
def test_a_file_that_is_none_of_torchs(content, tmp_path):
    (tmp_path / "w.pt").write_bytes(content)
    message = message_of(build_image_encoder, "test_resnet", str(tmp_path / "w.pt"))
    assert "cannot be read as a file of torch" in message and len(message) < 500


def test_python_objects_are_not_loaded_and_the_message_does_not_say_how(tmp_path):
    torch.save({"model": build_image_encoder("test_resnet"), "path": Path("x")}, tmp_path / "w.pt")
    message = message_of(build_image_encoder, "test_resnet", str(tmp_path / "w.pt"))
    assert "not loaded for safety's sake: save model.state_dict() alone" in message
    assert "weights_only" not in message and "safe_globals" not in message
    torch.save([1, 2], tmp_path / "w.pt")
    assert "holds no tensors by name" in message_of(build_image_encoder, "test_resnet", str(tmp_path / "w.pt"))


@pytest.mark.parametrize("path", ["a\0b.safetensors", "x" * 5000, "y/" * 3000, " "])
def test_names_that_no_file_can_have(path):
    message = message_of(build_image_encoder, "test_resnet", path)
    assert "no such file" in message and len(message) < 500


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_file_with_numbers_that_are_not_finite_is_refused(tmp_path, value):
    """A frozen encoder would give features of NaN, and the loss would be blamed."""
    image = build_image_encoder("test_resnet")
    for name in ("layer1.0.conv1.weight", "bn1.running_var"):
        spoilt = {key: tensor.clone() for key, tensor in image.state_dict().items()}
        name = name if name in spoilt else next(key for key in spoilt if "running_var" in key)
        spoilt[name].view(-1)[0] = value
        save_file({f"module.{key}": tensor for key, tensor in spoilt.items()}, tmp_path / "w.safetensors")
        message = message_of(build_image_encoder, "test_resnet", str(tmp_path / "w.safetensors"))
        assert f"{name!r} ({'NaN' if value != value else 'inf'}) is not finite" in message, message
