"""Kill runs with SIGKILL at random moments, resume them, and compare them bit for bit with runs that nothing happened to.

    python scripts/kill_and_resume.py                         # 100 points over losses, optimizers and variants
    python scripts/kill_and_resume.py --points 4 --seed 7

A point is one run: begun in a process of its own that is killed after a random time, resumed, in half of the cases killed again, and
resumed to its end. Compared with the whole run are the last checkpoint (weights, averaged weights, and all of the state but seconds),
the scores, and history, norms, layers and validation but their times. It ends with exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import logging
import os
import random
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # forked processes and threads of a library do not go together

LOSSES, OPTIMIZERS = ("clip", "sogclr", "onlineclr", "isogclr"), ("adamw", "adamc", "scion", "muon")
LORENTZ = {"geometry": "lorentz", "entailment": 0.2, "entailment_options": {"min_radius": 0.3, "final_min_radius": 0.1}}
VARIANTS: dict[str, dict[str, Any]] = {
    "often": {"checkpoint_every": 1},
    "accumulate": {"accumulate": 2, "checkpoint_every": 2},
    "temperature": {"learn_temperature": True, "checkpoint_every": "0.02s", "ema_decay": 0.9},
    "lorentz": {**LORENTZ, "checkpoint_every": 1, "evaluate_every": 5},
    "all": {
        **LORENTZ,
        "accumulate": 2,
        "learn_temperature": True,
        "checkpoint_every": 2,
        "evaluate_every": 4,
        "ema_decay": 0.5,
    },
}
QUIET: dict[str, Any] = {"progress": False, "report": False}
TABLES, TIMES = ("history", "norms", "layers", "validation"), ("seconds", "pairs_per_second")


def main() -> int:
    """Kill and resume as often as asked for; 0 if all is bit-identical."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100, help="how many runs are killed (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    args = parser.parse_args()
    from clipedu.training.datasets import load_data
    from clipedu.workflow.pipeline import fit, resume

    logging.getLogger("clipedu").setLevel(logging.ERROR)
    chance = random.Random(args.seed)
    cases = [case for case in itertools.product(VARIANTS, LOSSES, OPTIMIZERS) if settings(*case) is not None]
    chance.shuffle(cases)
    killed = different = 0
    took: dict[tuple[str, ...], float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = write_shards(folder / "own")
        data = load_data(experiment_of(cases[0], shards))  # all cases have the same
        for point in range(args.points):
            case = cases[point % len(cases)]
            experiment = experiment_of(case, shards)
            whole, run = folder / "-".join(case), folder / f"killed-{point}"
            if not whole.exists():
                took[case] = whole_run(lambda where=whole, e=experiment: fit(e, where, data=data, **QUIET), whole)

            def go_on(run: Path = run, experiment: Any = experiment) -> None:
                if (run / "experiment.json").exists():
                    resume(run, data=data, **QUIET)
                else:
                    fit(experiment, run, data=data, **QUIET)

            while not killed_after(chance.uniform(0, took[case]), go_on, run / "experiment.json"):
                shutil.rmtree(run)  # it was at its end already: once more, another moment
            times = 1 + (
                chance.random() < 0.5 and killed_after(chance.uniform(0, took[case]), go_on, run / "status.json")
            )
            killed += times
            done = step_of(run)
            go_on()
            faults = differences(run, whole)
            different += bool(faults)
            said = f"DIFFERENT: {', '.join(faults)}" if faults else "the same"
            print(f"{point + 1:4} {'-'.join(case):32} killed {times} x, went on from step {done}: {said}", flush=True)
    print(
        f"{args.points} runs killed {killed} times in {len(cases)} cases: {args.points - different} bit-identical, {different} not"
    )
    return 1 if different else 0


def settings(variant: str, loss: str, optimizer: str) -> dict[str, Any] | None:
    """Return the settings of a case; None for what does not go together."""
    chosen = {"loss": loss, "optimizer": optimizer, **VARIANTS[variant]}
    if loss == "isogclr":  # which has a temperature for every row
        if variant == "temperature":
            return None
        chosen |= {"learn_temperature": False, "temperature": 0.05}
    return chosen


def experiment_of(case: tuple[str, str, str], shards: Path) -> Any:
    """Return the small experiment of a case: 12 steps."""
    from clipedu import Experiment

    return Experiment(
        data=str(shards), batch_size=8, image_size=16, embedding_dim=8, text_length=12, device="cpu", norms_every=3,
        image_options={"channels": [8, 8, 8, 8], "stem_width": 4},
        text_options={"dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32, "dropout": 0.1}, **(settings(*case) or {}),
    )  # fmt: skip


def write_shards(folder: Path) -> Path:
    """Write scenes as shards: 48 to train on, 8 to score on."""
    import torch
    from PIL import Image

    from clipedu.data.scenes.dataset import Scenes

    folder.mkdir()
    for split, count in (("train", 48), ("val", 8)):
        scenes = Scenes("train" if split == "train" else "val", count, 32)
        with tarfile.open(folder / f"own-{split}-000.tar", "w") as tar:
            for row, picture in enumerate(scenes.pixels(torch.arange(count))):
                buffer = io.BytesIO()
                Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "png")
                captions = json.dumps({"captions": list(scenes.captions(row))}).encode()
                for kind, content in (("png", buffer.getvalue()), ("json", captions)):
                    member = tarfile.TarInfo(f"{row:05d}.{kind}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


def whole_run(work: Callable[[], object], folder: Path) -> float:
    """Make a run, and return how many seconds it took after its folder was complete."""
    work()
    return time.time() - (folder / "experiment.json").stat().st_mtime


def killed_after(seconds: float, work: Callable[[], object], there: Path) -> bool:
    """Do some work in a process of its own; return whether it was killed before its end.

    Args:
        seconds: after which it is killed.
        work: what to do.
        there: a file; the seconds begin when it is there.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001  a child must not go on as its parent
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(code)
    end = None
    while end is None or time.monotonic() < end:
        if end is None and there.exists():
            end = time.monotonic() + seconds
        if (found := os.waitpid(child, os.WNOHANG))[0]:
            break
        time.sleep(0.001)
    else:
        os.kill(child, signal.SIGKILL)
        found = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(found[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a run failed with exit code {status}")
    return status != 0


def step_of(run: Path) -> int:
    """Return the step of a run's last checkpoint, 0 without one."""
    from clipedu.runs import checkpoint

    last = checkpoint.last_checkpoint(run)
    return checkpoint.step_of(last) if last else 0


def differences(run: Path, whole: Path) -> list[str]:
    """Return what of two finished runs is not the same, bit for bit."""
    from clipedu import load_run

    ours, theirs = load_run(run), load_run(whole)
    states = [
        one.training_state("cpu") | {"seconds": 0, "weights": one.weights(), "averaged": one.averaged()}
        for one in (ours, theirs)
    ]
    faults = [f"checkpoint: {name}" for name in states[1] if not same(states[0].get(name), states[1][name])]
    if (ours.metrics, ours.status, ours.best_step) != (theirs.metrics, theirs.status, theirs.best_step):
        faults.append("scores or status")
    return faults + [name for name in TABLES if rows(run / f"{name}.csv") != rows(whole / f"{name}.csv")]


def same(one: Any, other: Any) -> bool:
    """Compare nested values, tensors bit for bit."""
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def rows(path: Path) -> list[list[str]]:
    """Return the cells of a table but its times, [] where there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        head, *others = csv.reader(file)
    return [[cell for name, cell in zip(head, row, strict=True) if name not in TIMES] for row in (head, *others)]


if __name__ == "__main__":
    sys.exit(main())
