"""trackio and W&B: the same interface, `init`, `log` and `finish`.

Each keeps the runs of a project together. A run has a name of its own (`Opening.name`), so that a resumed one goes on with its log.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.trackers.base import MARKS, PROJECT, Opening

if TYPE_CHECKING:
    from torch import Tensor


class _Session:
    """A run of a library with the interface of W&B."""

    where = ""

    def __init__(self, module: Any, opening: Opening, **options: Any):
        self._module, self._sent = module, opening.sent
        with redirect_stdout(io.StringIO()):  # it greets
            self._run = module.init(
                project=PROJECT,
                name=opening.name,
                group=opening.folder.absolute().parent.name,
                config=opening.settings,
                resume="allow",
                **options,
            )

    def first(self, table: str) -> int:
        """Return the first step of a table that the log does not have."""
        return self._sent.get(table, 0)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Log the numbers of one step."""
        self._run.log(dict(values), step=step)

    def embeddings(self, image: Tensor, text: Tensor, captions: Sequence[str], pixels: Tensor | None) -> None:
        """Show nothing: there is no projector."""

    def figures(self, step: int, paths: Sequence[Path]) -> None:
        """Log PNG files as they are."""
        if paths:
            self.log(step, {f"figures/{path.stem}": self._module.Image(str(path)) for path in paths})

    def flush(self) -> None:
        """Do nothing: a thread or process of the library writes all the time."""

    def close(self, *, well: bool) -> None:
        """Write all and end."""
        with redirect_stdout(io.StringIO()):
            self._module.finish()  # and none is left for its own end


class Trackio(_Session):
    """A run in trackio's database on this machine.

    The database says what it has.

    Args:
        opening: name, settings and folder are taken.
    """

    def __init__(self, opening: Opening):
        import trackio
        from trackio.sqlite_storage import SQLiteStorage
        from trackio.utils import get_storage_mode

        self.where = f'trackio show --project "{PROJECT}"'
        self._name, self._storage = opening.name, SQLiteStorage
        super().__init__(trackio, opening, embed=False, auto_log_cpu=False, auto_log_gpu=False)
        self._local = self._run.url is None and get_storage_mode() == "sqlite"
        self._rows = self._count()

    def first(self, table: str) -> int:
        """Return the first step of a table that the database does not have.

        Where runs are kept elsewhere (TRACKIO_SPACE_ID), it is the first that was not sent.
        """
        if not self._local:
            return super().first(table)
        if not self._storage.get_project_db_path(PROJECT).exists():
            return 0
        of_this = f"run_name = '{self._quoted}' AND CAST(metrics AS TEXT) LIKE '%\"{MARKS[table]}\":%'"
        answer = self._storage.query_project(PROJECT, f"SELECT MAX(step) AS last FROM metrics WHERE {of_this}")
        last = answer["rows"][0]["last"]
        return 0 if last is None else last + 1

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Log the numbers of one step."""
        super().log(step, values)
        self._rows += 1

    def close(self, *, well: bool) -> None:
        """Write all and end.

        Raises:
            RuntimeError: the database has fewer rows than were logged; trackio itself only warns.
        """
        super().close(well=well)
        if self._local and (found := self._count()) < self._rows:
            raise RuntimeError(f"trackio has kept {found} of {self._rows} rows")

    @property
    def _quoted(self) -> str:
        return self._name.replace("'", "''")

    def _count(self) -> int:
        return self._storage.get_log_count(PROJECT, run=self._name)


class WandB(_Session):
    """A run of W&B, kept in the run's folder.

    It does without network unless WANDB_MODE says otherwise.

    Args:
        opening: all of it is taken.
    """

    def __init__(self, opening: Opening):
        import wandb

        self.where = f"wandb sync --append {opening.folder}/wandb/offline-run-*"
        super().__init__(
            wandb,
            opening,
            id=opening.name,
            dir=str(opening.folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, disable_git=True),
        )
