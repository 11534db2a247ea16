"""The command line: the parser and the entry point.

    clipedu quickstart | train | groups | evaluate | inspect | blend | export | grid | compare | sweep | report | bench | data | list | lab

Each command is a thin layer over a function that a notebook can call too. An error that the user can correct is one line on
stderr with exit code 2; Ctrl-C prints how to resume, with exit code 130, and so does SIGTERM, with 143.

Of several processes (torchrun) the first one alone writes to the screen; another one only what it alone has met with.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from clipedu import __version__
from clipedu.cli.arguments import Parser, add_image_size, path, whole, word
from clipedu.cli.bench import add_bench
from clipedu.cli.blend import add_blend
from clipedu.cli.compare import add_compare
from clipedu.cli.data import add_data
from clipedu.cli.evaluate import evaluate, report
from clipedu.cli.export import add_export
from clipedu.cli.grid import add_grid
from clipedu.cli.inspect import add_inspect
from clipedu.cli.probes import add_probes
from clipedu.cli.sweep import add_sweep
from clipedu.cli.train import groups, quickstart, train
from clipedu.config.command_line import add_experiment
from clipedu.utils.errors import ClipeduError, quoted
from clipedu.utils.interrupts import Terminated, terminable
from clipedu.utils.logs import log_to_stderr
from clipedu.utils.memory import is_out_of_memory, out_of_memory
from clipedu.utils.ranks import check_one_process, is_first, joined


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code.

    Returns:
        0 (done), 2 (an error that the user can correct), 130 (stopped by Ctrl-C) or 143 (stopped by SIGTERM).
    """
    log_to_stderr()
    args = argparse.Namespace()
    try:
        with joined(), _heard_once():
            args = build_parser().parse_args(arguments)
            if args.command not in (train, quickstart):
                check_one_process("this command")
            with terminable():
                args.command(args)
    except ClipeduError as error:
        return _refuse(error)
    except KeyboardInterrupt as error:
        by = " by SIGTERM" if isinstance(error, Terminated) else ""
        print(f"\nclipedu: stopped{by}; what was done is kept. " + getattr(args, "how_to_go_on", ""), file=sys.stderr)
        return 143 if by else 130
    except MemoryError as error:
        return _refuse(out_of_memory(error))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return _refuse(out_of_memory(error))
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno is None:  # a library's own, not the system's
            raise
        name = f"{quoted(error.filename)}: " if error.filename else ""
        return _refuse(f"{name}{error.strerror}")
    return 0


@contextmanager
def _heard_once() -> Iterator[None]:
    """Let the first of several processes speak alone; an error of another one is reported by `main`."""
    if is_first():
        yield
        return
    warnings.simplefilter("ignore")
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _refuse(message: object) -> int:
    print(f"clipedu: {ClipeduError(message)}", file=sys.stderr)
    return 2


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; `args.command(args)` runs the chosen command."""
    parser = Parser(
        prog="clipedu",
        description="Train, score and inspect CLIP, from two CPU cores up.",
        epilog="Start with: clipedu quickstart",
    )
    parser.add_argument("--version", action="version", version=f"clipedu {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    quick = _command(
        commands, "quickstart", quickstart, "train, score and report CLIP on the embedded scenes (about a minute)"
    )
    quick.add_argument(
        "--folder", type=path, help="folder of the run (default: runs/quickstart, or the next free number)"
    )

    one = _command(commands, "train", train, "train and score one experiment")
    one.add_argument("--folder", type=path, help="folder of the run (default: runs/<time>-<data>-<loss>-<optimizer>)")
    one.add_argument("--resume", type=path, metavar="RUN", help="resume a stopped run; with --epochs N, go on to N")
    add_experiment(one)

    table = _command(
        commands,
        "groups",
        groups,
        "the parameter groups of an optimizer (decayed, corrected, not decayed) as a table",
    )
    _add_released(table)
    add_experiment(table)

    again = _command(
        commands, "evaluate", evaluate, "score a run again, or a released model: retrieval, zero-shot, embedding shape"
    )
    again.add_argument("run", type=path, nargs="?", help="a run's folder; a released model is named by --model instead")
    _add_released(again)
    add_image_size(again, "with --model")
    again.add_argument("--data", type=word, help="with --model: the retrieval set")
    again.add_argument("--folder", type=path, help="with --model: where scores.json is written (default: nowhere)")
    again.add_argument(
        "--eval-data", type=word, help="another retrieval set than the run's own (its scores are printed, not kept)"
    )
    again.add_argument(
        "--zeroshot-data", type=word, help="another zero-shot set than the run's own (printed, not kept)"
    )
    for option, what in (("--class-names", "ImageNet's names"), ("--templates", "prompts")):
        again.add_argument(
            option, type=word, metavar="clipedu|open_clip", help=f"{what} of another source (printed, not kept)"
        )
    again.add_argument(
        "--checkpoint",
        choices=("last", "best"),
        default="last",
        help="last (default), or the best by the scores during training, with --evaluate-every (printed, not kept)",
    )
    again.add_argument(
        "--averaged",
        action="store_true",
        help="the moving average of the weights, with --ema-decay (printed, not kept)",
    )
    add_probes(again)

    add_inspect(commands)
    add_blend(commands)
    add_export(commands)
    add_grid(commands)
    add_compare(commands)
    add_sweep(commands)

    paper = _command(
        commands, "report", report, "one report on one or many runs: table, curves, settings (HTML and Markdown)"
    )
    paper.add_argument("runs", type=path, nargs="+", help="folders of runs, or folders that hold runs (a grid's)")
    paper.add_argument("--folder", type=path, help="where to write it (default: into the folder given first)")

    add_bench(commands)
    add_data(commands)

    names = _command(commands, "list", list_names, "names to choose from, with a line on each")
    names.add_argument("kind", nargs="?", choices=sorted(_registries()), help="default: all")

    lab = _command(commands, "lab", open_lab, "JupyterLab on the notebooks, on this machine only, with a token")
    lab.add_argument("--folder", type=path, default=Path("clipedu-notebooks"), help="where your copies of them are")
    lab.add_argument("--port", type=whole(1, 65_535), default=8888, help="where to listen (default 8888)")
    lab.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    return parser


def list_names(args: argparse.Namespace) -> None:
    """Print the names of a registry, or of all, with a line on each."""
    registries = _registries()
    for kind in [args.kind] if args.kind else registries:
        print(f"{kind}:")
        entries = registries[kind]()
        width = max(map(len, entries))
        for name, description in entries.items():
            print(f"  {name:<{width}} {description}")


def open_lab(args: argparse.Namespace) -> None:
    """Copy the notebooks and run JupyterLab on them."""
    from clipedu.cli.jupyter import start_lab

    start_lab(args.folder, port=args.port, browser=not args.no_browser)


def _command(
    commands: argparse._SubParsersAction[Any],
    name: str,
    function: Callable[[argparse.Namespace], None],
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    return parser


def _add_released(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", type=word, help="a released model: open_clip:NAME, hf:OWNER/NAME, or a folder or file of one"
    )
    parser.add_argument(
        "--weights", type=word, help="of --model: a pretrained tag of open_clip, a file, or random (default: its own)"
    )


def _registries() -> dict[str, Callable[[], dict[str, str]]]:
    """Return kind -> function that returns names and descriptions.

    Heavy modules are imported only when such a function is called.
    """

    def of(module: str, name: str) -> Callable[[], dict[str, str]]:
        def describe() -> dict[str, str]:
            import importlib

            registry = getattr(importlib.import_module(module), name)
            return {key: entry.description for key, entry in registry.items()}

        return describe

    return {
        "presets": of("clipedu.config.experiment", "PRESETS"),
        "comparisons": of("clipedu.studies.runner", "COMPARISONS"),
        "losses": of("clipedu.losses", "LOSSES"),
        "optimizers": of("clipedu.optim", "OPTIMIZERS"),
        "decay-laws": of("clipedu.optim", "DECAY_LAWS"),
        "geometries": of("clipedu.geometry", "GEOMETRIES"),
        "encoders": of("clipedu.models", "ENCODERS"),
        "trackers": of("clipedu.trackers", "TRACKERS"),
        "corruptions": of("clipedu.data.corruptions", "CORRUPTIONS"),
    }


if __name__ == "__main__":
    sys.exit(main())
