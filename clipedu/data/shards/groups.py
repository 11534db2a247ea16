"""Group the members of a tar by key: which files are one sample.

The key is the path up to the first dot of the file's name, as WebDataset has it; what follows is the extension. So a file
with further dots is another field of its sample: `k.mask.png` beside `k.jpg` and `k.txt`. But where the part up to the last
dot is a sample of its own, it is the key: `v1.0.jpg` and `v1.0.txt` are the pair "v1.0".

Files of a key need not be neighbours: all images may come first, then all texts. A second image of a key is a duplicate, or
a sample of its own if it is in another of several tars written after one another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from clipedu.data.shards.tar_members import Member

IMAGES = ("jpg", "jpeg", "png", "webp")
TEXTS = ("txt", "json", "cls")


@dataclass
class Group:
    """The files of one key.

    Attributes:
        key: of the sample.
        archive: the number of its tar, where several were written after one another.
        files: by extension, those that are read.
        others: the extensions of its other files.
        trouble: why it cannot be a sample, or "".
    """

    key: str
    archive: int = 0
    files: dict[str, Member] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    trouble: str = ""

    @property
    def has_image(self) -> bool:
        return not self.files.keys().isdisjoint(IMAGES)

    def joins(self, other: Group) -> bool:
        """Check whether the files of both can be of one sample."""
        return self.files.keys().isdisjoint(other.files) and not (self.has_image and other.has_image)


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name into key and extension at its first dot."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension


def is_hidden(name: str) -> bool:
    """Check whether a file is one of those that systems add, as `._k.jpg`."""
    return name.rpartition("/")[2].startswith(".")


def group_members(members: Iterable[Member], length: int) -> list[Group]:
    """Group the files of a tar by key, in the order of their first files.

    Folders and hidden files are in no group. Duplicates come last.

    Args:
        members: of the tar.
        length: of the tar in bytes; files that end beyond it are cut short.
    """
    groups: list[Group] = []
    repeated: list[Group] = []
    of_key: dict[str, list[Group]] = {}
    for run in _runs(members, length):
        known = of_key.setdefault(run.key, [])
        if (group := next((group for group in known if group.joins(run)), None)) is not None:
            group.files.update(run.files)
            group.others += run.others
            group.trouble = group.trouble or run.trouble
        elif not known or known[-1].archive != run.archive:
            known.append(run)
            groups.append(run)
        else:
            repeated.append(Group(run.key, trouble="duplicate key, only the first sample is kept"))
    return [*_with_fields(groups), *repeated]


def _with_fields(groups: list[Group]) -> list[Group]:
    """Give what is a further field of a sample to it: `k.mask.png` to k."""
    pictures = {(group.key, group.archive): group for group in groups if group.has_image}
    kept = []
    for group in groups:
        owner = pictures.get((split_name(group.key)[0], group.archive))
        if owner is None or owner is group or (group.has_image and not group.files.keys().isdisjoint(("txt", "cls"))):
            kept.append(group)
        else:
            middle = group.key.removeprefix(owner.key)[1:]
            owner.others += [f"{middle}.{extension}" for extension in (*group.files, *group.others)]
    return kept


def _runs(members: Iterable[Member], length: int) -> list[Group]:
    """Collect neighbouring files of a key; a repeated kind begins a new run.

    Keys are here the part up to the last dot.
    """
    runs: list[Group] = []
    for member in members:
        if member.kind == "folder" or is_hidden(member.name):
            continue
        folder, slash, base = member.name.rpartition("/")
        stem, dot, extension = base.rpartition(".") if "." in base else (base, "", "")
        key, extension = folder + slash + stem, extension.lower()
        run = runs[-1] if runs else None
        if run is None or (run.key, run.archive) != (key, member.archive) or extension in run.files:
            runs.append(run := Group(key, member.archive))
        _take(run, extension, member, length)
    return runs


def _take(run: Group, extension: str, member: Member, length: int) -> None:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        run.trouble = "unsafe path"
    elif extension not in IMAGES + TEXTS:
        run.others.append(extension)
    elif member.kind != "file":
        run.trouble = f"a {member.kind}, {'which is not read' if member.kind == 'sparse file' else 'not a file'}"
    else:
        run.files[extension] = member
        if member.offset + member.size > length:
            run.trouble = f".{extension} is cut short, the shard ends too early"
