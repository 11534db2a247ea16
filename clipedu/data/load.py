"""`load_pairs`: open any data set, by name or by folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from clipedu.data.sources.fetching import check_finished
from clipedu.data.sources.manifests import data_home, manifest_names, refuse_files
from clipedu.utils.errors import ClipeduError, unknown_name

if TYPE_CHECKING:
    from clipedu.data.pairs import Pairs


def load_pairs(
    name_or_folder: str | os.PathLike,
    split: str = "train",
    *,
    image_size: int = 32,
    size: int | None = None,
    seed: int = 0,
    resize: str = "crop",
) -> Pairs:
    """Open a data set.

    Args:
        name_or_folder: "scenes" (drawn, needs no download), a folder of .tar shards, or the name of such a folder in the
            folder that the environment variable `CLIPEDU_DATA` names (~/.cache/clipedu/data where it is not set).
        split: "train", "val" or "zeroshot".
        image_size: height and width of the images, in pixels.
        size: how many pairs; None takes all of a folder, and a split's usual number of scenes.
        seed: which scenes are drawn; shards are the same for every seed.
        resize: how shards' images become square, "crop" or "squash" (see `clipedu.data.shards.images`).
    Raises:
        ClipeduError: an unknown name, split or resize, a set that was not fetched or not to the end, or one that cannot be
            used as given.
    """
    if name_or_folder == "scenes":
        from clipedu.data.scenes.dataset import Scenes

        return Scenes(split, size, image_size, seed)

    from clipedu.data.shards.dataset import Shards

    return Shards(find_folder(name_or_folder), split, image_size=image_size, size=size, resize=resize)


def available() -> list[str]:
    """Return the names that `load_pairs` takes here.

    They are "scenes" and the folders with shards in the folder of data sets.
    """
    from clipedu.data.shards.samples import shard_paths

    home = data_home()
    folders = sorted(home.iterdir()) if home.is_dir() else []
    return ["scenes", *(folder.name for folder in folders if shard_paths(folder))]


def find_folder(name_or_folder: str | os.PathLike) -> Path:
    """Return the folder of a data set, given by name or as a folder.

    Raises:
        ClipeduError: there is none, or only a part of it.
    """
    from clipedu.data.shards.samples import shard_paths

    given, home = Path(name_or_folder).expanduser(), data_home()
    named = str(name_or_folder) == given.name
    named_so = (given, home / given.name) if named else (given,)
    # of two folders by that name the one with shards: the pictures that `data manifest` packed may be in this folder
    if places := [place for place in named_so if place.is_dir()]:
        folder = next(filter(shard_paths, places), places[0])
        check_finished(folder)
        return folder
    refuse_files(named_so)
    if named and given.name in manifest_names():
        raise ClipeduError(f"{given.name} is not in {home}: fetch it with: clipedu data fetch {given.name}")
    where = f"CLIPEDU_DATA is {home}" if os.environ.get("CLIPEDU_DATA") else f"CLIPEDU_DATA is not set, so {home}"
    raise ClipeduError(
        f"{unknown_name('data set', str(name_or_folder), available())}, or a folder of .tar shards ({where})"
    )
