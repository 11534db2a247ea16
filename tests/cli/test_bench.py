"""`clipedu bench`."""

import importlib
import inspect

import pytest

from clipedu import fit, fit_heads
from clipedu.cli.arguments import Parser
from clipedu.cli.bench import OPTIONS, add_bench
from tests.helpers.errors import message_of
from tests.helpers.processes import modules_after


def test_the_command_is_light_to_add():
    add = "import argparse; from clipedu.cli.bench import add_bench; add_bench(argparse.ArgumentParser().add_subparsers())"
    assert "torch" not in modules_after(add)


def run(line: str) -> None:
    parser = Parser()
    add_bench(parser.add_subparsers())
    args = parser.parse_args(line.split())
    args.command(args)


def test_options_are_passed_on(monkeypatch):
    seen = {}
    for module in OPTIONS:
        name = f"clipedu.bench.{module}.bench_{module}"
        monkeypatch.setattr(name, lambda *sizes, **options: seen.update(options, sizes=sizes))
    run("bench losses --batch-sizes 4 8 --dim 3 --large 0 --threads 2")
    assert seen == {"sizes": (), "batch_sizes": [4, 8], "dim": 3, "large": 0, "threads": 2}
    seen.clear()
    run("bench norms --batch-size 6 --image-size 96 --tokens 9")
    assert seen == {"sizes": (), "batch_size": 6, "image_size": 96, "tokens": 9}
    seen.clear()
    run("bench data --images 50")
    assert seen == {"sizes": (), "images": 50}
    seen.clear()
    run("bench retrieval --images 50 --dim 8 --threads 1")
    assert seen == {"sizes": (), "images": 50, "dim": 8, "threads": 1}
    seen.clear()
    run("bench train --cases laptop frozen --rounds 2 --fused")
    assert seen == {"sizes": (), "cases": ["laptop", "frozen"], "rounds": 2, "fused": True}
    seen.clear()
    run("bench heads --settings 8 --sample 2 --rounds 1 --threads 2")
    assert seen == {"sizes": (fit, fit_heads), "settings": 8, "sample": 2, "rounds": 1, "threads": (2,)}


EVERY = {
    "batch_sizes": "4 8",
    "dim": "3",
    "large": "0",
    "batch_size": "4",
    "image_size": "32",
    "images": "9",
    "tokens": "5",
    "threads": "1",
    "cases": "laptop frozen",
    "rounds": "2",
    "fused": "",
    "settings": "4",
    "sample": "2",
}


@pytest.mark.parametrize("option", EVERY)
@pytest.mark.parametrize("what", OPTIONS)
def test_an_option_has_an_effect_or_is_refused(what, option, monkeypatch):
    seen = {}
    monkeypatch.setattr(f"clipedu.bench.{what}.bench_{what}", lambda *ways, **options: seen.update(options))
    line = f"bench {what} --{option.replace('_', '-')} {EVERY[option]}"
    if option in OPTIONS[what]:
        run(line)
        assert list(seen) == [option]
    else:
        message = message_of(run, line)
        assert message.startswith(f"--{option.replace('_', '-')} has no effect on bench {what}, which takes --")
        assert not seen


def test_every_option_is_one_of_the_functions():
    for what, options in OPTIONS.items():
        function = getattr(importlib.import_module(f"clipedu.bench.{what}"), f"bench_{what}")
        assert set(options) <= set(inspect.signature(function).parameters)
