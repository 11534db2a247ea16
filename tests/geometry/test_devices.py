"""Points may be elsewhere than what a geometry has learned: a model on a GPU is scored by embeddings on the host.

Tensors without numbers stand for those of a GPU, which need not be there; that they meet others is an error as it is there.
"""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from clipedu.geometry import GEOMETRIES, build_geometry

CALLS = {
    "similarity": lambda x, y: (x, y),
    "distance": lambda x, y: (x, y),
    "mean": lambda x, y: (x,),
    "root": lambda x, y: (x,),
    "expmap0": lambda x, y: (x,),
    "logmap0": lambda x, y: (x,),
    "geodesic": lambda x, y: (x, x + 1, 0.5),
    "half_aperture": lambda x, y: (x,),
    "exterior_angle": lambda x, y: (x, x + 1),
    "entailment": lambda x, y: (x, x + 1),
    "poincare": lambda x, y: (x,),
    "klein": lambda x, y: (x,),
    "tangent": lambda x, y: (x, "image"),
}


def on_gpu(geometry):
    """The geometry with what it has learned on a GPU."""
    for module in geometry.modules():
        for name, value in module._parameters.items():
            module._parameters[name] = nn.Parameter(torch.empty(value.shape, device="cuda"), value.requires_grad)
        for name, value in module._buffers.items():
            module._buffers[name] = torch.empty(value.shape, device="cuda")
    return geometry


@pytest.mark.parametrize("name", GEOMETRIES)
def test_points_on_the_host_stay_there(name, monkeypatch):
    for module in ("numerics", "lorentz"):  # which of the pairs are near cannot be told without numbers
        monkeypatch.setattr(f"clipedu.geometry.{module}.few_pairs", lambda mask: None)
    with FakeTensorMode():
        geometry = on_gpu(build_geometry(name, 8))
        x, y = torch.randn(4, 8), torch.randn(5, 8)
        for method, arguments in CALLS.items():
            if not hasattr(geometry, method) or (
                method in ("half_aperture", "exterior_angle", "entailment") and not geometry.has_cones
            ):
                continue
            assert getattr(geometry, method)(*arguments(x, y)).device.type == "cpu", method
