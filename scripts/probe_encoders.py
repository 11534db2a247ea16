"""Probe vision transformers about scenes: extra tokens x position encodings x seeds, one table.

    python scripts/probe_encoders.py                                            # all 26 variants of `clipedu compare vit`, 3 seeds
    python scripts/probe_encoders.py --variants registers+none fractal+none --seeds 0 --steps 300

The questions and the training are described in `clipedu.studies.probing`. Answers are kept in a file, one line each: the
same command continues with what is missing. The table gives mean and Student's 95 % interval over the seeds; differences are paired.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from tqdm import tqdm

from clipedu.models.image_encoders import build_image_encoder
from clipedu.studies.probing import QUESTIONS, ask
from clipedu.studies.runner import COMPARISONS
from clipedu.studies.vit import PEERS
from clipedu.utils.device import pick_device
from clipedu.utils.markdown import markdown_table
from clipedu.utils.statistics import interval

VARIANTS = COMPARISONS["vit"].variants
ENCODER = COMPARISONS["vit"].shared["image_encoder"]


def answer(variant: str, seed: int, steps: int, device: str) -> dict:
    """One variant probed with one seed: its scores, with what they belong to."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        encoder = build_image_encoder(ENCODER, **VARIANTS[variant]["image_options"])
    scores = ask(encoder, seed=seed, steps=steps, device=device)
    return {"variant": variant, "seed": seed, "steps": steps, "scores": scores}


def earlier(path: Path, steps: int) -> dict[tuple[str, int], dict[str, float]]:
    """(variant, seed) -> scores, of what the file holds for this many steps."""
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines]
    return {(row["variant"], row["seed"]): row["scores"] for row in rows if row["steps"] == steps}


def table(found: dict[tuple[str, int], dict[str, float]]) -> str:
    """Markdown: a row a variant, "mean ± half-width" a cell; then fractal minus its peers, paired by seed."""

    def cell(values: list[float], sign: str = "") -> str:
        mean, half = interval(values)
        return f"{mean:{sign}.1f}" + ("" if half != half else f" ± {half:.1f}")

    names = list(dict.fromkeys(variant for variant, _ in found))
    seeds = sorted({seed for _, seed in found})
    rows, differences = [], []
    for name in names:
        own = [found[name, seed] for seed in seeds if (name, seed) in found]
        rows.append([name, *(cell([scores[q] for scores in own]) for q in QUESTIONS)])
    for positions in dict.fromkeys(name.split("+")[1] for name in names):
        for peer in PEERS:
            ours, theirs = f"fractal+{positions}", f"{peer}+{positions}"
            both = [seed for seed in seeds if (ours, seed) in found and (theirs, seed) in found]
            if both:
                apart = {q: [found[ours, seed][q] - found[theirs, seed][q] for seed in both] for q in QUESTIONS}
                differences.append([theirs, *(cell(apart[q], "+") for q in QUESTIONS)])
    tables = (markdown_table(["variant", *QUESTIONS], rows), markdown_table(["fractal minus", *QUESTIONS], differences))
    return "\n\n".join(tables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--file", type=Path, default=Path("runs/vit-questions.jsonl"))
    args = parser.parse_args()
    found, device = earlier(args.file, args.steps), pick_device(args.device)
    args.file.parent.mkdir(parents=True, exist_ok=True)
    wanted = [(variant, seed) for variant in args.variants for seed in args.seeds]
    with args.file.open("a") as file:
        for variant, seed in tqdm([one for one in wanted if one not in found], desc="models"):
            row = answer(variant, seed, args.steps, device)
            print(json.dumps(row), file=file, flush=True)
            found[variant, seed] = row["scores"]
    print(table({one: found[one] for one in wanted}))


if __name__ == "__main__":
    main()
