"""TensorBoard: event files in the run's folder.

They are written with PyTorch's own parts. All numbers of a step are one event, which is what makes it quick. A log that goes on is a new event file that begins with a mark:
readers drop what older files have from that step on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import FileWriter, SummaryWriter
from torch.utils.tensorboard.summary import hparams, text

from clipedu.trackers.base import MARKS, Opening

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "tensorboard"
LARGEST_SPRITE = 64  # pixels of an image in the projector
SCORES = (MARKS["final"], "final/tr@1", "final/ir@1", "final/top1")  # columns of the table of settings


class TensorBoard:
    """A log in RUN/tensorboard.

    Args:
        opening: its `step` and `sent` say from where on the log is written anew.
    """

    def __init__(self, opening: Opening):
        self._folder = opening.folder / FOLDER
        self.where = f"tensorboard --logdir {opening.folder.parent}"
        self._first = min(opening.sent.get("history", 0), opening.step)
        older = list(self._folder.glob("events.out.tfevents.*"))
        _wait_for_a_later_name(older)
        self._writer = FileWriter(str(self._folder), max_queue=1000)
        if older:
            self._writer.add_event(Event(file_version="brain.Event:2"), self._first)
            self._writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), self._first)
        self._writer.add_summary(text("settings", _table(opening.settings)), self._first)
        start, began, self._ended = hparams(_plain(opening.settings), dict.fromkeys(SCORES, 0.0))
        if self._first == 0:
            self._writer.add_summary(start)
            self._writer.add_summary(began)

    def first(self, table: str) -> int:
        """Return the first step of a table that the log does not have."""
        return self._first

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers of one step, as float32."""
        values_ = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._writer.add_summary(Summary(value=values_), step)

    def embeddings(self, image: Tensor, text: Tensor, captions: Sequence[str], pixels: Tensor | None) -> None:
        """Write images and captions into one projector.

        Each point has its kind, row and caption.

        Args:
            image, text: embeddings [N, D].
            captions: one a row.
            pixels: uint8 [N, 3, H, W], shown in place of points; None shows points.
        """
        import torch

        path = self._folder / "embeddings"
        shutil.rmtree(path, ignore_errors=True)
        words = [" ".join(caption.split()) for caption in captions]
        rows = [[kind, str(row), words[row]] for kind in ("image", "caption") for row in range(len(words))]
        sprites = None
        if pixels is not None:
            sprites = pixels.float() / 255
            if max(pixels.shape[-2:]) > LARGEST_SPRITE:
                sprites = torch.nn.functional.interpolate(sprites, LARGEST_SPRITE, mode="area")
            sprites = torch.cat([sprites, sprites])
        with SummaryWriter(str(path)) as writer:
            writer.add_embedding(
                torch.cat([image, text]),
                metadata=rows,
                metadata_header=["kind", "row", "caption"],
                label_img=sprites,
                tag="pairs",
            )

    def figures(self, step: int, paths: Sequence[Path]) -> None:
        """Log PNG files as they are."""
        for path in paths:
            with Image.open(path) as picture:
                width, height = picture.size
            encoded = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
            self._writer.add_summary(Summary(value=[Summary.Value(tag=f"figures/{path.stem}", image=encoded)]), step)

    def flush(self) -> None:
        """Write what was logged so far."""
        self._writer.flush()

    def close(self, *, well: bool) -> None:
        """Write all and close the file; a finished run is marked as such."""
        if well:
            self._writer.add_summary(self._ended)
        self._writer.flush()  # it raises what the writing thread has met with; close does not
        self._writer.close()


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the table of hyperparameters takes them: numbers, words, true and false."""
    return {
        name: value if isinstance(value, (bool, int, float, str)) else "none" if value is None else json.dumps(value)
        for name, value in settings.items()
    }


def _table(settings: Mapping[str, Any]) -> str:
    rows = "".join(f"\n| {name} | `{value}` |" for name, value in _plain(settings).items())
    return f"| setting | value |\n|---|---|{rows}"


def _wait_for_a_later_name(older: Sequence[Path]) -> None:
    """Wait until a new event file comes after all others: readers sort them by name, and that begins with the second."""
    seconds = [int(part) for path in older if (part := path.name.split(".")[3]).isdigit()]
    for _ in range(30):  # a clock that goes wrong is not waited for
        if int(time.time()) > max(seconds, default=0):
            return
        time.sleep(0.05)
