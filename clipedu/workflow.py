"""From an experiment to a run's folder: train, keep checkpoints, score, draw, report.

    fit(experiment)          a new run, start to finish
    resume(folder)           a stopped run, from its last checkpoint; the same numbers as if it had never stopped
    score(run)               evaluate a finished or stopped run again

Ctrl-C, a NaN and a crash leave a run that says what happened and keeps what was done up to its last checkpoint.
"""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from clipedu.data.load import load_pairs
from clipedu.data.pairs import Pairs
from clipedu.data.text import Tokenizer
from clipedu.device import pick_device
from clipedu.evaluation import average, embed_pairs, evaluate, score_pairs
from clipedu.experiment import Experiment
from clipedu.files import write_json
from clipedu.hierarchy import chains_of, embed_phrases
from clipedu.kept_tokens import keep_tokens
from clipedu.objective import check_names
from clipedu.registry import ClipeduError
from clipedu.runs import Run, load_run, new_run
from clipedu.training import NotFinite, Trainer, build_tokenizer, load_train, prepare

KEPT_EMBEDDINGS, KEPT_CHAINS = 1000, 200


@dataclass
class Data:
    """The sets of an experiment, and the tokenizer made for them, so that the cells of a grid can share them."""

    train: Pairs
    scored: list[Pairs]
    tokenizer: Tokenizer


def fit(
    experiment: Experiment,
    folder: str | Path | None = None,
    *,
    data: Data | None = None,
    progress: bool = True,
    report: bool = True,
) -> Run:
    """Train, score and report one experiment in a run's folder.

    Args:
        experiment: what to run.
        folder: where; default runs/<time>-<data>-<loss>-<optimizer>. Must be new or empty.
        data: `load_data(experiment)`, where a caller has it already.
        progress: show a progress bar.
        report: draw the plots and write report.html.
    Returns:
        the finished run.
    Raises:
        ClipeduError: what the experiment asks for can't be done; nothing is written.
        NotFinite: training diverged; the message names the step and the last good checkpoint, and the run is kept.
        KeyboardInterrupt: after the checkpoint is written; `resume` goes on.
    """
    data = data or load_data(experiment)
    trainer = prepare(experiment, pairs=data.train, tokenizer=data.tokenizer, progress=progress)
    run = new_run(experiment, folder)
    return _finish(run, trainer, data, progress=progress, report=report)


def resume(folder: str | Path, *, data: Data | None = None, progress: bool = True, report: bool = True) -> Run:
    """Go on with a stopped run from its last checkpoint (from the start if it has none). A finished run is returned as is."""
    run = load_run(folder)
    if run.status == "finished":
        return run
    if data is None:  # a run killed in its very first moment has no tokenizer yet: the same one is made again
        kept = run.folder / "tokenizer"
        data = load_data(run.experiment, Tokenizer.load(kept) if kept.exists() else None)
    trainer = prepare(run.experiment, pairs=data.train, tokenizer=data.tokenizer, progress=progress)
    if any(run.folder.glob("checkpoint/step-*")):
        trainer.load_state(run.weights(), run.training_state(trainer.device))
    return _finish(run, trainer, data, progress=progress, report=report)


def score(run: Run, model=None, sets: list[Pairs] | None = None, *, progress: bool = True) -> dict[str, float]:
    """Evaluate a run's model on its retrieval and zero-shot sets; write metrics and embeddings into its folder.

    Args:
        model, sets: the run's model and its sets, where a caller has them already.
    """
    model = model or run.model().to(pick_device(run.experiment.device))
    metrics: dict[str, float] = {}
    for pairs in sets or evaluation_sets(run.experiment):
        if pairs.split == "zeroshot":
            metrics |= evaluate(model, pairs, progress=progress)
        else:
            embeddings = embed_pairs(model, pairs, progress=progress)
            metrics |= score_pairs(model, pairs, embeddings)
            _keep_embeddings(run, model, pairs, *embeddings)
            keep_tokens(run.folder, model, pairs)
    metrics["average"] = average(metrics)
    run.save_metrics(metrics)
    return metrics


def load_data(experiment: Experiment, tokenizer: Tokenizer | None = None) -> Data:
    """All sets of an experiment; its tokenizer is built from the training captions unless it is given.

    Raises:
        ClipeduError: a set that is missing or does not fit; told now, not after the training.
    """
    check_names(experiment)
    train = load_train(experiment)
    return Data(train, evaluation_sets(experiment), tokenizer or build_tokenizer(experiment, train))


def describe(pairs: Pairs) -> dict[str, Any]:
    """What a set is, for a run's data.json: how many rows, a fingerprint, and every sample that was left out and why."""
    return {
        "name": pairs.name,
        "split": pairs.split,
        "rows": len(pairs),
        "image_size": pairs.image_size,
        "fingerprint": pairs.fingerprint(),
        "skipped": list(pairs.skipped),
    }


def evaluation_sets(experiment: Experiment) -> list[Pairs]:
    """The retrieval set and, where there is one, the zero-shot set of an experiment.

    The zero-shot set is `zeroshot_data`, or else that of the training data if it is a set that comes with one (scenes).
    """
    shared: dict[str, Any] = {"image_size": experiment.image_size, "resize": experiment.resize, "seed": experiment.seed}
    try:
        sets = [load_pairs(experiment.eval_data or experiment.data, "val", **shared)]
    except ClipeduError as error:
        if experiment.eval_data is not None or "no shards of split" not in str(error):
            raise
        raise ClipeduError(
            f"{error}. Give pairs to score on: --eval-data NAME, or put a split 'val' into the data"
        ) from None
    zeroshot = experiment.zeroshot_data or ("scenes" if experiment.data == "scenes" else None)
    if zeroshot is not None:
        sets.append(load_pairs(zeroshot, "zeroshot", **shared))
    return sets


def _finish(run: Run, trainer: Trainer, data: Data, *, progress: bool, report: bool) -> Run:
    data.tokenizer.save(run.folder / "tokenizer")
    trainer.model.text_encoder.config.save_pretrained(run.folder / "text_encoder")
    write_json(run.folder / "data.json", [describe(pairs) for pairs in (data.train, *data.scored)])
    run.save_status("running")
    rows = _rows_until(run, trainer.step)
    bar = tqdm(
        trainer.run(),
        total=trainer.steps,
        initial=trainer.step,
        unit="step",
        disable=not progress,
        desc=f"{run.experiment.loss} + {run.experiment.optimizer}",
    )
    stop = StopAfterStep()
    try:
        for record in stop.watch(bar):
            _append(rows, record)
            bar.set_postfix(loss=f"{record.loss:.3f}", pairs_s=f"{record.pairs_per_second:.0f}", refresh=False)
            if trainer.step % trainer.steps_per_epoch == 0:
                _save(run, trainer, rows)
    except KeyboardInterrupt:
        if stop.step_is_whole:
            _save(run, trainer, rows)
        run.save_status("stopped", f"by the user after step {trainer.step} of {trainer.steps}")
        raise
    except NotFinite as error:
        _frames(run, trainer, rows)
        kept = sorted(run.folder.glob("checkpoint/step-*"))
        note = f"{error}. Last good checkpoint: {kept[-1] if kept else 'none, it failed in its first epoch'}"
        run.seconds = trainer.seconds
        run.save_status("failed", note)
        raise NotFinite(note) from None
    except Exception as error:
        run.save_status("stopped", f"by {type(error).__name__}: {error}".splitlines()[0])
        raise
    finally:
        bar.close()
        trainer.monitor.close()
    if trainer.device.type == "cuda":
        run.environment["gpu_memory_gib"] = round(torch.cuda.max_memory_allocated(trainer.device) / 2**30, 2)
        write_json(run.folder / "environment.json", run.environment)
    score(run, trainer.model, data.scored, progress=progress)
    run.seconds = trainer.seconds
    run.save_status("finished")
    if report:
        from clipedu.report import write_report

        write_report([run], run.folder)
    return run


class StopAfterStep:
    """Ctrl-C lets the step that is under way end, so that what is kept is whole; a second Ctrl-C stops at once.

    Signals reach only the main thread; in another one this does nothing.

    Attributes:
        step_is_whole: False if a second Ctrl-C came: then a step may be half done, and its weights must not be kept.
    """

    asked, step_is_whole = False, True

    def watch(self, records):
        """Pass records on; raise KeyboardInterrupt after the one during which Ctrl-C came."""
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, self._ask) if main else None
        try:
            for record in records:
                yield record
                if self.asked:
                    raise KeyboardInterrupt
        finally:
            if main:
                signal.signal(signal.SIGINT, before)

    def _ask(self, *_) -> None:
        if self.asked:
            self.step_is_whole = False
            raise KeyboardInterrupt
        self.asked = True


def _append(rows: dict[str, Any], record) -> None:
    rows["history"].append(
        {
            "step": record.step,
            "epoch": record.epoch,
            "lr": record.lr,
            "loss": record.loss,
            **{f"loss/{name}": value for name, value in record.terms.items()},
            **record.watch,
            "pairs_per_second": record.pairs_per_second,
            "seconds": record.seconds,
        }
    )
    rows["norms"] += [{"step": record.step, "part": part, **norms} for part, norms in record.norms.items()]


def _rows_until(run: Run, step: int) -> dict[str, Any]:
    """What an earlier part of the run has written, up to the checkpoint's step."""
    frames = {"history": run.history, "norms": run.norms}
    rows = {name: frame[frame["step"] < step].to_dict("records") for name, frame in frames.items()}
    return rows | {"layers": run.layers[run.layers["step"] < step]}  # too many for dicts


def _frames(run: Run, trainer: Trainer, rows: dict[str, Any]) -> None:
    """Write all rows so far; those of layers are what an earlier part of the run wrote, and what the monitor has since.

    Of a step that failed, and so gave no record, the monitor has rows too: they are left out.
    """
    import pandas as pd

    layers = trainer.monitor.frame()
    layers = layers[layers["step"] <= (rows["history"][-1]["step"] if rows["history"] else -1)]
    if len(rows["layers"]):
        layers = pd.concat([rows["layers"], layers], ignore_index=True)
    run.save_frames(pd.DataFrame(rows["history"]), pd.DataFrame(rows["norms"]), layers)


def _save(run: Run, trainer: Trainer, rows: dict[str, Any]) -> None:
    run.seconds = trainer.seconds
    _frames(run, trainer, rows)
    run.save_checkpoint(trainer.step, trainer.model, trainer.state())


def _keep_embeddings(run: Run, model, pairs: Pairs, image, text, owner) -> None:
    """Keep the first pairs, and where there are chains of captions, those of the first rows, for figures of the hierarchy."""
    rows = torch.arange(min(KEPT_EMBEDDINGS, len(pairs)))
    tensors = {"image": image[rows], "text": text[torch.searchsorted(owner, rows)]}
    words = {"captions": [pairs.captions(int(row))[0] for row in rows]}
    if hasattr(pairs, "chain"):
        phrases, chain = chains_of(pairs, range(min(KEPT_CHAINS, len(pairs))))
        tensors |= {"phrase": embed_phrases(model, phrases), "chain": chain}
        words["phrases"] = phrases
    run.save_embeddings(tensors, words)
