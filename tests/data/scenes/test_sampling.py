"""Sampling: a pure function of seed, split and row, evenly spread, and distinct where it must be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from clipedu.data.scenes import sampling
from clipedu.data.scenes.attributes import Attributes
from clipedu.data.scenes.captions import PLACES, RELATIONS, holds, meanings
from clipedu.data.scenes.drawing import BACKGROUNDS, COLOURS, SHAPES, SIZES
from clipedu.data.scenes.sampling import sample


def splitmix(x: int) -> int:
    """The finalizer of SplitMix64, in plain integers."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def equal(a: Attributes, b: Attributes) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))


def test_the_hash_is_splitmix_in_64_bits():
    numbers = [0, 1, 2, 12345, 2**62 + 17, 2**63 - 1]
    mixed = sampling._mix(torch.tensor(numbers))
    assert [int(m) % 2**64 for m in mixed] == [splitmix(n) for n in numbers]


def test_a_scene_does_not_depend_on_the_others():
    rows = torch.tensor([17, 3, 999_999, 17])
    few, many = sample(4, "train", rows), sample(4, "train", torch.arange(1_000_000 - 5, 1_000_000))
    assert equal(few[2:3], many[4:5]) and equal(few[0:1], few[3:4])


def test_seed_split_and_row_each_give_other_scenes():
    base = sample(0, "train", torch.arange(500))
    for other in (
        sample(1, "train", torch.arange(500)),
        sample(0, "val", torch.arange(500)),
        base[torch.arange(499, -1, -1)],
    ):
        agree = (base.shape == other.shape).double().mean()
        assert 0.04 < agree < 0.16  # a tenth by chance


def test_every_value_of_every_attribute_is_about_equally_frequent():
    n = 20_000
    scenes = sample(0, "train", torch.arange(n))
    two, one = scenes[scenes.count == 2], scenes[scenes.count == 1]
    assert len(two) / n == pytest.approx(0.6, abs=0.02)
    columns = [(SHAPES, scenes.shape[:, 0]), (SHAPES, two.shape[:, 1]), (COLOURS, scenes.colour[:, 0])]
    columns += [(COLOURS, two.colour[:, 1]), (SIZES, scenes.size[:, 0]), (SIZES, two.size[:, 1])]
    columns += [(RELATIONS, two.relation), (PLACES, one.place[:, 0]), (BACKGROUNDS, scenes.background)]
    for names, values in columns:
        p, total = 1 / len(names), len(values)
        counts = torch.bincount(values, minlength=len(names)).double()
        assert len(counts) == len(names)
        assert ((counts - total * p).abs() < 5 * (total * p * (1 - p)) ** 0.5).all(), names


def test_attributes_are_independent_of_one_another():
    scenes = sample(0, "train", torch.arange(20_000))
    columns = [
        scenes.count,
        scenes.shape[:, 0],
        scenes.colour[:, 0],
        scenes.size[:, 0],
        scenes.size[:, 1],
        scenes.background,
    ]
    columns += [
        scenes.noise,
        scenes.pattern_angle,
        scenes.angle[:, 0],
        scenes.rgb[:, 0].sum(1) - scenes.rgb[:, 0].mean(),
    ]
    table = np.corrcoef(torch.stack([c.double() for c in columns[:-1]]).numpy())
    np.fill_diagonal(table, 0)
    assert np.abs(table).max() < 5 / 20_000**0.5
    both = scenes.shape[:, 0] * 10 + scenes.colour[:, 0]
    counts = torch.bincount(both, minlength=100).double()
    assert ((counts - 200) ** 2 / 200).sum() < 99 + 5 * (2 * 99) ** 0.5  # chi squared


def test_two_objects_differ_in_shape_and_colour_and_stand_as_the_relation_says():
    scenes = sample(0, "train", torch.arange(5000))
    scenes = scenes[scenes.count == 2]
    assert (scenes.shape[:, 0] != scenes.shape[:, 1]).all() and (scenes.colour[:, 0] != scenes.colour[:, 1]).all()
    dx, dy = (scenes.centre[:, 0] - scenes.centre[:, 1]).T
    along = torch.where(scenes.relation < 2, dx, dy)
    across = torch.where(scenes.relation < 2, dy, dx)
    first_is_less = torch.tensor([name in ("left of", "above") for name in RELATIONS])[scenes.relation]
    assert ((along < 0) == first_is_less).all()
    assert (across.abs() <= 0.36 * along.abs()).all()
    assert (along.abs() >= scenes.radius.sum(1)).all()


def test_places_are_a_grid_of_thirds_with_clear_margins():
    scenes = sample(0, "train", torch.arange(5000))
    scenes = scenes[scenes.count == 1]
    x, y = scenes.centre[:, 0].T
    for name, low, high in (("left", 0, 0.31), ("right", 0.69, 1), ("top", 0, 0.31), ("bottom", 0.69, 1)):
        said = torch.tensor([name in place for place in PLACES])[scenes.place[:, 0]]
        where = x if name in ("left", "right") else y
        assert (said == ((where > low) & (where < high))).all()


def test_val_leaves_out_only_scenes_that_would_be_ambiguous(monkeypatch):
    """Against a naive walk, in a small world where descriptions often coincide."""

    def small_world(*what):
        scenes = sample(*what)
        few = {name: getattr(scenes, name) % 2 for name in ("shape", "colour", "size", "background")}
        return dataclasses.replace(scenes, **few)

    stream = small_world(0, "val", torch.arange(150))
    claims, kept = meanings(stream), []
    true = torch.stack([holds(claim, stream) for claim in claims])  # [claim, scene]
    for row in range(len(stream)):
        if not true[row, kept].any() and not true[kept, row].any():
            kept.append(row)
    assert 20 < len(kept) < 120
    monkeypatch.setattr(sampling, "sample", small_world)
    assert sampling.distinct_rows(0, "val", len(kept)).tolist() == kept
