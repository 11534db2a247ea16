"""What is exported: a finished run, or a released model."""

import shutil

import pytest
import torch
from safetensors import SafetensorError

from clipedu import ClipeduError
from clipedu.exports.release import check_equal, has_bias, open_release, own_tower, told_in_one_line
from clipedu.utils.files import write_json
from tests.helpers.releases import release, same

pytestmark = pytest.mark.xdist_group("exports")


def test_a_run(trained):
    one = open_release(trained.folder)
    assert (one.image_size, one.resize, one.geometry, one.dim, one.length) == (32, "crop", "cosine", 8, 24)
    assert (one.mean, one.std, one.clean, one.bias) == ([0.5] * 3, [0.5] * 3, False, None)
    assert (
        one.scale.logit_scale == 20
        and one.step == 2
        and one.scored
        and one.weights == "the last checkpoint, after step 2"
    )
    image, text = one.embeddings()
    assert image.shape == (2, 8) and torch.equal(text, trained.model().encode_text(*one.tokens()))


def test_other_checkpoints(trained):
    last, best = open_release(trained.folder), open_release(trained.folder, checkpoint="best")
    average = open_release(trained.folder, averaged=True)
    assert (
        not best.scored
        and not average.scored
        and average.weights.startswith("the moving average of the weights at the last")
    )
    assert best.step == trained.best_step and "best" in best.weights
    assert same(average.embeddings()[0], trained.model(averaged=True).encode_image(average.pixels()), 1e-6)
    assert not same(average.embeddings()[0], last.embeddings()[0])


def test_a_released_model(released):
    one = open_release(released("siglip")[0])
    assert one.run is None and one.bias is not None and one.step is None and one.image_size == 32 and one.scale.learned


@pytest.mark.parametrize("status", ["running", "stopped", "failed"])
def test_a_run_that_is_not_finished(status, trained, tmp_path):
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    write_json(folder / "status.json", {"status": status, "note": "for a test", "seconds": 1.0})
    with pytest.raises(
        ClipeduError, match=r"run is \w+, not finished \(.*\): finish it first, with clipedu train --resume"
    ):
        open_release(folder)


def test_what_cannot_be_opened(trained, released, tmp_path):
    (tmp_path / "empty").mkdir()
    for given, options, said in (
        (tmp_path / "gone", {}, "does not exist"),
        (tmp_path / "empty", {}, "holds no model"),
        (trained.folder, {"weights": "random"}, "weights='random' has no effect: .* is a run"),
        (released("clip")[0], {"averaged": True}, "averaged has no effect: .* is no run"),
        (released("clip")[0], {"checkpoint": "best"}, "checkpoint=best has no effect"),
        (trained.folder.parent, {"checkpoint": "best"}, "is no run. Runs in it: .*mine: name one of them"),
    ):
        with pytest.raises(ClipeduError, match=said):
            open_release(given, **options)


def test_unequal_embeddings_are_refused():
    one = release()
    image, text = one.embeddings()
    check_equal(one, image, text, "it")
    check_equal(one, None, text * (1 + 1e-7), "it")
    for wrong in (image * 1.001, image + torch.nan):
        with pytest.raises(
            ClipeduError, match="it cannot be exported: its image embeddings differ from those of a small model by"
        ):
            check_equal(one, wrong, text, "it")
    with pytest.raises(ClipeduError, match=r"it has text embeddings of \[1, 8\], not \[3, 8\]"):
        check_equal(one, None, text[:1], "it")


def test_errors_of_libraries_are_one_line():
    for raised, said in (
        (
            RuntimeError("\n  shared tensors\nand more"),
            "a small model cannot be exported to timm, which says: shared tensors and more. Try",
        ),
        (KeyError(), "which says: KeyError"),
        (ClipeduError("as it is"), "^as it is$"),
    ):
        with pytest.raises(ClipeduError, match=said), told_in_one_line(release(), "timm"):
            raise raised
    for kind in (OSError, SafetensorError):
        with pytest.raises(kind, match="disk"), told_in_one_line(release(), "timm"):
            raise kind("disk full")


def test_biases_and_towers():
    assert has_bias(release(projection_bias=True).model.image_projection) and not has_bias(
        release().model.image_projection
    )
    one = release()
    one.model.image_encoder = torch.nn.Flatten()
    with pytest.raises(ClipeduError, match=r"\(Flatten\) is none of timm's: --to onnx takes any"):
        own_tower(one)
