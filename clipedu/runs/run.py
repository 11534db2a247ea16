"""`Run`: a run's folder, from which it is understood, repeated or resumed.

    experiment.json, environment.json   the settings; versions, device, commit
    data.json, train-rows.npy  the sets: rows, identity, and every sample that was left out and why; hashes of trained rows
    paths.json, earlier.json   paths as they were given; what `--epochs` was before a run was continued for more
    blend.json                 of which models it is a blend, where it was not trained (`clipedu.runs.blended`)
    status.json, metrics.json  running | stopped | failed | finished, seconds, a note; the scores of a finished run
    history.csv                one row a step: loss, terms, lr, pairs per second
    norms.csv, layers.csv      norms by step and part; what changed each layer's norm, every `norms_every`-th step
    validation.csv             scores during training, where `evaluate_every` says so: a row a step and set of weights
    tokenizer/, text_encoder/  as trained or fetched; its configuration (the image encoder's is in experiment.json)
    released/                  of a released model that was fine-tuned: its settings and tokenizer, in place of those two
    checkpoint/                the last two and the best: model.safetensors, averaged.safetensors, state.pt (optimizer, loss and
                               random state: tensors and plain values), checkpoint.json (their SHA-256, the experiment)
    probes.csv, calibration.csv, corruptions.csv  of `clipedu evaluate --probe`, `--calibrate` and `--corrupt`
    tensorboard/, wandb/, trackers.json  logs of trackers, where `track` names them, and how far they are
    .lock, .lock.json          held by the process that writes here (`clipedu.runs.lock`)
    embeddings.safetensors, captions.json, tokens.safetensors, tokens.json, plots/, report.html, report.md

Files are renamed into place or grow by whole lines (`clipedu.runs.rows`), and a checkpoint stays until later ones are complete: a
killed run can be read.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.config.command_line import experiment_words
from clipedu.config.experiment import OF_START, Experiment
from clipedu.interop.kept import released_sum
from clipedu.runs.checkpoint import (
    AVERAGED,
    checkpoint_of,
    drop_old,
    last_checkpoint,
    read_state,
    read_weights,
    scorable_checkpoint,
    step_of,
    write_checkpoint,
)
from clipedu.runs.kept import text_config_sum, tokenizer_sum
from clipedu.runs.rebuilding import load_geometry, load_model
from clipedu.runs.rows import append_rows, cut_rows
from clipedu.runs.schema import PATHS as PATHS_SPEC
from clipedu.runs.schema import read_blend, read_embeddings, read_frame, read_sets
from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.files import atomic_write, read_json, write_json

if TYPE_CHECKING:
    import pandas
    import torch
    from torch import Tensor, nn

    from clipedu.geometry import Geometry
    from clipedu.models import DualEncoder

log = logging.getLogger("clipedu")

EARLIER = ("scored_step", "last_step")  # in metrics: where not the last checkpoint was scored, since it is damaged
PATHS = "paths.json"  # see `clipedu.runs.paths`


@dataclass
class Run:
    """One run and its folder.

    Attributes:
        folder: its folder.
        experiment: its settings.
        environment: versions, device and commit it ran with.
        metrics: scores in percent and counts (`clipedu.evaluate`); empty until it is finished.
        history: pandas frame, one row a step.
        norms: tidy pandas frame of norms, one row a step and part (`clipedu.NormMonitor.totals`).
        layers: one row a layer and recorded step (`NormMonitor.frame`); no rows in runs of older versions.
        validation: scores during training, one row a step (how many are done) and set of weights, "model" or "averaged".
        status: "running", "stopped", "failed" or "finished".
        note: why it has this status.
        seconds: of training, without evaluation.
        scored: the step of the checkpoint whose scores these are; None before the trained run was scored.
    """

    folder: Path
    experiment: Experiment
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    status: str = "running"
    note: str = ""
    seconds: float = 0.0
    scored: int | None = None
    _frames: dict[str, Any] = field(default_factory=dict, repr=False)
    _chosen: Path | None = field(default=None, repr=False)  # a checkpoint that is not the last

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def history(self) -> pandas.DataFrame:
        return self._frame("history")

    @property
    def norms(self) -> pandas.DataFrame:
        return self._frame("norms")

    @property
    def layers(self) -> pandas.DataFrame:
        return self._frame("layers")

    @property
    def validation(self) -> pandas.DataFrame:
        return self._frame("validation")

    @property
    def best_step(self) -> int | None:
        """After how many steps the average of the scores was best.

        It is that of the weights themselves, by `validation`; None if there is none.
        """
        return self._best(self.validation)

    def _best(self, rows: pandas.DataFrame) -> int | None:
        rows = rows[(rows["weights"] == "model") & rows["average"].notna()]
        return None if rows.empty else int(rows["step"].loc[rows["average"].idxmax()])

    @property
    def command(self) -> str:
        """The command line that repeats this run, quoted for a shell.

        Its paths are as they were given. Of a blend it is the command that blends.
        """
        if blend := self.blend():
            return blend["command"]
        given = read_json(self.folder / PATHS, PATHS_SPEC).get("given", {})
        changed = self.experiment.changed() | given
        if self.experiment.start is not None:  # which says what the model is
            changed = {name: value for name, value in changed.items() if name not in OF_START}
            changed["image_size"] = self.experiment.image_size  # the model may have another
        return shlex.join(["clipedu", "train", *experiment_words(changed)])

    def model(self, which: str = "last", *, averaged: bool = False, merged: bool = True) -> DualEncoder:
        """Load the trained model in evaluation mode, on the CPU.

        It has its tokenizer and geometry. Adapters (`lora_rank`) are merged into the weights they adapt, so that it is a model like
        any other.

        Args:
            which, averaged: as those of `weights`.
            merged: False leaves adapters beside the weights, as they are trained.
        Raises:
            ClipeduError: the run has no such checkpoint, one that is damaged or does not fit, or settings, a tokenizer, a text
                configuration or a released model's settings that are not those it was trained with.
        """
        return load_model(self, which, averaged=averaged, merged=merged)

    def geometry(self) -> Geometry:
        """Load its geometry, with curvature and scales as they were learned.

        Raises:
            ClipeduError: as `weights`.
        """
        return load_geometry(self)

    def weights(self, prefix: str = "", *, which: str = "last", averaged: bool = False) -> dict[str, Tensor]:
        """Read the model's tensors by name from a checkpoint.

        Args:
            prefix: only those whose name begins with it.
            which: "last", or "best": by the scores during training (`evaluate_every`).
            averaged: with the moving average of what is trained (`ema_decay`) in its place.
        Raises:
            ClipeduError: there is no such checkpoint or average, or it is damaged.
        """
        checkpoint = self.checkpoint(which)
        weights = read_weights(checkpoint, prefix)
        if averaged:
            if not (checkpoint / AVERAGED).exists():
                raise ClipeduError(
                    f"{checkpoint} has no {AVERAGED}: averaged weights are kept by runs that were trained with ema_decay, "
                    f"and this one was with ema_decay={self.experiment.ema_decay}"
                )
            weights |= read_weights(checkpoint, prefix, name=AVERAGED)
        return weights

    def averaged(self) -> dict[str, Tensor] | None:
        """Read the moving average in the last checkpoint, None without one.

        Raises:
            ClipeduError: there is no checkpoint, or it is damaged.
        """
        checkpoint = self.checkpoint()
        return read_weights(checkpoint, name=AVERAGED) if (checkpoint / AVERAGED).exists() else None

    def training_state(self, device: torch.device | str) -> dict[str, Any]:
        """Read what `Trainer.state` returned at the last checkpoint.

        Args:
            device: where its tensors are put.
        Raises:
            ClipeduError: there is no checkpoint, or it is damaged.
        """
        return read_state(self.checkpoint(), device)

    def embeddings(self) -> dict[str, Any] | None:
        """Read embeddings of the first 1,000 pairs of the retrieval set.

        Returns:
            "image" and "text" (its first caption), [N, D] each, as scored, and "captions"; for scenes, "phrase" [P, D]
            and "phrases", captions from generic to specific, and "chain" [R, 6], their numbers for the first rows. None
            before the run is finished.
        Raises:
            ClipeduError: the files are damaged.
        """
        return read_embeddings(self.folder, self.experiment.embedding_dim)

    def sets(self) -> list[dict[str, Any]]:
        """Read the description of each set, as data.json holds it.

        Returns:
            "name", "split", "rows", "skipped" (a line for each sample that was left out) and more; [] before training.
        Raises:
            ClipeduError: the file is damaged.
        """
        return read_sets(self.folder)

    def blend(self) -> dict[str, Any] | None:
        """Read of which models this one is a blend, as blend.json holds it.

        Returns:
            "models", "weights", "statistics" and "command" (`clipedu.runs.schema.read_blend`); None for a run that was trained.
        Raises:
            ClipeduError: the file is damaged.
        """
        return read_blend(self.folder)

    @property
    def has_checkpoint(self) -> bool:
        return last_checkpoint(self.folder) is not None

    def checkpoint(self, which: str = "last") -> Path:
        """Return the folder of a checkpoint.

        Where another one was chosen (`choose_sound_checkpoint`), that is the last.

        Args:
            which: "last", or "best": by the scores during training.
        Raises:
            ClipeduError: there is none, or another word.
        """
        if which not in ("last", "best"):
            raise unknown_name("checkpoint", which, ("last", "best"))
        if which == "best":
            if (best := checkpoint_of(self.folder, self.best_step)) is None:
                raise ClipeduError(
                    f"{self.folder} has no best checkpoint: it is kept where the model is scored during training, with "
                    "evaluate_every=1epoch or another interval"
                )
            return best
        if self._chosen is not None:
            return self._chosen
        if (last := last_checkpoint(self.folder)) is None:
            raise ClipeduError(f"{self.folder} has no checkpoint: the run was stopped before its first one")
        return last

    def choose_sound_checkpoint(self) -> dict[str, float]:
        """Read from now on from the last checkpoint whose weights are sound.

        Where that is not the last one, a log line says which is damaged and how to make it again.

        Returns:
            what metrics are to say of it: "scored_step" and "last_step"; {} where it is the last.
        Raises:
            ClipeduError: there is none, or all are damaged.
        """
        path, why = scorable_checkpoint(self.folder)
        if not why:
            return {}
        steps = step_of(path), step_of(self.checkpoint())
        self._chosen = path
        log.warning(
            "%s. Scoring the checkpoint before it, %s: the scores are those after step %d of %d. To make the last one again: "
            "clipedu train --resume %s", why, path.name, *steps, self.folder,
        )  # fmt: skip
        return dict(zip(EARLIER, steps, strict=True))

    def save_checkpoint(
        self, step: int, model: nn.Module, state: dict[str, Any], averaged: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write a checkpoint into this run's folder.

        With it goes what it belongs to: the experiment, and the identities of tokenizer, text configuration and training pairs.

        Args:
            step, model, state, averaged: as those of `clipedu.runs.checkpoint.write_checkpoint`.
        Raises:
            ClipeduError: it cannot be written; the checkpoint before it is still there.
        """
        tokenizer = getattr(model, "tokenizer", None)
        facts = {
            "experiment": asdict(self.experiment),
            "tokenizer": tokenizer_sum(tokenizer) if tokenizer else None,
            "text_encoder": text_config_sum(self.folder),
        }
        if (released := released_sum(self.folder)) is not None:
            facts["released"] = released
        facts |= {name: state[name] for name in ("data", "identity") if name in state}
        keep = self.experiment.keep_checkpoints
        best = self._best(self.validation[self.validation["step"] < step])  # until the new one is whole
        write_checkpoint(self.folder, step, model, state, facts, averaged=averaged, keep=keep, best=best)
        self.drop_old_checkpoints()

    def drop_old_checkpoints(self) -> None:
        """Drop all checkpoints but the last ones and the best."""
        drop_old(self.folder, self.experiment.keep_checkpoints, self.best_step)

    def save_embeddings(self, tensors: dict[str, Any], words: dict[str, list[str]]) -> None:
        """Write what `embeddings` reads.

        Args:
            tensors: "image" and "text"; for scenes also "phrase" and "chain".
            words: "captions"; for scenes also "phrases".
        """
        from safetensors.torch import save_file

        write_json(self.folder / "captions.json", words)
        with atomic_write(self.folder / "embeddings.safetensors") as partial:
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial)

    def append_rows(self, name: str, frame: pandas.DataFrame) -> None:
        """Append rows to history.csv, norms.csv, layers.csv or validation.csv.

        Args:
            name: of the table.
            frame: rows of later steps than those in it, with the columns of the attribute of this name.
        Raises:
            ClipeduError: they cannot be written; the table stays as it was.
        """
        self._frames.pop(name, None)
        append_rows(self.folder / f"{name}.csv", frame)

    def cut_rows(self, step: int) -> None:
        """Drop the rows of what came after a step, which is done again.

        Args:
            step: number of steps that are done.
        Raises:
            ClipeduError: a table is damaged, or cannot be changed.
        """
        self._frames.clear()
        for name in ("history", "norms", "layers"):
            cut_rows(self.folder / f"{name}.csv", step)
        cut_rows(self.folder / "validation.csv", step + 1)  # its steps are counts of those done

    def save_status(self, status: str, note: str = "") -> None:
        self.status, self.note = status, note
        facts = {"status": status, "note": note, "seconds": round(self.seconds, 2)}
        write_json(self.folder / "status.json", facts if self.scored is None else {**facts, "scored": self.scored})

    def save_metrics(self, metrics: Mapping[str, float]) -> None:
        self.metrics = dict(metrics)
        write_json(self.folder / "metrics.json", self.metrics)

    def _frame(self, name: str) -> pandas.DataFrame:
        if name not in self._frames:
            self._frames[name] = read_frame(self.folder, name)
        return self._frames[name]
