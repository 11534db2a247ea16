"""A stand-in for an inspected model, made by hand."""

from types import SimpleNamespace

import numpy as np
import torch

from clipedu.evaluation.token_artifacts import artifacts
from clipedu.geometry import build_geometry
from clipedu.inference.attention import Tokens
from clipedu.norms.recipe_balance import TrainingRecipe
from clipedu.workflow.opening import Scale
from tests.plots.test_inspection import layers


def inspected(**changes):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(30, 8, generator=generator)
    text = image + 0.5 * torch.randn(30, 8, generator=generator)
    space = SimpleNamespace(
        image=image, text=text, captions=[f"<b>{k}" for k in range(30)], geometry=build_geometry("cosine", 8)
    )
    tokens = Tokens(("class", *(f"patch (0, {k})" for k in range(4))), 1, (1, 4))
    norms = torch.ones(2, 3, 5)
    norms[1, 0, 2] = 9.0
    pixels = torch.randint(0, 255, (3, 3, 4, 16), dtype=torch.uint8, generator=generator)
    found = {
        "name": "runs/<mine>",
        "about": "a tower and another",
        "layers": layers(),
        "recipe": TrainingRecipe("adamw", 1e-3, 0.1, {}, np.zeros(200), "cosine"),
        "scale": Scale(99.9, -10.0, learned=True),
        "scale_range": (1.0, 100.0),
        "geometry": "cosine",
        "pairs": "30 pairs of scenes/val",
        "scores": {"modality_gap": 0.5, "alignment": 1.0, "uniformity": -2.0},
        "space": space,
        "tokens": SimpleNamespace(norms=norms, tokens=tokens, pixels=pixels, table=artifacts(norms, tokens, pixels)),
        "unknown": ["Something is not known."],
    }
    return SimpleNamespace(**(found | changes))
