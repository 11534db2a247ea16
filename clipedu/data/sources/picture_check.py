"""Decode every picture of a set once, to see which fail or are odd."""

from __future__ import annotations

from dataclasses import dataclass, field

from clipedu.data.letterboxes import has_letterbox, is_plain
from clipedu.data.shards.decoding import decoded, how_many, parts, spread
from clipedu.data.shards.tar_reader import Sample
from clipedu.utils.errors import ClipeduError

SIZE = 128  # pixels: a file that decodes at one size decodes at each


@dataclass
class Pictures:
    """The result of `check_pictures`, by place in the list of samples.

    Attributes:
        failed: those that do not decode, and why.
        letterboxes: those with plain borders on two sides.
        plain: those that show one colour and nothing else.
    """

    failed: dict[int, str] = field(default_factory=dict)
    letterboxes: list[int] = field(default_factory=list)
    plain: list[int] = field(default_factory=list)


def check_pictures(samples: list[Sample], name: str, workers: int | None = None, progress: bool = True) -> Pictures:
    """Decode pictures as training does, in several processes.

    Args:
        samples: where the images are.
        name: of the split, for the bar.
        workers: processes; None takes all cores where that is faster.
        progress: show a bar.
    Raises:
        ClipeduError: `workers` is below 1, or a process was killed.
    """
    from tqdm.auto import tqdm

    if workers is not None and workers < 1:
        raise ClipeduError(f"workers={workers} cannot be used: give at least 1, or None for all cores")
    found = Pictures()
    jobs = list(parts(samples))
    results = spread(_check_part, jobs, how_many(workers, len(samples)))
    with tqdm(desc=f"decoding {name}", total=len(samples), unit="img", disable=not progress, delay=2) as bar:
        for (_, part), one in zip(jobs, results, strict=True):
            found.failed |= one.failed
            found.letterboxes += one.letterboxes
            found.plain += one.plain
            bar.update(len(part))
    return found


def _check_part(start: int, samples: list[Sample]) -> Pictures:
    found = Pictures()
    for place, picture in enumerate(decoded(samples, SIZE, "squash"), start):
        if isinstance(picture, str):
            found.failed[place] = picture
        elif is_plain(picture):
            found.plain.append(place)
        elif has_letterbox(picture):
            found.letterboxes.append(place)
    return found
