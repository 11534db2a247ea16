"""Measure 100,000 pairs: scenes as JPEG shards, fetched, cached, and one epoch of them, against a tenth of that.

    python scripts/benchmark_100k_pairs.py            # 10,000 and 100,000 pairs of 64 px
    python scripts/benchmark_100k_pairs.py --pairs 1000 10000 --workers 8

Each phase runs in a process of its own, so that its peak memory is its own: "memory" is the largest process of the phase,
its workers included. CPU seconds are those of all its processes, imports included: they say more than the clock where others
use the machine too. The folder is temporary and takes about 2 GB for 100,000 pairs of 64 px. They are fetched
from the tests' stand-in for the hub, which runs in a process of its own on loopback: that tests the code, not a network.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PER_SHARD, BATCH = 5000, 128
REPOSITORY, REVISION = "clipedu/scenes-jpeg", "0123456789abcdef0123456789abcdef01234567"


def write(folder: Path, pairs: int, size: int, workers: int) -> Path:
    """Shards of drawn scenes: KEY.jpg and KEY.json with five captions."""
    import torch
    from PIL import Image

    from clipedu.data.scenes.dataset import Scenes

    scenes, shards = Scenes("train", pairs, size), folder / "hub" / "datasets" / REPOSITORY
    shards.mkdir(parents=True)
    for start in range(0, pairs, PER_SHARD):
        rows = range(start, min(start + PER_SHARD, pairs))
        with tarfile.open(
            shards / f"scenes-train-{start // PER_SHARD:04d}.tar", "w", format=tarfile.USTAR_FORMAT
        ) as tar:
            for row, picture in zip(rows, scenes.pixels(torch.tensor(rows)), strict=True):
                buffer = io.BytesIO()
                Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "jpeg", quality=90)
                captions = json.dumps({"captions": scenes.captions(row)}).encode()
                for kind, content in (("jpg", buffer.getvalue()), ("json", captions)):
                    header = tarfile.TarInfo(f"{row:08d}.{kind}")
                    header.size = len(content)
                    tar.addfile(header, io.BytesIO(content))
    return shards


def fetch(folder: Path, pairs: int, size: int, workers: int) -> Path:
    """All shards from a hub on loopback, checked against its sha256, and once more: a finished set is not requested again."""
    from clipedu.data.sources.fetching import fetch

    manifest = folder / "scenes-jpeg.toml"
    files = ", ".join(f'"{path.name}"' for path in sorted((folder / "hub" / "datasets" / REPOSITORY).iterdir()))
    manifest.write_text(
        f'name = "scenes-jpeg"\nabout = "drawn scenes as JPEG"\n[source]\nhub = "{REPOSITORY}"\nrevision = "{REVISION}"\n'
        f'[licence]\nname = "MIT"\n[splits.train]\nfiles = [{files}]\npairs = {pairs}\n'
    )
    got = fetch(manifest, folder=folder / "scenes-jpeg", progress=False)
    again = fetch(manifest, folder=folder / "scenes-jpeg", progress=False)
    assert got.transferred == got.bytes > 0 and again.transferred == 0, (got, again)
    return got.folder


def cache(folder: Path, pairs: int, size: int, workers: int) -> Path:
    """Every image decoded once."""
    from clipedu.data.prepare import prepare_cache

    report = prepare_cache(folder / "scenes-jpeg", image_size=size, workers=workers, progress=False)
    assert report.rows == pairs and not report.dropped, report
    return report.folder


def verify(folder: Path, pairs: int, size: int, workers: int) -> None:
    """The shards read again, and 1,000 images compared."""
    from clipedu.data.prepare import verify_cache

    check = verify_cache(folder / "scenes-jpeg", image_size=size, workers=workers, progress=False)
    assert check.rows == pairs and not check.problems, check


def tokens(folder: Path, pairs: int, size: int, workers: int) -> None:
    """A tokenizer trained on the captions, and all captions encoded by it."""
    from clipedu.data.shards.dataset import Shards
    from clipedu.data.tokenizer import train_tokenizer

    opened = Shards(folder / "scenes-jpeg", image_size=size, progress=False)
    tokenizer = train_tokenizer((text for row in range(pairs) for text in opened.captions(row)), 32)
    tokenizer.save(folder / "tokenizer")
    opened.tokenize(tokenizer)


def epoch(folder: Path, pairs: int, size: int, workers: int) -> None:
    """Opened again, with the tokens of last time, and every batch of one epoch gathered."""
    from clipedu.data.batches import batches
    from clipedu.data.shards.dataset import Shards
    from clipedu.data.tokenizer import Tokenizer

    opened = Shards(folder / "scenes-jpeg", image_size=size, progress=False)
    opened.tokenize(Tokenizer.load(folder / "tokenizer"))
    total = sum(len(batch.index) for batch in batches(opened, batch_size=BATCH, seed=0, epoch=0))
    assert total == pairs // BATCH * BATCH


PHASES = (write, fetch, cache, verify, tokens, epoch)


def serve(root: str) -> None:
    """The stand-in hub, until this process is ended; its address is the first line."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.helpers.hub_server import serve_hub

    with serve_hub(Path(root)) as (endpoint, _):
        print(endpoint, flush=True)
        time.sleep(1e9)


def run_phase(name: str, *facts: str) -> None:
    """What a process of one phase does: the phase, and a line about it."""
    folder, pairs, size, workers = Path(facts[0]), *map(int, facts[1:])
    start = time.perf_counter()
    made = globals()[name](folder, pairs, size, workers)
    seconds = time.perf_counter() - start
    if workers > 1:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown()  # so that its memory is counted
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = max(process.ru_maxrss for process in used)
    cpu = sum(process.ru_utime + process.ru_stime for process in used)
    disk = sum(path.stat().st_blocks * 512 for path in made.iterdir()) if made else 0
    print(json.dumps({"seconds": seconds, "cpu": cpu, "memory": peak * 1024, "disk": disk}))


@contextmanager
def hub(root: str) -> Iterator[str]:
    """The stand-in hub in a process of its own; yields its address."""
    server = subprocess.Popen([sys.executable, __file__, "--serve", root], stdout=subprocess.PIPE, text=True)
    try:
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--phase", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve)
    if args.phase:
        return run_phase(*args.phase)
    print("| pairs | phase | seconds | CPU seconds | pairs per CPU second | peak memory, MB | disk, MB |")
    print("|---|---|---|---|---|---|---|")
    for pairs in args.pairs:
        with tempfile.TemporaryDirectory() as folder, hub(f"{folder}/hub") as endpoint:
            for phase in PHASES:
                facts = [phase.__name__, folder, str(pairs), str(args.image_size), str(args.workers)]
                place = {"CLIPEDU_CACHE": f"{folder}/cache", "HF_HOME": f"{folder}/hf", "HF_ENDPOINT": endpoint}
                offline = {"HF_HUB_OFFLINE": "0" if phase is fetch else "1"}
                done = subprocess.run(
                    [sys.executable, __file__, "--phase", *facts],
                    env=os.environ | place | offline,
                    stdout=subprocess.PIPE,
                    check=True,
                )
                found = json.loads(done.stdout)
                rate, memory, disk = pairs / found["cpu"], found["memory"] / 1e6, found["disk"] / 1e6
                cells = f"{found['seconds']:.1f} | {found['cpu']:.1f} | {rate:,.0f} | {memory:,.0f} | {disk:,.0f}"
                print(f"| {pairs:,} | {phase.__name__} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
