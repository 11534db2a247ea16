"""A stand-in for a finished run: what plots and reports read of one, made of seeded noise."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from clipedu.config.experiment import Experiment
from clipedu.geometry import build_geometry
from clipedu.norms import COLUMNS

COUNTS = {"retrieval_images": 40, "retrieval_captions": 200, "zeroshot_images": 60, "zeroshot_classes": 12}


def fake_run(name="first", *, steps=80, rows=30, average=20.0, status="finished", note="", seed=0, **changes):
    """A run whose three scores are all `average`. Without "finished": no scores and no embeddings."""
    experiment = Experiment(seed=seed, **changes)
    noise = np.random.default_rng(seed)
    step = np.arange(steps)
    history = pd.DataFrame({"step": step, "epoch": step // 20, "lr": experiment.lr * (1 - step / max(1, steps))})
    history["loss"] = 4 * np.exp(-step / 30) + 0.1 * noise.standard_normal(steps)
    history["loss/contrastive"] = history["loss"] * 0.75
    history["loss/cyclic"] = history["loss"] * 0.25
    history["image_norm"], history["text_norm"] = 1 + 0.01 * step, 2 - 0.01 * step
    history["pairs_per_second"], history["seconds"] = 1000.0, 0.1 * step
    parts = ("all", "image", "text")
    norms = pd.DataFrame({"step": np.repeat(step, 3), "part": list(parts) * steps})
    for quantity in ("weight", "gradient", "update"):
        norms[quantity] = np.exp(noise.standard_normal(3 * steps))
    layers = [("image_encoder.a.weight", "image", "matrix"), ("text_projection.weight", "text", "head")]
    layers = pd.DataFrame([{"step": s, "layer": n, "part": p, "kind": k} for s in step for n, p, k in layers])
    layers = layers.reindex(columns=COLUMNS).assign(weight=1.0 + 0.01 * np.repeat(step, 2))
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(rows, 8, generator=generator)
    text = image + 0.8 * torch.randn(rows, 8, generator=generator) + 0.5
    captions = [f"caption {row}: $5 <b>and</b> $6_{row}" for row in range(rows)]
    finished = status == "finished"
    metrics = {f"{way}@{k}": min(100.0, average * k) for way in ("tr", "ir") for k in (1, 5, 10)}
    metrics |= {"top1": average, "top5": min(100.0, 5 * average), "average": average, **COUNTS}
    metrics |= {"alignment": 0.5, "uniformity": -2.0, "modality_gap": 0.25}
    return SimpleNamespace(
        name=name,
        experiment=experiment,
        environment={"clipedu": "0.1.0", "torch": "2.15.0", "date": f"2026-11-21 {seed}", "cores": 2, "commit": None},
        metrics=metrics if finished else {},
        seconds=75.0,
        status=status,
        note=note,
        history=history,
        norms=norms,
        layers=layers,
        geometry=lambda: build_geometry(experiment.geometry, 8, **experiment.geometry_options),
        embeddings=lambda: {"image": image, "text": text, "captions": captions} if finished else None,
        command=f"clipedu train --loss {experiment.loss} --optimizer {experiment.optimizer} --seed {seed}",
    )
