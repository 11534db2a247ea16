"""The fields of `Experiment` as options of the command line: --train-size 1000, --loss-options gamma=0.5 form=course."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from clipedu.config.experiment import Experiment
from clipedu.config.presets import PRESETS


def add_experiment(parser: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    """An option for every field of Experiment; what is not given stays out of the namespace."""
    settings = parser.add_argument_group("settings of the experiment", "each over the preset's value (shown: laptop's)")
    settings.add_argument(
        "--preset", metavar="NAME", help="; ".join(f"{k}: {v.description}" for k, v in PRESETS.items())
    )
    laptop = Experiment()
    for spec in dataclasses.fields(Experiment):
        if spec.name in without:
            continue
        default = getattr(laptop, spec.name)
        words = (
            {"nargs": "*", "type": str, "metavar": "KEY=VALUE"}
            if isinstance(default, dict)
            else {
                "type": _reader(spec),
                "metavar": "|".join(spec.metadata.get("choices", ())) or spec.name.split("_")[-1].upper(),
            }
        )
        text = f"{spec.metadata['text']} ({default if default not in (None, {}) else 'none'})".replace("%", "%%")
        settings.add_argument(
            f"--{spec.name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=text,
            action=_Options if isinstance(default, dict) else "store",
            **words,
        )


class _Options(argparse.Action):
    """--loss-options gamma=0.5 form=course -> {"gamma": 0.5, "form": "course"}"""

    def __call__(self, parser, namespace, values, option_string=None):
        pairs = {}
        for item in values:
            key, equals, value = item.partition("=")
            if not equals or not key:
                parser.error(f"argument {option_string}: {item!r} is not KEY=VALUE")
            pairs[key] = _value(value)
        setattr(namespace, self.dest, pairs)


def _value(text: str) -> Any:
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except json.JSONDecodeError:
        return None if text.lower() == "none" else text


def _reader(spec: dataclasses.Field):
    kind, optional = str(spec.type).removesuffix(" | None"), str(spec.type).endswith("| None")

    def read(text: str) -> Any:
        if optional and text.lower() == "none":
            return None
        if kind == "bool":
            if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
                raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
            return text.lower() in ("true", "yes", "1")
        return {"int": int, "float": float, "str": str}[kind](text)

    read.__name__ = kind  # argparse says "invalid int value: 'x'"
    return read


def experiment_changes(given: argparse.Namespace) -> dict[str, Any]:
    """The settings given on the command line, by field name."""
    return {
        spec.name: getattr(given, spec.name) for spec in dataclasses.fields(Experiment) if hasattr(given, spec.name)
    }


def _as_words(value: Any) -> list[str]:
    """A setting's value as the command line takes it."""
    if isinstance(value, dict):
        return [
            f"{key}={item if isinstance(item, str) and not _is_json(item) else json.dumps(item)}"
            for key, item in value.items()
        ]
    return ["none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)]


def _is_json(text: str) -> bool:
    """Whether an option's text would be read as something else than itself: a number, true, none, ..."""
    try:
        json.loads(text.lower())
    except ValueError:
        return text.lower() == "none"
    return True
