"""`clipedu evaluate --model` and `groups --model`."""

from __future__ import annotations

import json

import pytest
import torch

from clipedu import adopt, evaluate, load_pairs
from clipedu.cli.parser import main
from tests.helpers.released import SIZE, save_open_clip, save_transformers
from tests.helpers.shard_maker import photo, sample, write_tar

pytestmark = pytest.mark.xdist_group("interop")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a CLIP of transformers."""
    folder = tmp_path_factory.mktemp("released") / "clip"
    save_transformers(folder, "clip")
    return folder


def test_scores_are_printed_as_of_a_run_and_kept(folder, few_scenes, tmp_path, capsys):
    kept = tmp_path / "out" / "scores.json"
    words = ["evaluate", "--model", str(folder), "--data", "scenes", "--folder", str(kept.parent)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "TR@1" in shown and "top-1" in shown and "on 40 images with 200 captions; 40 images in" in shown
    found = json.loads(kept.read_text())
    sets = [load_pairs("scenes", split, image_size=SIZE) for split in ("val", "zeroshot")]
    scores = {**evaluate(adopt(folder), sets[0]), **evaluate(adopt(folder), sets[1])}
    for key in ("tr@1", "ir@10", "top5", "modality_gap"):
        assert found["scores"][key] == pytest.approx(scores[key])
    assert found["scores"]["average"] == pytest.approx((scores["tr@1"] + scores["ir@1"] + scores["top1"]) / 3)
    assert [pairs["split"] for pairs in found["data"]] == ["val", "zeroshot"] and found["data"][0]["image_size"] == SIZE
    assert found["model"] == str(folder) and found["weights"] is None and found["data"][0]["captions_cut"] > 0
    larger = [*words[:-1], str(tmp_path / "larger"), "--image-size", "48"]
    assert main(larger) == 0 and json.loads((tmp_path / "larger" / "scores.json").read_text())["image_size"] == 48
    capsys.readouterr()
    assert main(words) == 2
    assert capsys.readouterr().err.endswith(f"clipedu: {kept} is there already: give another --folder\n")
    for name in ("experiment.json", "environment.json"):
        (kept.parent / name).touch()
    kept.unlink()
    assert main(words) == 2 and "is the folder of a run, which has files of its own" in capsys.readouterr().err


def test_photographs_are_made_square_as_the_model_reads_them(tmp_path, capsys):
    """A set without labels, for a model that squashes."""
    save_open_clip(tmp_path / "vit", "vit")
    files = [file for i in range(6) for file in sample(f"k{i}", photo(i), [f"a photo {i}"])]
    pairs = write_tar(tmp_path / "own" / "own-val-0.tar", [*files, ("k9.caption", b"x")]).parent
    assert main(["evaluate", "--model", str(tmp_path / "vit"), "--data", str(pairs)]) == 0
    shown = capsys.readouterr().out
    assert (
        "on 6 images with 6 captions" in shown
        and "top-1" not in shown
        and "1 samples of own/val were left out" in shown
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what is to be scored? Give the folder of a run, or a released model with --model: one of them"),
        (["run", "--model", "x"], "what is to be scored?"),
        (
            ["--model", "x"],
            "--model needs pairs to score on: --data NAME (captions), --zeroshot-data NAME (labels), or both",
        ),
        (["{folder}", "--data", "scenes"], "is a released model, no run: give it as --model"),
        (
            ["open_clip:ViT-B-32"],
            "give it as --model open_clip:ViT-B-32, with --data NAME, --zeroshot-data NAME or both",
        ),
        (["run", "--data", "scenes"], "--data has no effect on a run: leave it out, or give --eval-data"),
        (["run", "--weights", "x"], "--weights has no effect on a run"),
        (["run", "--folder", "x"], "--folder has no effect on a run"),
        (
            ["--model", "x", "--eval-data", "scenes"],
            "--eval-data has no effect on a released model: leave it out, or give --data",
        ),
        (["--model", "x", "--averaged"], "--averaged has no effect on a released model"),
        (["--model", "x", "--checkpoint", "best"], "--checkpoint has no effect on a released model"),
        (
            ["--model", "ViT-B-32", "--data", "scenes"],
            "unknown model 'ViT-B-32': no such folder or file. Did you mean 'open_clip:",
        ),
        (["--model", "{folder}", "--data", "nowhere"], "unknown data set 'nowhere'"),
        (["--model", "{folder}", "--data", "nowhere", "--templates", "open_clip"], "unknown data set 'nowhere'"),
    ],
)
def test_what_cannot_be_scored(words, message, folder, capsys):
    assert main(["evaluate", *(word.format(folder=folder) for word in words)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("clipedu: ") and len(said.splitlines()) == 1


def test_prompts_need_labels(folder, tmp_path, capsys):
    pairs = write_tar(
        tmp_path / "own" / "own-val-0.tar", [f for i in range(3) for f in sample(f"k{i}", photo(i), ["x"])]
    ).parent
    assert main(["evaluate", "--model", str(folder), "--data", str(pairs), "--templates", "open_clip"]) == 2
    assert "--class-names and --templates need labelled images" in capsys.readouterr().err


def test_groups_of_a_released_model(folder, capsys):
    before = torch.get_rng_state()
    assert main(["groups", "--model", str(folder), "--weights", "random", "--optimizer", "adamc", "--lr", "0.1"]) == 0
    shown = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split() for line in shown.splitlines()}
    total = sum(parameter.numel() for parameter in adopt(folder).parameters())
    assert set(rows) == {"group", "not decayed", "decayed", "head", "total"} and rows["total"][2] == f"{total:,}"
    assert rows["head"][1:3] == ["2", f"{2 * 24 * 32:,}"] and "corrected" in rows["decayed"]
    assert torch.equal(before, torch.get_rng_state())
    assert main(["groups", "--model", str(folder), "--epochs", "3"]) == 2
    assert "--epochs has no effect on the groups of a released model, which take --optimizer" in capsys.readouterr().err
    assert main(["groups", "--weights", "random"]) == 2
    assert "--weights are those of a released model: give --model, too" in capsys.readouterr().err


def test_probes_calibration_and_corruptions_of_a_released_model(folder, few_scenes, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("clipedu.data.labelled.SCENES_A_CLASS", 2)
    words = ["--probe", "knn", "--calibrate", "--corrupt", "contrast", "--severity", "5", "--folder", str(tmp_path)]
    assert main(["evaluate", "--model", str(folder), "--zeroshot-data", "scenes", *words]) == 0
    shown = capsys.readouterr().out
    assert "scenes/zeroshot, chance 1" in shown and "temperature fitted on 20 pictures" in shown
    assert all((tmp_path / f"{name}.csv").is_file() for name in ("probes", "calibration", "corruptions"))
