"""The command line: `clipedu quickstart | train | groups | evaluate | grid | compare | report | bench | data | list | lab`.

Each command is a thin layer over a function that a notebook can call too. What a user can mend is told in one line on
stderr with exit code 2; Ctrl-C says what was kept and how to go on, with exit code 130.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from clipedu.bench import add_bench
from clipedu.compare_cli import add_compare
from clipedu.data_cli import add_data
from clipedu.experiment import PRESETS, Experiment
from clipedu.options import add_experiment, experiment_changes
from clipedu.registry import ClipeduError
from clipedu.scores import scores_text


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 2 something the user can mend, 130 stopped by Ctrl-C)."""
    parser = build_parser()
    given = parser.parse_args(arguments)
    try:
        given.command(given)
    except ClipeduError as error:
        print(f"clipedu: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nclipedu: stopped; what was done is kept. " + getattr(given, "how_to_go_on", ""), file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def build_parser() -> argparse.ArgumentParser:
    from clipedu import __version__

    parser = argparse.ArgumentParser(
        prog="clipedu",
        description="Train, score and look into CLIP, from two CPU cores up.",
        epilog="Start with: clipedu quickstart",
    )
    parser.add_argument("--version", action="version", version=f"clipedu {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    quick = _command(
        commands, "quickstart", quickstart, "train, score and report CLIP on the embedded scenes (about a minute)"
    )
    quick.add_argument(
        "--folder", type=Path, help="folder of the run (default: runs/quickstart, or the next free number)"
    )

    one = _command(commands, "train", train, "train and score one experiment")
    one.add_argument("--folder", type=Path, help="folder of the run (default: runs/<time>-<data>-<loss>-<optimizer>)")
    one.add_argument("--resume", type=Path, metavar="RUN", help="go on with a stopped run; takes no other setting")
    add_experiment(one)

    add_experiment(_command(commands, "groups", groups, "what an optimizer decays, corrects and leaves alone: a table"))

    again = _command(commands, "evaluate", evaluate, "score a run again: retrieval, zero-shot, embedding shape")
    again.add_argument("run", type=Path, help="a run's folder")
    again.add_argument(
        "--eval-data", help="another retrieval set than the run's own (its scores are printed, not kept)"
    )
    again.add_argument("--zeroshot-data", help="another zero-shot set than the run's own (printed, not kept)")

    many = _command(commands, "grid", grid, "the course's grid: five losses x three optimizers")
    many.add_argument("--folder", type=Path, help="folder of the grid (default: runs/grid-<preset>)")
    many.add_argument("--losses", nargs="+", metavar="LOSS", help="default: clip sogclr cyclip vicreg onlineclr")
    many.add_argument("--optimizers", nargs="+", metavar="OPTIMIZER", help="default: adamw sgd adam")
    add_experiment(many, without=("loss", "optimizer"))

    add_compare(commands)

    paper = _command(
        commands, "report", report, "one report on one or many runs: table, curves, settings (HTML and Markdown)"
    )
    paper.add_argument("runs", type=Path, nargs="+", help="folders of runs, or folders that hold runs (a grid's)")
    paper.add_argument("--folder", type=Path, help="where to write it (default: into the folder given first)")

    add_bench(commands)
    add_data(commands)

    names = _command(commands, "list", list_names, "names to choose from, with a line on each")
    names.add_argument("kind", nargs="?", choices=sorted(_registries()), help="default: all")

    lab = _command(commands, "lab", open_lab, "JupyterLab on the notebooks, on this machine only, with a token")
    lab.add_argument("--folder", type=Path, default=Path("clipedu-notebooks"), help="where your copies of them live")
    lab.add_argument("--port", type=int, default=8888)
    lab.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    return parser


def quickstart(given: argparse.Namespace) -> None:
    from clipedu.workflow import fit

    folder = given.folder or next(p for n in range(1, 10_000) if not (p := Path("runs") / f"quickstart-{n}").exists())
    given.how_to_go_on = f"Go on with: clipedu train --resume {folder}"
    experiment = Experiment()
    print(
        f"Training {experiment.loss.upper()} with {experiment.optimizer} on embedded scenes, {experiment.epochs} epochs ..."
    )
    run = fit(experiment, folder)
    print(scores_text(run.metrics))
    print(f"""
Trained in {run.seconds:.0f} s. Everything is in {run.folder}/:
  report.html   scores, plots and settings on one page: open it in a browser
  plots/        loss, norms, similarity matrix, embedding map

What to try next:
  clipedu train --loss sogclr     another loss (all of them: clipedu list losses)
  clipedu grid                    five losses x three optimizers, about five minutes on two CPU cores
  clipedu lab                     the notebooks
  clipedu train --help            all settings""")


def train(given: argparse.Namespace) -> None:
    from clipedu.runs import new_run_folder
    from clipedu.workflow import fit, resume

    changes = experiment_changes(given)
    if given.resume is not None:
        if changes or given.preset or given.folder:
            raise ClipeduError("--resume goes on with a run's own settings, so it takes no other option")
        given.how_to_go_on = f"Go on with: clipedu train --resume {given.resume}"
        run = resume(given.resume)
    else:
        experiment = Experiment.preset(given.preset or "laptop", **changes)
        folder = given.folder or new_run_folder(experiment)
        given.how_to_go_on = f"If it had begun to train, go on with: clipedu train --resume {folder}"
        run = fit(experiment, folder)
    print(scores_text(run.metrics))
    tell_skipped(run.folder)
    print(f"\nTrained in {run.seconds:.0f} s. Report: {run.folder}/report.html")


def groups(given: argparse.Namespace) -> None:
    from clipedu.optim import describe_groups
    from clipedu.training import prepare

    print(describe_groups(prepare(Experiment.preset(given.preset or "laptop", **experiment_changes(given))).optimizer))


def evaluate(given: argparse.Namespace) -> None:
    from clipedu.evaluation import average
    from clipedu.evaluation import evaluate as evaluate_model
    from clipedu.report import write_report
    from clipedu.runs import load_run
    from clipedu.workflow import evaluation_sets, score

    run = load_run(given.run)
    changes = {key: value for key in ("eval_data", "zeroshot_data") if (value := getattr(given, key)) is not None}
    if changes:
        sets = evaluation_sets(run.experiment.replace(**changes))
        model = run.model()
        metrics: dict[str, float] = {}
        for pairs in sets:
            metrics |= evaluate_model(model, pairs, progress=True)
        metrics["average"] = average(metrics)
    else:
        metrics = score(run)
        write_report([run], run.folder)
    print(scores_text(metrics))


def grid(given: argparse.Namespace) -> None:
    from clipedu.grid import COURSE_LOSSES, COURSE_OPTIMIZERS, cells, run_grid, yardstick
    from clipedu.report import write_report

    preset = given.preset or "laptop"
    changes = experiment_changes(given)
    base = Experiment.preset(preset, **changes)
    per_optimizer = {
        name: {key: value for key, value in settings.items() if key not in changes}
        for name, settings in PRESETS[preset].per_optimizer.items()
    }
    experiments = cells(base, given.losses or COURSE_LOSSES, given.optimizers or COURSE_OPTIMIZERS, per_optimizer)
    folder = given.folder or Path("runs") / f"grid-{preset}"
    given.how_to_go_on = "The same command goes on with the cells that are missing."
    runs = []
    print(f"{len(experiments)} cells in {folder}/")
    print(f"{'cell':<20} {'TR@1':>6} {'IR@1':>6} {'top-1':>6} {'average':>8} {'seconds':>8}")
    for run in run_grid(experiments, folder):
        runs.append(run)
        if run.metrics:
            scores = [f"{run.metrics[key]:6.2f}" if key in run.metrics else " " * 6 for key in ("tr@1", "ir@1", "top1")]
            print(f"{run.name:<20} {' '.join(scores)} {run.metrics['average']:8.2f} {run.seconds:8.1f}", flush=True)
        else:
            print(f"{run.name:<20} {run.status}: {run.note}", flush=True)
    baseline = yardstick(base, folder)
    if baseline:
        print(f"{'ridge, no CLIP':<20} {baseline['tr@1']:6.2f} {baseline['ir@1']:6.2f}   ({baseline['seconds']:.0f} s)")
    print(f"\nReport: {write_report(runs, folder, baseline=baseline)}")


def report(given: argparse.Namespace) -> None:
    from clipedu.report import write_report
    from clipedu.runs import find_runs

    runs = find_runs(given.runs)
    folder = given.folder or given.runs[0]
    baseline = given.runs[0] / "baseline.json"
    kept = json.loads(baseline.read_text()) if baseline.is_file() else None
    print(f"{len(runs)} runs. Report: {write_report(runs, folder, baseline=kept)}")


def list_names(given: argparse.Namespace) -> None:
    registries = _registries()
    for kind in [given.kind] if given.kind else registries:
        print(f"{kind}:")
        entries = registries[kind]()
        width = max(map(len, entries))
        for name, description in entries.items():
            print(f"  {name:<{width}} {description}")


def open_lab(given: argparse.Namespace) -> None:
    from clipedu.lab import start_lab

    start_lab(given.folder, port=given.port, browser=not given.no_browser)


def tell_skipped(folder: Path) -> None:
    """How many samples of each set were left out, and the first of them."""
    sets = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    for one in sets:
        if one["skipped"]:
            print(
                f"{len(one['skipped'])} samples of {one['name']}/{one['split']} were left out, e.g. {one['skipped'][0]} "
                f"(all: {folder}/data.json)"
            )


def _command(commands, name: str, function, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    return parser


def _registries() -> dict[str, Any]:
    """Kind -> function that gives names and descriptions; heavy imports happen only when it is called."""

    def of(module: str, name: str):
        def describe() -> dict[str, str]:
            import importlib

            registry = getattr(importlib.import_module(module), name)
            return {key: entry.description for key, entry in registry.items()}

        return describe

    return {
        "presets": of("clipedu.experiment", "PRESETS"),
        "comparisons": of("clipedu.compare", "COMPARISONS"),
        "losses": of("clipedu.losses", "LOSSES"),
        "optimizers": of("clipedu.optim", "OPTIMIZERS"),
        "decay-laws": of("clipedu.optim", "DECAY_LAWS"),
        "geometries": of("clipedu.geometry", "GEOMETRIES"),
        "encoders": of("clipedu.models", "ENCODERS"),
    }


if __name__ == "__main__":
    sys.exit(main())
