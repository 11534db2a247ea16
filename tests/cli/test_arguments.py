"""Words of the command line: whole names of options, one-line errors, and bad values of every option of every command."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipedu import ClipeduError
from clipedu.cli.arguments import Parser, add_image_size, path, whole, word
from clipedu.cli.parser import build_parser, main
from clipedu.config.command_line import experiment_changes
from clipedu.config.experiment import Experiment

BAD = {
    "empty": "",
    "space": " ",
    "NUL": "a\0b",
    "long": "x" * 5000,
    "deep": "y/" * 3000,
    "nan": "nan",
    "minus": "-1",
    "inf": "-inf",
    "huge": "1e400",
    "digits": "9" * 5000,
    "unicode digits": "\u0661\u0662",
    "list": "[]",
    "dict": "{}",
    "null": "null",
    "nested": "[" * 100_000,
    "surrogate": "\udce4",
    "percent": "%s %(x)d",
    "newline": "a\nb",
}


def parsers(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """All commands that can be given, with their parsers."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        for name, other in action.choices.items():
            yield from parsers(other, (*words, name))
    if not below:
        yield words, parser


PARSER = build_parser()
COMMANDS = dict(parsers(PARSER))
OPTIONS = [
    (command, action.option_strings[-1])
    for command, parser in COMMANDS.items()
    for action in parser._actions
    if action.option_strings and action.nargs != 0 and "--help" not in action.option_strings
]


def needed(parser: argparse.ArgumentParser) -> list[str]:
    """Words for the positional arguments of a command."""
    return [
        action.choices[0] if action.choices else "some"
        for action in parser._actions
        if not action.option_strings and action.nargs != "?"
    ]


def early(words: list[str]) -> None:
    """What a command does before it opens anything: it reads its words and makes the experiment of them."""
    args = PARSER.parse_args(words)
    if hasattr(args, "preset"):
        Experiment.preset("laptop" if args.preset is None else args.preset, **experiment_changes(args))


@pytest.mark.parametrize("kind", BAD)
def test_no_bad_value_of_any_option_ends_in_a_traceback(kind, capsys):
    bad = BAD[kind]
    for command, option in OPTIONS:
        texts = [bad, f"{bad}={bad}", f"key={bad}", f"betas=[{bad}]"] if option.endswith("-options") else [bad]
        for text in texts:
            try:
                early([*command, *needed(COMMANDS[command]), f"{option}={text}"])
            except SystemExit as stop:
                assert stop.code == 2, (command, option)
                error = capsys.readouterr().err
                assert error.count("\n") == 1 and len(error) < 3500, (command, option, error)
            except ClipeduError as error:
                assert len(str(error)) < 3500, (command, option)


PATHS = [(command, option) for command, option in OPTIONS if option in ("--folder", "--resume", "--captions")]


@pytest.mark.parametrize("kind", ["empty", "space", "NUL", "long", "deep"])
@pytest.mark.parametrize(("command", "option"), PATHS)
def test_every_path_option_refuses_what_is_no_path(command, option, kind, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([*command, *needed(COMMANDS[command]), option, BAD[kind]])
    assert stop.value.code == 2 and option in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_is_abbreviated(command, capsys):
    for action in COMMANDS[command]._actions:
        for name in action.option_strings:
            if name.startswith("--") and len(name) > 5 and name[:-1] not in COMMANDS[command]._option_string_actions:
                with pytest.raises(SystemExit) as stop:
                    build_parser().parse_args([*command, *needed(COMMANDS[command]), f"{name[:-1]}=1"])
                assert stop.value.code == 2
                error = capsys.readouterr().err
                assert f"unknown option {name[:-1]}" in error and name in error.partition("Did you mean")[2]


def test_a_near_option_is_suggested(capsys):
    for words, message in (
        (
            ["compare", "norms", "--seed", "1"],
            "clipedu compare: unknown option --seed. Did you mean --seeds or --data-seed?",
        ),
        (["train", "--learning-temperature", "true"], "Did you mean --learn-temperature"),
        (["train", "--qqqq"], "clipedu train: unknown option --qqqq (all options: clipedu train --help)"),
        (["quickstart", "now"], "clipedu quickstart: there is no place for the word 'now'"),
        (["bench", "losses", "--batch-size", "many"], "argument --batch-size: 'many' is not a whole number from 1 on"),
        (["data", "fetch", "x", "--subst", "1"], "unknown option --subst. Did you mean --subset?"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(words)
        error = capsys.readouterr().err
        assert stop.value.code == 2 and message in error and error.count("\n") == 1


@pytest.mark.parametrize("port", ["0", "-1", "65536", "x", "1e3", ""])
def test_a_port_out_of_range_is_refused_before_anything_is_copied(port, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["lab", "--port", port])
    assert "a whole number from 1 to 65535" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_words_that_are_read():
    assert path("a/b c") == Path("a/b c") and word("-x") == "-x" and whole()("7") == 7
    assert path("x" * 255) and os.fspath(path(".")) == "."
    for read, text in ((path, "x" * 256), (path, "\u00e4" * 128), (whole(2, 5), "6"), (whole(2, 5), "1"), (word, "")):
        with pytest.raises(argparse.ArgumentTypeError):
            read(text)


def test_options_given_in_two_places_are_joined_and_two_values_are_refused(capsys):
    words = ["train", "--loss-options", "gamma=0.5", "--loss-options", "form=course", "gamma=0.5"]
    assert experiment_changes(build_parser().parse_args(words)) == {"loss_options": {"gamma": 0.5, "form": "course"}}
    with pytest.raises(SystemExit):
        build_parser().parse_args([*words, "gamma=0.6"])
    assert "'gamma' is given twice, with two values" in capsys.readouterr().err


def test_commands_below_are_of_the_same_class():
    assert all(isinstance(parser, Parser) for parser in COMMANDS.values())


def failing(error: BaseException):
    def command(args: argparse.Namespace) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            MemoryError("Unable to allocate 8.00 PiB for an array"),
            "the memory is not enough: 8.00 PiB more were asked for",
        ),
        (
            RuntimeError("[enforce fail] can't allocate memory: you tried to allocate 4000000000 bytes"),
            "4.0 GB more were asked",
        ),
        (OSError(36, "File name too long", "x" * 900), "x': File name too long"),
        (PermissionError(13, "Permission denied", "runs/a"), "'runs/a': Permission denied"),
        (OSError(28, "No space left on device"), "clipedu: No space left on device"),
    ],
)
def test_what_the_machine_cannot_do_is_a_line(error, message, monkeypatch, capsys):
    monkeypatch.setattr("clipedu.cli.parser.list_names", failing(error))
    assert main(["list"]) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1 and len(shown) < 400


@pytest.mark.parametrize("error", [RuntimeError("a mistake of ours"), OSError("a library's"), ValueError("no")])
def test_a_mistake_of_ours_keeps_its_traceback(error, monkeypatch):
    monkeypatch.setattr("clipedu.cli.parser.list_names", failing(error))
    with pytest.raises(type(error)):
        main(["list"])


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--loss", "vicreg", "--temperature", "0.1"],
        ["train", "--loss", "vicreg", "--learn-temperature", "true"],
        ["groups", "--entailment-options", "min_radius=0.2"],
        ["grid", "--losses", "vicreg", "--temperature", "0.1"],
        ["compare", "norms", "--resize", "squash"],
        ["bench", "losses", "--batch-size", "4"],
        ["data", "verify", "scenes", "--resize", "squash"],
    ],
)
def test_what_has_no_effect_is_refused_and_nothing_is_written(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert "has no effect" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_numbers_of_an_experiment_are_finite_and_short_in_messages():
    for name, value in (("lr", 10**400), ("lr", float("nan")), ("weight_decay", float("inf")), ("embedding_dim", 1)):
        with pytest.raises(ClipeduError) as caught:
            Experiment(**{name: value})
        assert str(caught.value).startswith(f"{name}=") and len(str(caught.value)) < 300
    with pytest.raises(ClipeduError, match="must not have a NUL"):
        Experiment(data="a\0b")
    deep = json.loads("[" * 900 + "]" * 900)
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ClipeduError, match="cannot be kept in JSON"):
        Experiment(loss_options={"x": deep})


LISTS = [
    (command, action.option_strings[-1], action.type)
    for command, parser in COMMANDS.items()
    for action in parser._actions
    if action.option_strings and action.nargs in ("+", "*")
]


@pytest.mark.parametrize(("command", "option", "kind"), LISTS)
def test_no_list_takes_a_value_twice(command, option, kind, capsys):
    value, again, other = {"str": ("a=1", "a=1", "b=1"), "share": ("0.5", "0.50", "0.25")}.get(
        getattr(kind, "__name__", "str").replace("word", "str"), ("2", "02", "3")
    )
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args([*command, *needed(COMMANDS[command]), option, value, other, again])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert f"{option}: {repr(value) if value == 'a=1' else value} is given twice, give each value once" in error
    build_parser().parse_args([*command, *needed(COMMANDS[command]), option, value, other])


def test_the_lists_of_all_commands_are_tried():
    assert {option for _, option, _ in LISTS} >= {"--losses", "--optimizers", "--seeds", "--variants", "--batch-sizes"}


IN_PARTS = [
    (command, action.option_strings[-1], action)
    for command, parser in COMMANDS.items()
    for action in parser._actions
    if action.option_strings and action.nargs == "+"
]


@pytest.mark.parametrize(("command", "option", "action"), IN_PARTS, ids=lambda value: str(value)[:40])
def test_a_list_may_be_given_in_parts(command, option, action, capsys):
    """As many programs take it; that only the last part counts would go unseen."""
    words, two, three, five = [*command, *needed(COMMANDS[command])], "2", "3", "5"
    if option == "--keep":
        two, three, five = "0.2", "0.3", "0.5"
    parts = PARSER.parse_args([*words, option, two, three, option, five])
    assert getattr(parts, action.dest) == getattr(PARSER.parse_args([*words, option, two, three, five]), action.dest)
    assert len(getattr(parts, action.dest)) == 3
    with pytest.raises(SystemExit):
        PARSER.parse_args([*words, option, two, three, option, two])
    assert f"{option}: " in (error := capsys.readouterr().err) and "is given twice, give each value once" in error


def test_an_image_size_is_a_whole_number_and_none_by_default():
    parser = Parser()
    add_image_size(parser, "with --model")
    assert parser.parse_args([]).image_size is None and parser.parse_args(["--image-size", "48"]).image_size == 48
