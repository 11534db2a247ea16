"""Which tensors are watched, and of which kind they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from clipedu.norms.layers import KINDS, watched_layers
from clipedu.utils.errors import ClipeduError


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.text_embedding = nn.Embedding(7, 4)
        self.text_mixer = nn.Conv1d(4, 4, 3)
        self.text_norm = nn.LayerNorm(4)
        self.text_decoder = nn.Linear(4, 7, bias=False)
        self.text_decoder.weight = self.text_embedding.weight
        self.image_projection = nn.Linear(4, 3)
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_names_parts_and_kinds():
    model = Tower()
    layers = watched_layers(model)
    assert [(layer.name, layer.part, layer.kind) for layer in layers] == [
        ("text_embedding.weight = text_decoder.weight", "text", "tied"),
        ("text_mixer.weight", "text", "matrix"),
        ("text_mixer.bias", "text", "1-D"),
        ("text_norm.weight", "text", "1-D"),
        ("text_norm.bias", "text", "1-D"),
        ("image_projection.weight", "image", "head"),
        ("image_projection.bias", "image", "1-D"),
    ]
    assert {layer.kind for layer in layers} == set(KINDS)
    assert layers[0].parameter is model.text_decoder.weight and layers[5].parameter is model.image_projection.weight


def test_other_heads():
    kinds = {layer.name: layer.kind for layer in watched_layers(Tower(), heads=("text_mixer",))}
    assert kinds["text_mixer.weight"] == "head" and kinds["image_projection.weight"] == "matrix"
    assert {layer.kind for layer in watched_layers(Tower(), heads=())} == {"tied", "matrix", "1-D"}
    with pytest.raises(ClipeduError, match="this Tower has no module 'classifer'"):
        watched_layers(Tower(), heads=("text_mixer", "classifer"))


@pytest.mark.parametrize(
    ("wrap", "word"), [(nn.DataParallel, "module"), (checkpoint_wrapper, "_checkpoint_wrapped_module")]
)
def test_a_wrapped_model_has_the_layers_of_the_bare_one(wrap, word):
    def rows(model, **options):
        return [(layer.name, layer.part, layer.kind) for layer in watched_layers(model, **options)]

    inside = Tower()
    inside.text_embedding, inside.image_projection = wrap(inside.text_embedding), wrap(inside.image_projection)
    for model in (wrap(Tower()), wrap(wrap(Tower())), inside, wrap(inside)):
        assert rows(model) == rows(Tower())
        assert rows(model, heads=("text_mixer",)) == rows(Tower(), heads=("text_mixer",))
    as_the_wrapper_has_it = rows(wrap(Tower()), heads=(f"{word}.text_mixer",))
    assert as_the_wrapper_has_it == rows(Tower(), heads=("text_mixer",))
    with pytest.raises(ClipeduError, match="this Tower has no module 'classifer'"):
        watched_layers(wrap(Tower()), heads=("classifer",))


def test_nothing_to_watch():
    with pytest.raises(ClipeduError, match="nothing to watch: no parameter of this Tower requires a gradient"):
        watched_layers(Tower().requires_grad_(False))


class Released(nn.Module):
    """Named as open_clip names a model: the first words say little."""

    def __init__(self):
        super().__init__()
        self.visual = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(12)))
        self.transformer = nn.Linear(2, 2, bias=False)
        self.positional_embedding = nn.Parameter(torch.ones(3, 2))
        self.ln_final = nn.LayerNorm(2)


def test_parts_by_the_beginnings_of_names():
    def parts(**given):
        return {layer.name: layer.part for layer in watched_layers(Released(), **given)}

    assert parts()["positional_embedding"] == "positional" and parts()["ln_final.bias"] == "ln"  # as ever
    given = {"visual": "image", "visual.1": "second", "transformer": "text", "positional": "text"}
    found = parts(parts=given)
    assert found["visual.0.weight"] == found["visual.10.weight"] == found["visual.11.weight"] == "image"
    assert (
        found["visual.1.weight"] == "second" and found["transformer.weight"] == found["positional_embedding"] == "text"
    )
    assert found["ln_final.weight"] == "other" and set(parts(parts={}).values()) == {"other"}


def test_a_model_brings_its_own_parts():
    model = Released()
    model.parts = {"visual": "image"}
    for wrapped in (model, nn.DataParallel(model)):
        assert {layer.part for layer in watched_layers(wrapped)} == {"image", "other"}
    assert {layer.part for layer in watched_layers(model, parts={"visual": "eyes"})} == {"eyes", "other"}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"visuals": "image"},
            "unknown beginning of a name in parts={'visuals': 'image'}: 'visuals'. Did you mean 'visual'",
        ),
        ({"visua": "image"}, "unknown beginning of a name"),
        ({"visual": "all"}, "'all' is the whole model, call the part otherwise"),
        ({"visual": ""}, "must be a dict of beginnings of names and parts"),
        ({"": "image"}, "must be a dict of beginnings"),
        ({"visual": 3}, "must be a dict of beginnings"),
        (["visual"], "must be a dict of beginnings"),
    ],
)
def test_parts_that_cannot_be(parts, message):
    with pytest.raises(ClipeduError) as caught:
        watched_layers(Released(), parts=parts)
    assert message in str(caught.value)
