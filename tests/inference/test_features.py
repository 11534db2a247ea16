"""Features of a frozen encoder: computed once, kept whole, and never mistaken for others."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from clipedu.config.experiment import Experiment
from clipedu.data.pairs import Pairs
from clipedu.inference.features import embed_in_chunks, frozen_image_features, frozen_text_features
from clipedu.models import build_model
from clipedu.utils.errors import ClipeduError

BASE = {
    "text_options": {"dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32},
    "embedding_dim": 8, "image_frozen": True, "text_frozen": True,
}  # fmt: skip


class Noise(Pairs):
    """Rows of noise with 1 to 3 captions of two "words"."""

    name = "noise"

    def __init__(self, rows: int = 7, seed: int = 0, image_size: int = 32):
        self.rows, self.seed, self.image_size = rows, seed, image_size
        self.tokenize(Numbers())

    def __len__(self):
        return self.rows

    def pixels(self, index):
        draw = torch.Generator()
        size = (3, self.image_size, self.image_size)
        return torch.stack([torch.randint(256, size, generator=draw.manual_seed(self.seed * 1000 + int(r)), dtype=torch.uint8)
                            for r in index])  # fmt: skip

    def captions(self, row):
        return [f"{row + 10 * self.seed} {k}" for k in range(1 + row % 3)]


class Numbers:
    def encode(self, texts):
        return np.array([[int(word) + 4 for word in text.split()] for text in texts], np.int32), np.full(
            len(texts), 2, np.int32
        )


@pytest.fixture(scope="module")
def model():
    return build_model(Experiment(**BASE), 50)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "not" / "there" / "yet"))
    return tmp_path / "not" / "there" / "yet"


def files(cache) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


class Count:
    """How many inputs pass through a module."""

    def __init__(self, module):
        self.inputs = 0
        self.hook = module.register_forward_hook(self.seen)

    def seen(self, module, args, output):
        self.inputs += len(output if isinstance(output, torch.Tensor) else output.last_hidden_state)

    def since(self) -> int:
        count, self.inputs = self.inputs, 0
        return count


def test_image_features_are_those_of_each_row(model, cache):
    pairs = Noise()
    got = frozen_image_features(model.train(), pairs, progress=False)
    assert model.training and not model.image_encoder.training
    assert got.dtype == torch.float32 and got.device.type == "cpu" and not got.requires_grad
    for row in range(7):
        expected = model.image_features(pairs.pixels(torch.tensor([row])))[0]
        torch.testing.assert_close(got[row], expected, rtol=1e-4, atol=1e-5)


def test_text_features_are_those_of_each_caption(model, cache):
    pairs = Noise()
    got, first = frozen_text_features(model, pairs, progress=False)
    assert first.tolist() == [0, 1, 3, 6, 7, 9, 12, 13] and got.shape == (13, 16)
    ids, mask, _ = pairs.all_tokens()
    torch.testing.assert_close(got, model.eval().text_features(ids, mask).detach(), rtol=1e-4, atol=1e-5)


def test_the_second_time_nothing_is_computed(model, cache):
    pairs = Noise()
    image, text = Count(model.image_encoder), Count(model.text_encoder)
    first = frozen_image_features(model, pairs, progress=False), frozen_text_features(model, pairs, progress=False)[0]
    assert (image.since(), text.since()) == (7, 13) and len(files(cache)) == 2
    second = frozen_image_features(model, pairs, progress=False), frozen_text_features(model, pairs, progress=False)[0]
    assert (image.since(), text.since()) == (0, 0)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)) and len(files(cache)) == 2
    image.hook.remove()
    text.hook.remove()


def variants(model):
    weights = copy.deepcopy(model)
    with torch.no_grad():
        weights.image_encoder.conv1[0].weight[0, 0, 0, 0] += 1e-3
        weights.text_encoder.embeddings.word_embeddings.weight[49, 3] += 1e-3  # a token that no test input has
    statistics = copy.deepcopy(model)
    statistics.image_encoder.bn1.running_mean[0] += 1e-3
    return {
        "other weights": weights,
        "other statistics of a batch norm": statistics,
        "other pixel statistics": build_model(Experiment(**BASE, pixel_stats="clip"), 50),
        "other pooling": build_model(Experiment(**BASE, text_pooling="cls"), 50),
    }


def test_whatever_changes_the_features_changes_the_file(model, cache):
    def both(m, pairs):
        frozen_image_features(m, pairs, progress=False), frozen_text_features(m, pairs, progress=False)
        return len(files(cache))

    assert both(model, Noise()) == 2
    other = variants(model)
    assert both(other["other weights"], Noise()) == 4
    assert both(other["other statistics of a batch norm"], Noise()) == 5
    assert both(other["other pixel statistics"], Noise()) == 6
    assert both(other["other pooling"], Noise()) == 7
    assert both(model, Noise(rows=6)) == 9
    assert both(model, Noise(seed=1)) == 11
    assert both(model, Noise(image_size=40)) == 12  # the texts are the same
    assert both(model, Noise()) == 12
    assert both(copy.deepcopy(model), Noise()) == 12
    assert both(build_model(Experiment(**BASE), 50), Noise()) == 12


def test_equal_weights_that_compute_something_else(cache):
    """Padding and pooling are not in a state dict (and a ViT's pooling not even in its `repr`)."""
    for name, *options in (
        ("test_resnet", {}, {"global_pool": "max"}),
        ("mobilenetv2_035", {}, {"pad_type": "same"}),
        ("test_vit", {"global_pool": "avg", "fc_norm": False}, {"global_pool": "max", "fc_norm": False}),
    ):
        models = [
            build_model(Experiment(**BASE, image_size=64, image_encoder=name, image_options=o), 50) for o in options
        ]
        states = [m.image_encoder.state_dict() for m in models]
        assert states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])
        one, two = (frozen_image_features(m, Noise(3, image_size=64), progress=False) for m in models)
        assert not torch.allclose(one, two), name
    assert len(files(cache)) == 6


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_file_is_computed_again(model, cache, content):
    pairs = Noise()
    first = frozen_image_features(model, pairs, progress=False)
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    assert torch.equal(frozen_image_features(model, pairs, progress=False), first)
    assert torch.equal(frozen_image_features(model, pairs, progress=False), first) and len(files(cache)) == 1


def test_a_file_with_too_few_rows_is_not_taken(model, cache):
    from safetensors.torch import save_file

    first = frozen_image_features(model, Noise(), progress=False)
    (path,) = cache.iterdir()
    for wrong in ({"features": first[:3].clone()}, {"other": first}):
        save_file(wrong, path)
        assert torch.equal(frozen_image_features(model, Noise(), progress=False), first)


class Stopped(Noise):
    """Stops in the middle, as a Ctrl-C or a kill does."""

    def pixels(self, index):
        raise KeyboardInterrupt


def test_what_is_stopped_leaves_nothing_that_looks_whole(model, cache):
    with pytest.raises(KeyboardInterrupt):
        frozen_image_features(model, Stopped(), progress=False)
    assert files(cache) == []
    assert frozen_image_features(model, Noise(), progress=False).shape[0] == 7


def test_a_kill_while_writing_leaves_nothing_that_looks_whole(model, cache, monkeypatch):
    import safetensors.torch

    def killed(tensors, path):
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            frozen_image_features(model, Noise(), progress=False)
    frozen_image_features(model, Noise(), progress=False)
    assert len(files(cache)) == 1


def test_a_leftover_of_a_kill_is_not_read(model, cache):
    pairs = Noise()
    first = frozen_image_features(model, pairs, progress=False)
    (path,) = cache.iterdir()
    path.rename(path.with_name(f"{path.name}.abc.partial"))
    assert torch.equal(frozen_image_features(model, pairs, progress=False), first) and len(files(cache)) == 2


def test_a_cache_that_can_not_be_written_is_told_before_the_work(model, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ClipeduError, match="file/cache cannot be written: .*. Set CLIPEDU_CACHE") as caught:
        frozen_image_features(model, Stopped(), progress=False)
    assert "\n" not in str(caught.value)


def test_a_folder_without_permission_is_told_before_the_work(model, cache, monkeypatch):
    def refused(**settings):
        raise PermissionError(13, "Permission denied")

    cache.mkdir(parents=True)
    monkeypatch.setattr(
        "tempfile.TemporaryFile", refused
    )  # a stand-in: the tests may run as root, who may write everywhere
    with pytest.raises(ClipeduError, match="cannot be written: Permission denied. Set CLIPEDU_CACHE"):
        frozen_image_features(model, Stopped(), progress=False)


def test_a_full_disk_is_told(model, cache, monkeypatch):
    import safetensors.torch

    def full(tensors, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(ClipeduError, match="No space left on device.*CLIPEDU_CACHE"):
        frozen_image_features(model, Noise(), progress=False)
    assert files(cache) == []


def test_not_tokenized(model, cache):
    pairs = Noise()
    pairs._tokenized = None
    with pytest.raises(ClipeduError, match="noise/train is not tokenized yet"):
        frozen_text_features(model, pairs, progress=False)


@pytest.mark.parametrize(("count", "chunk"), [(1, 4), (8, 4), (9, 4), (3, 1)])
def test_chunks(count, chunk):
    sizes = []

    def embed(rows):
        sizes.append(len(rows))
        return torch.stack([rows.half(), rows.half() * 2], 1)

    got = embed_in_chunks(embed, count, chunk=chunk)
    assert got.dtype == torch.float32 and got.tolist() == [[row, 2 * row] for row in range(count)]
    assert max(sizes) <= chunk and sum(sizes) == count


def test_large_images_are_embedded_a_few_at_a_time(model):
    from clipedu.inference.features import CHUNK_PIXELS_CPU, embed_images_in_chunks

    sizes = []

    def embed(pixels):
        sizes.append(pixels.shape[0] * pixels.shape[2] * pixels.shape[3])
        return pixels.float().mean((2, 3))

    for size in (32, 224, 600):
        embed_images_in_chunks(embed, model, Noise(rows=15, image_size=size))
    assert len(sizes) == 1 + 3 + 15  # all at once, five at a time, one by one
    assert max(sizes[:4]) <= CHUNK_PIXELS_CPU
