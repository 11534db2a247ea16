"""`Run`: a run's folder, from which it is understood, repeated or resumed.

    experiment.json, environment.json   the settings; versions, device, commit
    data.json, train-rows.npy  the sets: rows, identity, and every sample that was left out and why; hashes of trained rows
    status.json, metrics.json  running | stopped | failed | finished, seconds, a note; the scores of a finished run
    history.csv                one row a step: loss, terms, lr, pairs per second
    norms.csv, layers.csv      norms by step and part; what changed each layer's norm, every `norms_every`-th step
    tokenizer/, text_encoder/  as trained or fetched; its configuration (the image encoder's is in experiment.json)
    checkpoint/                model.safetensors and state.pt (optimizer, loss and random state: tensors and plain values)
    embeddings.safetensors, captions.json, tokens.safetensors, tokens.json, plots/, report.html, report.md

Files are renamed into place, and a checkpoint is deleted after the next one is complete: a killed run can be read.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.config.command_line import experiment_words
from clipedu.config.experiment import Experiment
from clipedu.runs.checkpoint import last_checkpoint, read_state, read_weights, write_checkpoint
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_write, write_json, write_text

if TYPE_CHECKING:
    import pandas
    import torch
    from torch import Tensor, nn

    from clipedu.geometry import Geometry
    from clipedu.models import DualEncoder


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
        status: "running", "stopped", "failed" or "finished".
        note: why it has this status.
        seconds: of training, without evaluation.
    """

    folder: Path
    experiment: Experiment
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    status: str = "running"
    note: str = ""
    seconds: float = 0.0
    _frames: dict[str, Any] = field(default_factory=dict, repr=False)

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
        from clipedu.norms import COLUMNS

        return self._frame("layers", COLUMNS)

    @property
    def command(self) -> str:
        """The command line that repeats this run, quoted for a shell."""
        return shlex.join(["clipedu", "train", *experiment_words(self.experiment.changed())])

    def model(self) -> DualEncoder:
        """Load the trained model in evaluation mode, on the CPU.

        It has its tokenizer and geometry.

        Raises:
            ClipeduError: the run has no checkpoint, or one that is damaged or does not fit.
        """
        from clipedu.data.tokenizer import Tokenizer
        from clipedu.models import build_model

        tokenizer = Tokenizer.load(self.folder / "tokenizer")
        experiment = self.experiment.replace(image_weights="random", text_weights="random")  # the checkpoint has all
        model = build_model(
            experiment,
            tokenizer.vocab_size,
            special_tokens=tokenizer.special_tokens,
            saved_text=self.saved_text(),  # with no need of a hub
        )
        try:
            model.load_state_dict(self.weights())
        except RuntimeError as error:
            raise ClipeduError(
                f"the checkpoint of {self.folder} does not fit its experiment: {str(error)[:300]}"
            ) from None
        model.tokenizer = tokenizer
        return model.eval()

    def saved_text(self) -> Path | None:
        """Return the folder of the text encoder's configuration.

        None where it is missing or damaged: the configuration is then made again from the experiment.
        """
        folder = self.folder / "text_encoder"
        try:
            json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return folder

    def geometry(self) -> Geometry:
        """Load its geometry, with curvature and scales as they were learned.

        Raises:
            ClipeduError: as `weights`.
        """
        from clipedu.geometry import build_geometry

        ex = self.experiment
        geometry = build_geometry(ex.geometry, ex.embedding_dim, **ex.geometry_options)
        if geometry.state_dict():
            learned = self.weights("geometry.")
            geometry.load_state_dict({name.removeprefix("geometry."): value for name, value in learned.items()})
        return geometry.eval()

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """Read the model's tensors by name from the last checkpoint.

        Args:
            prefix: only those whose name begins with it.
        Raises:
            ClipeduError: there is no checkpoint, or it is damaged.
        """
        return read_weights(self.checkpoint(), prefix)

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
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / "embeddings.safetensors"
        if not path.is_file():
            return None
        try:
            words = json.loads((self.folder / "captions.json").read_text(encoding="utf-8"))
            return {**load_file(path), **(words if isinstance(words, dict) else {"captions": words})}
        except (OSError, ValueError, SafetensorError) as error:
            raise ClipeduError(
                f"the embeddings in {self.folder} cannot be read: {error}. Score the run again"
            ) from None

    @property
    def has_checkpoint(self) -> bool:
        return last_checkpoint(self.folder) is not None

    def checkpoint(self) -> Path:
        """Return the folder of the last checkpoint.

        Raises:
            ClipeduError: there is none.
        """
        if (last := last_checkpoint(self.folder)) is None:
            raise ClipeduError(f"{self.folder} has no checkpoint: the run was stopped before its first one")
        return last

    def save_checkpoint(self, step: int, model: nn.Module, state: dict[str, Any]) -> None:
        """Write a checkpoint into this run's folder.

        Args:
            step, model, state: as those of `clipedu.runs.checkpoint.write_checkpoint`.
        Raises:
            ClipeduError: it cannot be written; the checkpoint before it is still there.
        """
        write_checkpoint(self.folder, step, model, state)

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

    def save_frames(self, history: pandas.DataFrame, norms: pandas.DataFrame, layers: pandas.DataFrame) -> None:
        """Write history.csv, norms.csv and layers.csv.

        Args:
            history, norms, layers: all rows so far, with the columns of the attributes of these names.
        Raises:
            ClipeduError: they cannot be written.
        """
        self._frames = {"history": history, "norms": norms, "layers": layers}
        for name, frame in self._frames.items():
            write_text(self.folder / f"{name}.csv", frame.to_csv(index=False, float_format="%.7g"))

    def save_status(self, status: str, note: str = "") -> None:
        self.status, self.note = status, note
        write_json(self.folder / "status.json", {"status": status, "note": note, "seconds": round(self.seconds, 2)})

    def save_metrics(self, metrics: Mapping[str, float]) -> None:
        self.metrics = dict(metrics)
        write_json(self.folder / "metrics.json", self.metrics)

    def _frame(self, name: str, columns: Sequence[str] = ("step",)) -> pandas.DataFrame:
        if name not in self._frames:
            import pandas as pd

            try:
                self._frames[name] = pd.read_csv(self.folder / f"{name}.csv")
            except (FileNotFoundError, pd.errors.EmptyDataError):  # nothing measured yet, or nothing before it failed
                self._frames[name] = pd.DataFrame(columns=columns, dtype=float)
            except (OSError, ValueError) as error:
                raise ClipeduError(f"{self.folder / f'{name}.csv'} cannot be read: {error}") from None
        return self._frames[name]
