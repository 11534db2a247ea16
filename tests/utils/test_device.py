"""Devices by name, and when autocast is on."""

import pytest
import torch

from clipedu.utils.device import autocast, pick_device
from clipedu.utils.errors import ClipeduError


def test_pick_device():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == (
        "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    )


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:99", "", "meta", "cpu:1", "privateuseone", "hpu", "mkldnn", "cuda:-1", "x" * 5000, "a\0b"]
)
def test_a_device_that_is_not_here(name, recwarn):
    with pytest.raises(ClipeduError, match="device=.* cannot be used here: .*Allowed: auto, cpu") as caught:
        pick_device(name)
    assert not recwarn.list, "one line alone"
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 450


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="a Mac has it")
def test_the_page_that_torch_writes_is_one_sentence():
    with pytest.raises(ClipeduError) as caught:
        pick_device("mps")
    assert str(caught.value).startswith("device='mps' cannot be used here: ") and len(str(caught.value)) < 280


@pytest.mark.parametrize(
    "precision, expected", [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_on_a_cpu_autocast_is_only_on_where_it_is_asked_for(precision, expected):
    layer = torch.nn.Linear(2, 2)
    with autocast(precision, torch.device("cpu")):
        assert layer(torch.ones(1, 2)).dtype == expected


@pytest.mark.parametrize("native, expected", [(True, torch.bfloat16), (False, None)])
def test_auto_on_a_gpu_is_bf16_where_it_is_native(monkeypatch, native, expected):
    asked = []
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: asked.append(including_emulation) or native
    )
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype: (kind, dtype))
    got = autocast("auto", torch.device("cuda"))
    assert asked == [False] and (got == ("cuda", expected) if native else got.__class__.__name__ == "nullcontext")
