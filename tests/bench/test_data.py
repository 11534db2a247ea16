"""The bench of data: all ways deliver the same pictures, the table holds what was measured, nothing is left behind."""

import io
import os

import numpy as np
import pytest
import torch
from PIL import Image

from clipedu.bench import data as bench
from clipedu.bench.data import bench_data, write_scenes
from clipedu.data.load import load_pairs
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.shards.samples import shard_names
from clipedu.data.shards.tar_reader import read_shard
from clipedu.data.tokenizer import train_tokenizer
from clipedu.utils.errors import ClipeduError


@pytest.fixture
def quick_bench(monkeypatch):
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.delenv("CLIPEDU_DATA", raising=False)


def ways(rows, data="scenes"):
    return [row["way"] for row in rows if row["data"] == data]


def test_the_table_holds_what_was_measured(quick_bench):
    lines: list[str] = []
    cache, threads = os.environ["CLIPEDU_CACHE"], torch.get_num_threads()
    rows = bench_data(40, image_size=32, batch_size=8, write=lines.append)
    expected = ["DataLoader", "decode once", "feed", "feed, augment, normalise"]
    assert [way for way in ways(rows) if way != "webdataset"] == expected
    assert rows[0]["ratio"] == 1 and all(row["rate"] > 0 for row in rows)
    assert all(row["ratio"] == pytest.approx(row["rate"] / rows[0]["rate"]) for row in rows)
    table = [line for line in lines if line.startswith("| scenes")]
    assert table == [f"| scenes | {row['way']} | {row['rate']:,.0f} | **{row['ratio']:.1f}** |" for row in rows]
    assert "one core" in lines[0] and "torchvision" in lines[0] and "40 images a set, to 32 px" in lines[0]
    assert os.environ["CLIPEDU_CACHE"] == cache and torch.get_num_threads() == threads
    assert not any("scenes-32px" in name for name in os.listdir(cache))


def test_photographs_are_measured_where_they_are(quick_bench, monkeypatch, tmp_path):
    write_scenes(tmp_path / "flickr8k", 12, 32)
    monkeypatch.setenv("CLIPEDU_DATA", str(tmp_path))
    rows = bench_data(10, image_size=32, batch_size=5, write=lambda line: None)
    assert ways(rows, "flickr8k") == ways(rows, "scenes")


def test_without_webdataset_the_rest_is_measured(quick_bench, monkeypatch):
    monkeypatch.setattr(bench, "_has_webdataset", lambda: False)
    lines: list[str] = []
    assert "webdataset" not in ways(bench_data(10, image_size=32, batch_size=5, write=lines.append))
    assert "pip install webdataset" in lines[-1]


def test_all_ways_deliver_the_same_pictures(tmp_path, monkeypatch):
    """Without the random part: each way hands out every image once, decoded and normalised alike."""
    transforms = pytest.importorskip("torchvision.transforms")
    pytest.importorskip("webdataset", reason="the second peer: pip install webdataset")
    steps = [transforms.ToTensor(), transforms.Normalize(bench.MEAN, bench.STD)]
    monkeypatch.setattr(bench, "_transform", lambda size: transforms.Compose(steps))
    monkeypatch.setattr(bench, "augment", lambda pixels, how, seed, step: pixels.float())
    folder = write_scenes(tmp_path / "scenes", 12, 32)
    shards = shard_names(folder, "train")[0]
    samples = [sample for name, path in shards.items() for sample in read_shard(path, name)]
    pairs = load_pairs(folder, image_size=32)
    pairs.tokenize(train_tokenizer([pairs.captions(row)[0] for row in range(12)], 30))
    epochs = [
        bench._dataloader(samples, 32, 4),
        bench._webdataset(shards, 12, 32, 4),
        bench._augmented(pairs, 4, torch.device("cpu")),
    ]
    one, two, three = (torch.cat(list(epoch())) for epoch in epochs)
    for other in (two, three):
        assert other.shape == one.shape == (12, 3, 32, 32)
        distance = torch.cdist(one.flatten(1), other.flatten(1)).min(1)
        assert distance.values.max() < 1e-2 and len(set(distance.indices.tolist())) == 12


def test_scenes_are_written_as_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "PER_SHARD", 5)
    folder, scenes = write_scenes(tmp_path / "scenes", 12, 64), Scenes("train", 12, 64)
    shards = shard_names(folder, "train")[0]
    samples = [sample for name, path in shards.items() for sample in read_shard(path, name)]
    assert len(shards) == 3 and len(samples) == 12
    assert [sample.captions for sample in samples] == [scenes.captions(row)[:1] for row in range(12)]
    for row, sample in enumerate(samples):
        picture = np.asarray(Image.open(io.BytesIO(sample.read()))).transpose(2, 0, 1)
        assert (
            np.abs(picture - scenes.pixels(torch.tensor([row]))[0].numpy().astype(float)).mean() < 12
        )  # a JPEG's loss


def test_rates_are_medians_of_epochs_in_turn(monkeypatch):
    clock, called = iter(range(10_000)), []
    monkeypatch.setattr(bench.time, "process_time", lambda: next(clock))

    def epoch(name, sizes):
        def batches():
            called.append(name)
            return iter([torch.zeros(size) for size in sizes])

        return batches

    rates = bench._in_turn({"a": epoch("a", [3, 4]), "b": epoch("b", [5])})
    assert rates == {"a": 7, "b": 5} and called == ["a", "b"] * (1 + bench.ROUNDS)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"images": 0}, "images=0"),
        ({"images": 10, "batch_size": 11}, "a batch of at most all"),
        ({"images": 200, "image_size": 300}, "image_size=300"),
    ],
)
def test_sizes_that_make_no_sense(settings, message):
    with pytest.raises(ClipeduError, match=message):
        bench_data(**settings)
