"""Parsers of commands: whole option names, one-line errors, nothing twice.

argparse takes `--seed` for `--seeds`, lets a list hold a value twice and prints a page of usage before an error; `Parser` does
none of that. The functions below
it read a word of the command line, and refuse what no file or count can be.
"""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from clipedu.utils.checks import check_distinct
from clipedu.utils.errors import ClipeduError, quoted

LONGEST_NAME, LONGEST_PATH = 255, 4000  # bytes, as most file systems have it


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that abbreviates nothing.

    An option that takes a list takes each value once. The parser says what is wrong in one line. The parsers of its commands are of this class too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, but name unknown words here.

        Here it is known which options the command has, and what a list holds that was given in parts.
        """
        parsed, unknown = super().parse_known_args(args, namespace)
        for action in self._actions:
            values = getattr(parsed, action.dest, None)
            if action.option_strings and isinstance(values, list):
                try:
                    check_distinct(action.option_strings[-1], values)
                except ClipeduError as error:
                    self.error(str(error))
        if unknown:
            self.error(self._unknown(unknown))
        return parsed, unknown

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Read the words of an option as argparse does, and refuse a list that holds a value twice."""
        values = super()._get_values(action, arg_strings)  # type: ignore[misc]  # it has no public name
        if action.option_strings and isinstance(values, list):
            try:
                check_distinct(action.option_strings[-1], values)
            except ClipeduError as error:
                raise argparse.ArgumentError(None, str(error)) from None
        return values

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        self.exit(2, f"{self.prog}: {ClipeduError(message)} (all options: {self.prog} --help)\n")

    def _unknown(self, words: Sequence[str]) -> str:
        word = next((word for word in words if word.startswith("-")), words[0])
        given, known = word.partition("=")[0], [name for name in self._option_string_actions if name.startswith("--")]
        if not given.startswith("-"):
            return f"there is no place for the word {quoted(given)}"
        near = [name for name in known if name.startswith(given)]
        if near:  # beside --seeds there is --data-seed
            near += [name for name in known if name.endswith(given[1:]) and name not in near]
        near = near or difflib.get_close_matches(given, known, cutoff=0.6)
        hint = f". Did you mean {' or '.join(near[:3])}?" if near and given != "--" else ""
        return f"unknown option {quoted(given)[1:-1]}{hint}"


def word(text: str) -> str:
    """Read a name: anything but an empty word, or one with a NUL.

    Raises:
        ArgumentTypeError: it is one.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty word is no name")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"{quoted(text)} has a NUL in it, which no name can have")
    return text


def path(text: str) -> Path:
    """Read a path that a file system can hold.

    An empty word is refused: it would be the current folder. That is `.`.

    Raises:
        ArgumentTypeError: it is empty, has a NUL, or is too long.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty word is no path (the current folder is .)")
    raw = os.fsencode(word(text))
    if len(raw) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in raw.split(b"/")):
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is too long: a name has at most {LONGEST_NAME} bytes, a path {LONGEST_PATH}"
        )
    return Path(text)


def whole(at_least: int = 1, at_most: int | None = None) -> Callable[[str], int]:
    """Return a reader of whole numbers within limits.

    Args:
        at_least, at_most: the limits; None is no limit.
    """

    def read(text: str) -> int:
        allowed = f"a whole number from {at_least}" + (" on" if at_most is None else f" to {at_most}")
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{quoted(text)} is not {allowed}") from None
        if number < at_least or (at_most is not None and number > at_most):
            raise argparse.ArgumentTypeError(f"{quoted(text)} is not {allowed}")
        return number

    return read


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Add --tune: what is chosen on pairs held out, before cells are run."""
    parser.add_argument(
        "--tune",
        nargs="+",
        action="extend",
        type=word,
        metavar="lr|NAME=VALUES",
        help="first find the best settings of each on training pairs held out, with the first seed: all combinations of values (lr=1e-3,3e-3 "
        'temperature=0.03,0.1), or ten trials in a range (lr, weight_decay, temperature, or lr=1e-4..1e-2:log; needs pip install "clipedu[sweep]")',
    )


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add --jobs and --threads, of a command that runs many experiments."""
    parser.add_argument(
        "--jobs",
        type=whole(1),
        metavar="N",
        help="how many at once, each in a process; the numbers stay the same (default: what processors and memory allow, 1 on a GPU)",
    )
    parser.add_argument(
        "--threads",
        type=whole(1),
        default=1,
        metavar="N",
        help="threads of each, on a CPU (default 1; others round otherwise)",
    )


def given_options(args: argparse.Namespace, allowed: Sequence[str], what: str) -> dict[str, Any]:
    """Return the options of a command that were given, all of them `allowed`.

    Args:
        args: a namespace in which what was not given is None.
        allowed: names of options that have an effect.
        what: on what, for the message.
    Raises:
        ClipeduError: another one was given.
    """
    own = {"command", "what"}
    given = {name: value for name, value in vars(args).items() if value is not None and name not in own}
    for name in given:
        if name not in allowed:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in allowed)
            raise ClipeduError(
                f"--{name.replace('_', '-')} has no effect on {what}, which takes {options or 'no option'}"
            )
    return given


def add_image_size(parser: argparse.ArgumentParser, when: str) -> None:
    """Add `--image-size`, of a released model.

    Args:
        parser: of a command.
        when: with what it has an effect.
    """
    parser.add_argument(
        "--image-size",
        type=whole(1),
        metavar="N",
        help=f"{when}: images of another size than its own, with resampled positions",
    )
