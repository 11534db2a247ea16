"""Tell which samples of a shard other programs read otherwise.

webdataset (1.0.2) and datasets (5.2) read a tar as a stream: up to its first end mark; neighbours with the same path up to the
first dot are one sample. So they miss or split what `clipedu.data.shards.groups` can join.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from clipedu.data.shards.groups import Group, group_members, split_name
from clipedu.data.shards.left_out import one_line
from clipedu.data.shards.tar_members import Member, list_members

PEERS = ("webdataset", "datasets")
FIRST = 5  # samples from which datasets learns the fields; it refuses the set if they differ

BEHIND = "behind the first end mark of their tar, as if two were written after one another", "would stop there"
DOTS = "with a dot in the key", "would take the key only to the first dot"
APART = "whose files are not side by side in the tar", "would read each part as a sample of its own"
OTHER = "with files that the first sample has not", "would read them without these"
REPEATED = "in a tar that repeats a file of a sample", "would end there with an error"


def peer_troubles(shards: dict[str, Path]) -> list[str]:
    """Say in a line each what other readers cannot read of a set.

    Args:
        shards: name to path, in order. Of a damaged one what can be read is considered.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    examples: dict[tuple[str, str, str], str] = {}
    refused = ""
    learned: set[str] | None = None
    total = 0
    for name, path in shards.items():
        try:
            with path.open("rb") as file:
                members = list_members(file)
        except OSError:
            continue
        if learned is None:
            first = _first_fields(members.found)
            learned, refused = first[0] if first else None, _refusal(name, first)
        ours = [group for group in group_members(members.found, members.length) if _is_pair(group)]
        total += len(ours)
        otherwise = list(_read_otherwise(members.found, ours))
        if learned is not None and not refused:
            told = {id(group) for group, *_ in otherwise}
            others = [group for group in ours if id(group) not in told and not _fields(group) <= learned]
            otherwise += [(group, ["datasets"], OTHER) for group in others]
        for group, peers, (what, they) in otherwise:
            reason = (what, " and ".join(peers), they)
            counts[reason] += 1
            examples.setdefault(reason, one_line(f"{name}: {group.key}"))
    lines = [
        f"{count} of {total} samples {what}, e.g. {examples[what, peers, they]}: {peers} {they}"
        for (what, peers, they), count in counts.most_common()
    ]
    return lines + [refused] * bool(refused)


def _is_pair(group: Group) -> bool:
    return not group.trouble and group.has_image and len(group.files) > 1


def _fields(group: Group) -> set[str]:
    """Return the extensions of the files that are read, as they are written."""
    return {split_name(member.name)[1] for member in group.files.values()}


def _read_otherwise(members: list[Member], ours: list[Group]) -> Iterator[tuple[Group, list[str], tuple[str, str]]]:
    """Yield the samples that peers read otherwise, which peers, and why."""
    theirs: dict[str, dict[str, list[set[str]]]] = {peer: {} for peer in PEERS}
    for peer in PEERS:
        for key, fields in samples_of(peer, members):
            theirs[peer].setdefault(key, []).append({field.lower() for field in fields})
    for group in ours:
        if any(file.archive for file in group.files.values()):
            yield group, list(theirs), BEHIND
            continue
        parts = {peer: samples.get(group.key, []) for peer, samples in theirs.items()}
        peers = [peer for peer in PEERS if not any(part >= group.files.keys() for part in parts[peer])]
        if peers:
            dots = "." in group.key.rpartition("/")[2]
            yield group, peers, DOTS if dots else APART if all(parts[peer] for peer in peers) else REPEATED


def samples_of(peer: str, members: Iterable[Member]) -> Iterator[tuple[str, list[str]]]:
    """Yield key and fields of each sample as a peer reads them.

    It ends where the peer ends with an error.

    Args:
        peer: one of `PEERS`.
        members: of a tar, in order.
    """
    key: str | None = None
    fields: list[str] = []
    for member in members:
        if member.archive or member.kind != "file" or _is_skipped(peer, member.name):
            continue
        match = re.fullmatch(r"((?:.*/)?[^.]+)\.([^/]*)", member.name)
        if match is None:
            continue
        field = match[2].lower() if peer == "webdataset" else match[2]
        if match[1] != key:
            if key is not None:
                yield key, fields
            key, fields = match[1], []
        if field in fields:
            return
        fields.append(field)
    if key is not None:
        yield key, fields


def _is_skipped(peer: str, name: str) -> bool:
    if peer == "webdataset":
        return re.match("__[^/]*__($|/)", name) is not None
    return name.rpartition("/")[2].startswith((".", "__"))


def _first_fields(members: list[Member]) -> list[set[str]]:
    """Return the fields of the samples from which datasets learns the columns."""
    samples = zip(samples_of("datasets", members), range(FIRST), strict=False)
    return [set(fields) for (_, fields), _ in samples]


def _refusal(shard: str, first: list[set[str]]) -> str:
    """Say whether datasets refuses a set whose first samples have these fields."""
    other = next((fields for fields in first if fields != first[0]), None)
    if other is None:
        return ""
    one, two = (" ".join(f".{field[:30]}" for field in sorted(fields)[:5]) for fields in (first[0], other))
    return one_line(f"the first samples of {shard} have other files, {one} and {two}: datasets refuses the set")
