"""Graphs of both encoders, run by onnxruntime."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from clipedu import ClipeduError
from clipedu.exports import to_onnx
from clipedu.exports.to_onnx import IMAGE, TEXT, check_sizes, facts, lines_onnx, padded, run, write_onnx
from tests.helpers.releases import VIT, photo, release, same

pytestmark = pytest.mark.xdist_group("exports")


def test_run_by_onnxruntime(tmp_path, monkeypatch):
    """Other batches and lengths of text than those that were traced; the card's own code; metadata."""
    import onnx

    one = release(
        geometry="lorentz", image_encoder="fractal_vit_nano_patch4_32", image_options=VIT, text_length=16, clean=True
    )
    write_onnx(one, tmp_path, "x")
    pixels = photo(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(lines_onnx(one, str(tmp_path), False), names)
    with torch.no_grad():
        assert same(torch.from_numpy(names["image_embeds"]), one.model.encode_image(pixels))
        assert same(torch.from_numpy(names["text_embeds"]), one.model.embed_texts(["a red star", "a blue circle"]))
        several = pixels.repeat(5, 1, 1, 1)
        several[1:] = 255 - several[1:]
        assert same(run(tmp_path / IMAGE, one.model.normalise(several).contiguous()), one.model.encode_image(several))
        for texts in (["red"], ["a", "dogs play - a black star", "red"], ["star"] * 6):
            ids, lengths = one.model.tokenizer.encode(texts)
            ids = torch.from_numpy(ids[:, : lengths.max()].astype("int64"))
            mask = (torch.arange(ids.shape[1])[None] < torch.from_numpy(lengths)[:, None]).long()
            assert same(run(tmp_path / TEXT, ids, mask), one.model.embed_texts(texts))
    for file in (IMAGE, TEXT):
        graph = onnx.load(tmp_path / file)
        kept = json.loads({entry.key: entry.value for entry in graph.metadata_props}["clipedu"])
        assert (
            kept == facts(one)
            and kept["geometry"] == "lorentz"
            and kept["curvature"] == 1
            and kept["logit_scale"] == 12.5
        )
        inputs = {
            one.name: [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim] for one in graph.graph.input
        }
        assert inputs == (
            {"pixel_values": ["batch", 3, 32, 32]}
            if file == IMAGE
            else dict.fromkeys(("input_ids", "attention_mask"), ["batch", "length"])
        )


def test_texts_are_padded_where_the_encoder_needs_it():
    one = release(text_encoder="gpt2", text_options={"n_embd": 16, "n_layer": 1, "n_head": 2})
    one.model.text_padding = (20, 4)
    ids, mask = padded(one)
    assert ids.shape == mask.shape == (3, 20) and set(ids[mask == 0].tolist()) == {4}
    assert 'padding="max_length"' in lines_onnx(one, "me/x", True) and 'snapshot_download("me/x")' in lines_onnx(
        one, "me/x", True
    )


def test_a_tokenizer_of_open_clip(released):
    from clipedu.exports.release import open_release

    one = replace(open_release(released("vit")[0]), name="runs/mine")  # as a run that began with it
    made, code = (line for line in lines_onnx(one, "x", False).split("\n") if "open_clip" in line)
    names: dict = {}
    exec(f"{made}\n{code}", names)
    ids = one.model.tokenizer.encode(["a red star", "a blue circle"])[0]
    assert (names["tokens"]["input_ids"] == ids).all()


def test_what_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(to_onnx, "find_spec", lambda name: None if name != "onnx" else name)
    with pytest.raises(
        ClipeduError, match=r"needs onnxscript and onnxruntime, not installed here: pip install 'clipedu\[export\]'"
    ):
        write_onnx(release(), tmp_path, "x")


def test_what_torch_cannot_export(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(
        ClipeduError, match="torch cannot export image_model of a small model to ONNX: no such operator"
    ):
        write_onnx(release(), tmp_path, "x")


def test_a_graph_for_one_batch_alone():
    """torch writes one where an encoder computes with the number of its rows."""
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    check_sizes([SimpleNamespace(shape=["batch", "length", 8])], [free], "it")
    with pytest.raises(
        ClipeduError, match="^it cannot be exported to ONNX for any batch, only for 3: .* Try --to transformers$"
    ):
        check_sizes([SimpleNamespace(shape=[3, "length", 8])], [free], "it")
