#!/usr/bin/env bash
# datasets 5.2.0: whether a WebDataset tar can be read depends on the order of its samples.
#
# Expected: a tar of ten good pairs, some pictures .jpg and some .png, is read, or refused, in any order.
# Seen:     it is refused ("don't share the same prefix or the same types") if the first five samples differ in their files. With
#           the .png after the fifth it is read, and these pictures are dropped without a word: the column png is not there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==5.2.0 pillow==13.0.0
HF_HOME="$folder" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import io
import sys
import tarfile

import datasets
from PIL import Image

datasets.disable_progress_bars()
datasets.logging.set_verbosity(50)


def read(name: str, kinds: list[str]) -> str:
    path = f"{sys.argv[1]}/{name}.tar"
    with tarfile.open(path, "w") as tar:
        for number, kind in enumerate(kinds):
            picture = io.BytesIO()
            Image.new("RGB", (8, 8)).save(picture, {"jpg": "jpeg"}.get(kind, kind))
            for ending, content in ((kind, picture.getvalue()), ("txt", b"a caption")):
                member = tarfile.TarInfo(f"{number:03d}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    try:
        rows = datasets.load_dataset("webdataset", data_files={"train": path}, split="train")
    except Exception as error:
        return "refused" if "same prefix or the same types" in repr(error) + repr(error.__cause__) else repr(error)
    pictures = sum(row[kind] is not None for row in rows for kind in ("jpg", "png") if kind in rows.column_names)
    return f"{len(rows)} samples, {pictures} pictures"


early, late = read("early", ["png", *["jpg"] * 9]), read("late", [*["jpg"] * 9, "png"])
print(f"one .png of ten pictures: as the first {early}; as the last {late}")
assert (early, late) == ("refused", "10 samples, 9 pictures"), "this has changed"
PYTHON
