"""`Run`: a run's folder, from which it is understood, repeated or resumed.

    experiment.json, environment.json   the settings; versions, device, commit
    data.json, train-rows.npy  the sets: rows, identity, and every sample that was left out and why; hashes of trained rows
    paths.json, earlier.json   paths as they were given; what `--epochs` was before a run was continued for more
    status.json, metrics.json  running | stopped | failed | finished, seconds, a note; the scores of a finished run
    history.csv                one row a step: loss, terms, lr, pairs per second
    norms.csv, layers.csv      norms by step and part; what changed each layer's norm, every `norms_every`-th step
    tokenizer/, text_encoder/  as trained or fetched; its configuration (the image encoder's is in experiment.json)
    checkpoint/                the last two: model.safetensors, state.pt (optimizer, loss and random state: tensors and plain
                               values), and checkpoint.json with their SHA-256 and the experiment
    .lock, .lock.json          held by the process that writes here (`clipedu.runs.lock`)
    embeddings.safetensors, captions.json, tokens.safetensors, tokens.json, plots/, report.html, report.md

Files are renamed into place, and the last checkpoint stays until two after it are complete: a killed run can be read.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.config.command_line import experiment_words
from clipedu.config.experiment import Experiment
from clipedu.runs.checkpoint import WEIGHTS, last_checkpoint, read_facts, read_state, read_weights, write_checkpoint
from clipedu.runs.kept import text_config_sum, tokenizer_sum
from clipedu.runs.schema import PATHS as PATHS_SPEC
from clipedu.runs.schema import read_embeddings, read_frame, read_sets
from clipedu.runs.settings import PATH_FIELDS, check_settings
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_write, read_json, write_json, write_text
from clipedu.utils.tensor_files import tensors_misfit

if TYPE_CHECKING:
    import pandas
    import torch
    from torch import Tensor, nn

    from clipedu.geometry import Geometry
    from clipedu.models import DualEncoder

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
    def command(self) -> str:
        """The command line that repeats this run, quoted for a shell.

        Its paths are as they were given.
        """
        given = read_json(self.folder / PATHS, PATHS_SPEC).get("given", {})
        return shlex.join(["clipedu", "train", *experiment_words(self.experiment.changed() | given)])

    def model(self) -> DualEncoder:
        """Load the trained model in evaluation mode, on the CPU.

        It has its tokenizer and geometry.

        Raises:
            ClipeduError: the run has no checkpoint, one that is damaged or does not fit, or settings, a tokenizer or a text
                configuration that are not those it was trained with.
        """
        from clipedu.data.tokenizer import Tokenizer
        from clipedu.models import build_model

        facts = read_facts(self.checkpoint())
        check_settings(self.folder, self.experiment, facts, allowed=(*PATH_FIELDS, "epochs"))
        tokenizer = Tokenizer.load(self.folder / "tokenizer")
        if facts.get("tokenizer") not in (None, tokenizer_sum(tokenizer)):
            raise ClipeduError(
                f"the tokenizer in {self.folder} is not the one it was trained with: it is made again by "
                f"clipedu train --resume {self.folder}"
            )
        if self.saved_text() and facts.get("text_encoder") not in (None, text_config_sum(self.folder)):
            raise ClipeduError(
                f"{self.folder / 'text_encoder' / 'config.json'} is not what the run was trained with: it is made again by "
                f"clipedu train --resume {self.folder}"
            )
        experiment = self.experiment.replace(image_weights="random", text_weights="random")  # the checkpoint has all
        with self._settings():
            model = build_model(
                experiment,
                tokenizer.vocab_size,
                special_tokens=tokenizer.special_tokens,
                saved_text=self.saved_text(),  # with no need of a hub
            )
        model.load_state_dict(self._fitting(model.state_dict()))
        model.tokenizer = tokenizer
        return model.eval()

    def saved_text(self) -> Path | None:
        """Return the folder of the text encoder's configuration.

        None where it is missing or damaged: the configuration is then made again from the experiment.
        """
        folder = self.folder / "text_encoder"
        try:
            return folder if read_json(folder / "config.json") else None
        except ClipeduError:
            return None

    def geometry(self) -> Geometry:
        """Load its geometry, with curvature and scales as they were learned.

        Raises:
            ClipeduError: as `weights`.
        """
        from clipedu.geometry import build_geometry

        ex = self.experiment
        with self._settings():
            geometry = build_geometry(ex.geometry, ex.embedding_dim, **ex.geometry_options)
        if own := geometry.state_dict(prefix="geometry."):
            learned = self._fitting(own, "geometry.")
            geometry.load_state_dict({name.removeprefix("geometry."): value for name, value in learned.items()})
        return geometry.eval()

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Name experiment.json in errors about what it holds."""
        try:
            yield
        except (ClipeduError, TypeError, RuntimeError, MemoryError) as error:
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise ClipeduError(f"{self.folder / 'experiment.json'} cannot be used: {why}") from None

    def _fitting(self, wanted: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
        """Read weights that are to fit `wanted`, or raise a ClipeduError."""
        weights = self.weights(prefix)
        if fault := tensors_misfit(weights, wanted):
            raise ClipeduError(
                f"{self.checkpoint() / WEIGHTS} does not fit its experiment: {fault} by the settings and the tokenizer of the run"
            )
        return weights

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
        return read_embeddings(self.folder, self.experiment.embedding_dim)

    def sets(self) -> list[dict[str, Any]]:
        """Read the description of each set, as data.json holds it.

        Returns:
            "name", "split", "rows", "skipped" (a line for each sample that was left out) and more; [] before training.
        Raises:
            ClipeduError: the file is damaged.
        """
        return read_sets(self.folder)

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

        With it goes what it belongs to: the experiment, and the identities of the model's tokenizer and text configuration.

        Args:
            step, model, state: as those of `clipedu.runs.checkpoint.write_checkpoint`.
        Raises:
            ClipeduError: it cannot be written; the checkpoint before it is still there.
        """
        tokenizer = getattr(model, "tokenizer", None)
        facts = {
            "experiment": asdict(self.experiment),
            "tokenizer": tokenizer_sum(tokenizer) if tokenizer else None,
            "text_encoder": text_config_sum(self.folder),
        }
        write_checkpoint(self.folder, step, model, state, facts)

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
        facts = {"status": status, "note": note, "seconds": round(self.seconds, 2)}
        write_json(self.folder / "status.json", facts if self.scored is None else {**facts, "scored": self.scored})

    def save_metrics(self, metrics: Mapping[str, float]) -> None:
        self.metrics = dict(metrics)
        write_json(self.folder / "metrics.json", self.metrics)

    def _frame(self, name: str) -> pandas.DataFrame:
        if name not in self._frames:
            self._frames[name] = read_frame(self.folder, name)
        return self._frames[name]
