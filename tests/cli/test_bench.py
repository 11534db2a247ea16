"""`clipedu bench`."""

import argparse

from clipedu.cli.bench import add_bench
from tests.helpers.processes import modules_after


def test_the_command_is_light_to_add():
    add = "import argparse; from clipedu.cli.bench import add_bench; add_bench(argparse.ArgumentParser().add_subparsers())"
    assert "torch" not in modules_after(add)


def test_options_are_passed_on(monkeypatch):
    parser, seen = argparse.ArgumentParser(), {}
    add_bench(parser.add_subparsers())
    monkeypatch.setattr("clipedu.bench.losses.bench_losses", lambda sizes, **options: seen.update(options, sizes=sizes))
    line = "bench losses --batch-sizes 4 8 --dim 3 --large 0 --threads 2"
    args = parser.parse_args(line.split())
    args.command(args)
    assert seen == {"sizes": [4, 8], "dim": 3, "large": 0, "threads": 2}
    seen.clear()
    monkeypatch.setattr("clipedu.bench.norms.bench_norms", lambda size, **options: seen.update(options, size=size))
    args = parser.parse_args(["bench", "norms", "--batch-size", "6", "--image-size", "96", "--tokens", "9"])
    args.command(args)
    assert seen == {"size": 6, "image_size": 96, "tokens": 9, "threads": None}
    seen.clear()
    monkeypatch.setattr("clipedu.bench.data.bench_data", lambda images, **options: seen.update(options, images=images))
    args = parser.parse_args(["bench", "data", "--images", "50"])
    args.command(args)
    assert seen == {"images": 50, "image_size": 224, "batch_size": 128}
