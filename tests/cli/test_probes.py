"""`clipedu evaluate RUN --probe | --calibrate | --corrupt`."""

import shutil

import pandas
import pytest

from clipedu.cli.parser import main
from clipedu.data import labelled
from clipedu.data.corruptions import CORRUPTIONS
from clipedu.data.scenes.sampling import SPLITS
from tests.cli.options import TINY
from tests.helpers.shard_maker import photo, sample, write_tar


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SPLITS, "val", 40)
        patch.setitem(SPLITS, "zeroshot", 100)
        patch.setattr(labelled, "SCENES_A_CLASS", 4)
        yield


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished.folder, tmp_path / "run")


def evaluate(capsys, *words):
    code = main(["evaluate", *map(str, words)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_probes_are_printed_and_kept(run, capsys):
    before = (run / "metrics.json").read_text()
    code, shown, _ = evaluate(capsys, run, "--probe", "knn", "gda", "--shots", "1", "2", "all", "--seeds", "0", "1")
    lines = [[cell.strip() for cell in line.split("  ") if cell] for line in shown.splitlines()]
    assert (
        code == 0 and "Top-1 (%) of 100 classes on 100 pictures of scenes/zeroshot, chance 1; mean of 2 draws" in shown
    )
    (heading,) = [line for line in shown.splitlines() if line.startswith("features")]
    assert [word.strip() for word in heading.split("  ") if word] == [
        "features",
        "probe",
        "1 shot",
        "2 shots",
        "all shots",
    ]
    table = pandas.read_csv(run / "probes.csv")
    assert set(table["set"]) == {"scenes/labelled -> scenes/zeroshot"} and set(table["checkpoint"]) == {"last"}
    assert len(table) == 1 + 2 * 3 * (2 + 2 + 1)
    knn = table[(table["probe"] == "knn") & (table["features"] == "after projection")]
    (row,) = [line for line in lines if line[:2] == ["after projection", "knn"]]
    assert f"{knn[knn['shots'] == 2]['top1'].mean():.2f} ±" in row[3]
    assert f"{knn[knn['shots'].isna()]['top1'].item():.2f}" == row[-1]
    assert (run / "metrics.json").read_text() == before


def test_calibration_is_printed_and_drawn(run, capsys):
    code, shown, _ = evaluate(capsys, run, "--calibrate")
    table = pandas.read_csv(run / "calibration.csv").set_index("probabilities")
    assert code == 0 and "temperature fitted on 50 pictures, both rows measured on the other 50" in shown
    assert f"{table['ece']['after']:.2f}" in shown and table["temperature"]["before"] == 0.05
    assert (run / "plots" / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_corruptions_are_printed_with_their_mean_drop(run, capsys):
    code, shown, _ = evaluate(capsys, run, "--corrupt", "gaussian_noise", "blur", "--severity", "1", "5")
    table = pandas.read_csv(run / "corruptions.csv")
    assert code == 0 and list(table["corruption"]) == ["none", *["gaussian_noise"] * 2, *["blur"] * 2]
    assert f"{table['drop'][1:].mean():.2f}" in shown and "mean drop" in shown and "top-1" in shown


def test_all_corruptions_have_five_severities(run, capsys):
    code, _, _ = evaluate(capsys, run, "--corrupt", "all", "--zeroshot-data", "scenes")
    table = pandas.read_csv(run / "corruptions.csv")
    assert code == 0 and len(table) == 1 + 5 * len(CORRUPTIONS)
    assert main(["list", "corruptions"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in CORRUPTIONS)


def test_a_labelled_set_of_ones_own(run, tmp_path, capsys):
    pets = tmp_path / "pets"
    for split, first, count in (("train", 0, 12), ("val", 20, 6)):
        files = [
            file
            for i in range(first, first + count)
            for file in [*sample(f"k{i}", photo(i), ["text"]), (f"k{i}.cls", str(i % 2).encode())]
        ]
        write_tar(pets / f"pets-{split}-0.tar", files)
    (pets / "classnames.txt").write_text("cat\ndog")
    code, shown, _ = evaluate(capsys, run, "--probe", "linear", "--zeroshot-data", pets, "--shots", "2")
    assert code == 0 and "of 2 classes on 6 pictures of pets/zeroshot, chance 50" in shown and "pets/train" in shown
    code, _, said = evaluate(capsys, run, "--probe", "linear", "--zeroshot-data", pets, "--shots", "7")
    assert code == 2 and "7 shots are more than class 0 has labelled pictures: at most 6 here" in said
    code, _, said = evaluate(capsys, run, "--probe", "linear", "--probe-data", pets)
    assert code == 2 and "'cat' in pets/train and 'red circle' in scenes/zeroshot" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shots", "4"], "--shots has no effect without --probe"),
        (["--seeds", "4"], "--seeds has no effect without --probe"),
        (["--probe-data", "scenes", "--calibrate"], "--probe-data has no effect without --probe"),
        (["--severity", "4"], "--severity has no effect without --corrupt"),
        (["--probe", "svm"], "unknown probe 'svm'. Allowed: linear, knn, gda"),
        (["--probe", "gda", "--probe-data", "nowhere"], "unknown data set 'nowhere'"),
        (["--corrupt", "fog"], "unknown corruption 'fog'. Allowed: gaussian_noise"),
        (["--corrupt", "all", "blur"], "all is every corruption: leave out the other names"),
        (["--probe", "knn", "--shots", "5"], "5 shots are more than class"),
    ],
)
def test_what_cannot_be_is_one_line(words, message, finished, capsys):
    code, _, said = evaluate(capsys, finished.folder, *words)
    assert code == 2 and message in said and len(said.splitlines()) <= 3


@pytest.mark.parametrize(
    "words",
    [
        ["--probe"],
        ["--probe", "knn", "--shots", "0"],
        ["--probe", "knn", "--shots", "1", "1"],
        ["--corrupt", "blur", "--severity", "6"],
    ],
)
def test_what_the_parser_refuses(words, finished, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(finished.folder), *words])
    assert stop.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


def test_a_run_without_a_zero_shot_set_says_what_to_give(tmp_path, capsys):
    for split, first in (("train", 0), ("val", 20)):
        files = [file for i in range(first, first + 20) for file in sample(f"k{i}", photo(i), [f"text {i}"])]
        write_tar(tmp_path / "own" / f"own-{split}-0.tar", files)
    options = ["--batch-size", "10", "--epochs", "1", "--embedding-dim", "16", "--image-size", "32"]
    assert main(["train", "--data", str(tmp_path / "own"), "--folder", str(tmp_path / "run"), *options]) == 0
    capsys.readouterr()
    for words in (["--calibrate"], ["--probe", "knn"]):
        code, _, said = evaluate(capsys, tmp_path / "run", *words)
        assert code == 2 and "there is no zero-shot set" in said and "--zeroshot-data NAME" in said
    code, shown, _ = evaluate(capsys, tmp_path / "run", "--calibrate", "--zeroshot-data", "scenes")
    assert code == 0 and "scenes/zeroshot" in shown


def test_pairs_held_out_are_corrupted_and_the_zero_shot_set_is_probed(tmp_path, capsys):
    assert main(["train", *TINY, "--holdout", "0.25", "--folder", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    code, shown, _ = evaluate(capsys, tmp_path / "run", "--corrupt", "contrast", "--severity", "5")
    assert code == 0 and "top-1" not in shown and "TR@1" in shown
    code, shown, _ = evaluate(capsys, tmp_path / "run", "--probe", "knn")
    assert code == 0 and "scenes/zeroshot" in shown
