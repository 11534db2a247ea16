"""What Muon orthogonalises: hidden matrices by default, all of them on request."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from clipedu.optim import build_optimizer, describe_groups
from clipedu.optim.muon_groups import muon_groups
from clipedu.utils.errors import ClipeduError

pytest.importorskip("timm")


class Dual(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image_encoder = nn.ModuleDict({
            "patches": nn.Conv2d(3, 8, 4, 4), "mix": nn.Conv2d(8, 8, 3), "qkv": nn.Linear(8, 24), "norm": nn.LayerNorm(8),
        })  # fmt: skip
        self.text_encoder = nn.ModuleDict(
            {"words": nn.Embedding(40, 8), "places": nn.Embedding(6, 8), "line": nn.Linear(8, 8)}
        )
        self.image_projection, self.text_projection = nn.Linear(8, 6), nn.Linear(8, 6)
        self.temperature = nn.Parameter(torch.tensor(1.0))

    def no_weight_decay(self):
        return {"text_encoder.places.weight"}


HIDDEN = ["image_encoder.mix.weight", "image_encoder.qkv.weight", "text_encoder.line.weight"]
INPUT = ["image_encoder.patches.weight", "text_encoder.words.weight"]
HEADS = ["image_projection.weight", "text_projection.weight"]


def stepped(optimizer) -> set[str]:
    """Names of what a step orthogonalised: of its state, not of our groups."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.randn_like(p)
    optimizer.step()
    names = {
        p: n for group in optimizer.param_groups for n, p in zip(group["param_names"], group["params"], strict=True)
    }
    return {names[p] for p, state in optimizer.state.items() if state["use_muon"]}


@pytest.mark.parametrize("name", ["muon", "muonc"])
def test_tables_input_and_heads_are_left_to_adamw(name):
    optimizer = build_optimizer(Dual(), name, lr=0.01, weight_decay=0.1)
    groups = {group["name"]: group["param_names"] for group in optimizer.param_groups}
    assert (groups["decayed"], groups["input"], groups["head"]) == (HIDDEN, INPUT, HEADS)
    assert "text_encoder.places.weight" in groups["not decayed"] and len(groups) == 4
    assert {g["name"]: g["weight_decay"] for g in optimizer.param_groups} == {
        "decayed": 0.1, "input": 0.1, "head": 0.1, "not decayed": 0.0
    }  # fmt: skip
    assert stepped(optimizer) == set(HIDDEN)


@pytest.mark.parametrize("name", ["muon", "muonc"])
def test_all_on_request_as_before(name):
    optimizer = build_optimizer(Dual(), name, lr=0.01, weight_decay=0.1, orthogonalise="all")
    assert not any("use_fallback" in group for group in optimizer.param_groups)
    apart = ["decayed", "head"] if name == "muonc" else ["decayed"]
    assert [g["name"] for g in optimizer.param_groups if g["weight_decay"]] == apart
    assert stepped(optimizer) == {*HIDDEN, *INPUT, *HEADS, "text_encoder.places.weight"}


def test_heads_can_be_said_and_other_words_are_refused():
    optimizer = build_optimizer(Dual(), "muon", lr=0.01, heads=["text_encoder.line"])
    assert stepped(optimizer) == {*HIDDEN, *HEADS} - {"text_encoder.line.weight"}
    assert stepped(build_optimizer(Dual(), "muon", lr=0.01, heads=())) == {*HIDDEN, *HEADS}
    with pytest.raises(ClipeduError, match=r"unknown orthogonalise 'tables'. Choose from: hidden, all|hidden, all"):
        build_optimizer(Dual(), "muon", lr=0.01, orthogonalise="tables")
    with pytest.raises(ClipeduError, match="has no module 'classifier'"):
        build_optimizer(Dual(), "muon", lr=0.01, heads=["classifier"])
    with pytest.raises(ClipeduError, match="heads=.* has no effect on 'muon' here"):
        build_optimizer(Dual(), "muon", lr=0.01, heads=[], orthogonalise="all")
    with pytest.raises(ClipeduError, match="orthogonalise"):
        build_optimizer(Dual(), "adamw", lr=0.01, orthogonalise="all")


def test_names_of_groups_without_anything_in_them():
    assert [group["name"] for group in muon_groups(nn.Linear(4, 4, bias=False), 0.1)] == ["decayed"]
    assert [group["name"] for group in muon_groups(nn.Embedding(4, 4), 0.1)] == ["input"]


def test_the_table_says_what_is_orthogonalised():
    def whys(**options) -> dict[str, str]:
        lines = describe_groups(build_optimizer(Dual(), "muon", lr=0.01, weight_decay=0.1, **options)).splitlines()
        start = lines[0].index("why")
        return {line[:12].strip(): line[start:] for line in lines[1:-1]}

    hidden = whys()
    assert "orthogonalised, a fused qkv as one matrix" in hidden["decayed"]
    assert all("a step of NAdamW" in hidden[name] for name in ("input", "head", "not decayed"))
    assert "a step of AdamW" in whys(nesterov=False)["input"]
    assert "orthogonalised" in whys(orthogonalise="all")["decayed"]
    assert "orthogonalised" not in describe_groups(build_optimizer(Dual(), "adamw", lr=0.01))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
@pytest.mark.parametrize("shape", [(160, 160), (64, 192), (192, 64)])
def test_timms_step_is_a_fifth_of_the_root_of_in_times_torchs(shape):
    """About 2.5 times for 160; with adjust_lr_fn="original" as long as torch's. Their polynomials differ."""

    def length(kind, **options) -> float:
        w = nn.Parameter(torch.zeros(shape))
        w.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        kind([w], lr=1.0, weight_decay=0.0, nesterov=True, **options).step()
        return float(w.detach().norm())

    from timm.optim import Muon

    torchs = length(torch.optim.Muon)
    assert length(Muon) / torchs == pytest.approx(0.2 * math.sqrt(shape[1]), rel=0.2)
    assert length(Muon, adjust_lr_fn="original") / torchs == pytest.approx(1, rel=0.2)
