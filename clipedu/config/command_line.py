"""The fields of `Experiment` as options of the command line.

    --train-size 1000 --loss-options gamma=0.5 form=course

`add_experiment` adds the options to a parser, `experiment_changes` reads what was given, and `experiment_words` writes the
words that `experiment_changes` reads back.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clipedu.config.experiment import Experiment, checked_setting
from clipedu.config.intervals import interval_word
from clipedu.config.named_settings import split_name
from clipedu.config.presets import PRESETS
from clipedu.utils.errors import ClipeduError, quoted


def add_experiment(parser: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    """Add an option for every field of Experiment to a parser.

    What is not given stays out of the namespace.
    """
    settings = parser.add_argument_group("settings of the experiment", "each over the preset's value (shown: laptop's)")
    settings.add_argument(
        "--preset", metavar="NAME", type=_name, help="; ".join(f"{k}: {v.description}" for k, v in PRESETS.items())
    )
    add_settings(settings, [spec.name for spec in dataclasses.fields(Experiment) if spec.name not in without])


def add_settings(parser: Any, names: Sequence[str], *, defaults: bool = True) -> None:
    """Add an option for some fields of Experiment to a parser or a group.

    What is not given stays out of the namespace.

    Args:
        parser: of argparse, or a group of one.
        names: of the fields.
        defaults: show the laptop preset's value in the help.
    """
    laptop = Experiment()
    for spec in (Experiment.__dataclass_fields__[name] for name in names):
        default = getattr(laptop, spec.name)
        kwargs: dict[str, Any]
        if isinstance(default, dict):
            kwargs = {"action": _Options, "nargs": "*", "type": str, "metavar": "KEY=VALUE"}
        elif isinstance(default, list):
            kwargs = {
                "action": _Names,
                "nargs": "+",
                "type": str,
                "metavar": "|".join(spec.metadata.get("choices", ["NAME"])),
            }
        else:
            words = spec.metadata.get("choices") or [f"true|false|{word}" for word in spec.metadata.get("also", ())]
            metavar = "|".join(words) or spec.name.split("_")[-1].upper()
            kwargs = {"type": _reader(spec), "metavar": metavar}
        shown = " ".join(default) if isinstance(default, list) else default
        value = f" ({shown if shown not in (None, {}, '') else 'none'})" if defaults else ""
        text = f"{spec.metadata['text']}{value}".replace("%", "%%")
        parser.add_argument(_option(spec.name), dest=spec.name, default=argparse.SUPPRESS, help=text, **kwargs)


def experiment_changes(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings given on the command line, by field name."""
    return {spec.name: getattr(args, spec.name) for spec in dataclasses.fields(Experiment) if hasattr(args, spec.name)}


def experiment_words(changes: Mapping[str, Any]) -> list[str]:
    """Write settings as the words that `experiment_changes` reads back.

    An example is ["--lr", "0.001"].

    Names in option fields must be such as a keyword argument has. A name of data that is the word none cannot be written
    where none means something else; ./none can.

    Args:
        changes: values of `Experiment` by field name, as `Experiment.changed` gives them.
    """
    words = []
    for name, value in changes.items():
        option = _option(name)
        if isinstance(value, dict):
            words += [option, *(f"{key}={_item_word(item)}" for key, item in value.items())]
        elif isinstance(value, list):
            words += [option, *(value or ["none"])]
        else:
            word = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            words += [f"{option}={word}"] if word.startswith("-") else [option, word]
    return words


def read_setting(name: str, word: str) -> Any:
    """Read the word of one setting, as its option does.

    Args:
        name: of a field of `Experiment`, or of an item of an option field ("optimizer_options.eps").
        word: what was written.
    Raises:
        ClipeduError: an unknown field, or a word that is none of its values.
    """
    field, item = split_name(name)
    if item:
        return _item(word)
    try:
        value = _reader(Experiment.__dataclass_fields__[field])(word)
    except argparse.ArgumentTypeError as error:
        raise ClipeduError(f"{name}={word}: {error}") from None
    return checked_setting(field, value)


def _option(field: str) -> str:
    return f"--{Experiment.__dataclass_fields__[field].metadata.get('option', field.replace('_', '-'))}"


def _name(word: str) -> str:
    if not word:
        raise argparse.ArgumentTypeError("an empty word is no name")
    return word


class _Options(argparse.Action):
    """--loss-options gamma=0.5 form=course -> {"gamma": 0.5, "form": "course"}; --loss-options none -> {}"""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if values == ["none"]:
            setattr(namespace, self.dest, {})
            return
        pairs = dict(getattr(namespace, self.dest, {}))
        for item in values:
            key, equals, word = item.partition("=")
            if not equals or not key:
                parser.error(f"argument {option_string}: {quoted(item)} is not KEY=VALUE, or none alone")
            value = _item(word)
            if key in pairs and pairs[key] != value:
                parser.error(f"argument {option_string}: {quoted(key)} is given twice, with two values")
            pairs[key] = value
        setattr(namespace, self.dest, pairs)


class _Names(argparse.Action):
    """--track tensorboard trackio -> ["tensorboard", "trackio"]; --track none -> []"""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, None) or []
        setattr(namespace, self.dest, [] if [word.lower() for word in values] == ["none"] else [*before, *values])


def _item(word: str) -> Any:
    """Read the value of KEY=VALUE.

    It is JSON where the word is JSON (true and none in any case), else the word itself.
    """
    try:
        return json.loads(word.lower() if word.lower() in ("true", "false") else word)
    except (ValueError, RecursionError):  # no JSON, or a number or a depth beyond what Python reads
        return None if word.lower() == "none" else word


def _item_word(item: Any) -> str:
    """Write a value as a word, the inverse of `_item`.

    A text is quoted, as JSON, where it would be read as something else.
    """
    return item if isinstance(item, str) and _item(item) == item else json.dumps(item)


def _reader(spec: dataclasses.Field) -> Callable[[str], Any]:
    """Return the function that reads the word of a field.

    It returns None where that is allowed and the word is none.
    """
    kind, optional = str(spec.type).partition(" | ")[0], str(spec.type).endswith("| None")
    also = spec.metadata.get("also", ())

    def read(word: str) -> Any:
        if optional and word.lower() == "none":
            return None
        if word.lower() in also:
            return word.lower()
        if kind == "bool":
            if word.lower() not in ("true", "false", "yes", "no", "1", "0"):
                raise argparse.ArgumentTypeError(
                    f"{quoted(word)} is neither true nor false{''.join(f' nor {x}' for x in also)}"
                )
            return word.lower() in ("true", "yes", "1")
        if kind == "str":
            return word
        if "interval" in spec.metadata:
            return interval_word(word)
        try:
            return {"int": int, "float": float}[kind](word)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{quoted(word)} is not {'a whole' if kind == 'int' else 'a'} number"
            ) from None

    return read
