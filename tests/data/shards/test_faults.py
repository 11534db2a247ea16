"""Whatever is in the shards: odd pictures, hostile tars, 1,000 mutated samples, a full disk. On the real path, to the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clipedu.data.prepare import verify_cache
from clipedu.data.shards.dataset import Shards
from tests.helpers.shard_maker import encode, make_shards, photo, sample, write_tar

pytestmark = pytest.mark.usefixtures("cache_home")


# 1,000 mutated samples


def mutate(data, rng):
    """Some bytes flipped, a piece cut out, the end cut off, or a piece put in."""
    how, place = rng.integers(4), int(rng.integers(len(data)))
    if how == 0:
        flipped = bytearray(data)
        for spot in rng.integers(len(data), size=rng.integers(1, 9)):
            flipped[spot] ^= int(rng.integers(1, 256))
        return bytes(flipped)
    if how == 1:
        return data[:place] + data[place + int(rng.integers(1, 600)) :]
    if how == 2:
        return data[:place]
    return data[:place] + rng.bytes(int(rng.integers(1, 600))) + data[place:]


WATCHED = """
import sys
from pathlib import Path
written = set()
def watch(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)) and args[2] & 0o3:
        written.add(str(args[0]))
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "shutil.rmtree", "os.chmod"):
        written.add(str(args[0]))
from clipedu.data.prepare import prepare_cache
sys.addaudithook(watch)
report = prepare_cache(sys.argv[1], image_size=16, workers=1, progress=False)
print(report.rows, *sorted(written), sep="\\n")
"""


def test_a_thousand_mutated_samples(tmp_path, cache_home):
    rng = np.random.default_rng(5)
    folder = make_shards(tmp_path / "toy", 3, per_shard=1)  # the first says that there are captions
    files, mutated = [], []
    for i in range(500):  # 500 images
        data = encode(photo(i, 40, 40), ("jpg", "png", "webp")[i % 3])
        files += sample(f"image{i}", mutate(data, rng), [f"picture {i}"], kind="jpg")
        mutated.append(f"image{i}")
    write_tar(folder / "toy-train-images.tar", files)
    for i in range(250):  # and 250 tars of two samples each
        path = folder / f"toy-train-t{i:03d}.tar"
        write_tar(
            path, sample(f"a{i}", photo(i), [f"picture {i}"]) + sample(f"b{i}", photo(i + 1), ["one", f"and {i}"])
        )
        path.write_bytes(mutate(path.read_bytes(), rng))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    command = [sys.executable, "-c", WATCHED, str(folder)]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | path, cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    rows, *written = done.stdout.splitlines()

    # Nothing outside the cache was touched, and nothing partial is left in it.
    outside = [name for name in written if not name.isdigit() and not Path(name).is_relative_to(cache_home)]  # no pipes
    assert written and not outside, outside
    assert {path: path.read_bytes() for path in before} == before
    (entry,) = cache_home.iterdir()
    assert sorted(path.name for path in entry.iterdir()) == ["pixels.npy", "rows.json"]
    assert set(tmp_path.iterdir()) == {folder, cache_home}

    # Each is counted and named.
    pairs = Shards(folder, image_size=16)
    assert len(pairs) == int(rows) and {"k000", "k001", "k002"} <= set(pairs.keys)
    named = {where for where, _ in pairs.dropped}
    in_first = {key for key in pairs.keys if key.startswith("image")}
    lost = {where.removeprefix("toy-train-images.tar: ") for where in named if "images.tar" in where}
    assert in_first.isdisjoint(lost) and in_first | lost == set(mutated) and 50 < len(lost) < 450
    lines = [f"{where}: {why}" for where, why in pairs.dropped]
    whole = 0
    for i in range(250):
        shard, kept = f"toy-train-t{i:03d}.tar", {f"a{i}", f"b{i}"} & set(pairs.keys)
        assert len(kept) == 2 or any(line.startswith(shard) for line in lines), shard
        whole += len(kept)
    assert 50 < whole < 450 and all("\n" not in line for line in lines)
    assert not verify_cache(folder, image_size=16, images=None, progress=False).problems
