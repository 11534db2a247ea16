"""The files of a run: what fits is read as it is, what does not is named by file and field."""

import json
import math

import pytest
import torch

from clipedu.runs.schema import (
    STATE,
    Scores,
    read_baseline,
    read_embeddings,
    read_environment,
    read_frame,
    read_metrics,
    read_sets,
    read_status,
)
from clipedu.utils.schema import misfit
from tests.helpers.errors import message_of
from tests.runs.example_run import frames, state_of

SCORES = {"tr@1": 5.0, "average": 5, "retrieval_images": 30, "retrieval_captions": 60, "modality_gap": None}


def test_files_that_are_not_there_yet(tmp_path):
    readers = (read_status, read_environment, read_metrics, read_sets, read_baseline)
    assert [read(tmp_path) for read in readers] == [{}, {}, {}, [], None]
    assert read_embeddings(tmp_path, 8) is None and len(read_frame(tmp_path, "layers")) == 0


def test_a_score_that_cannot_be_computed_is_nan(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(SCORES))
    found = read_metrics(tmp_path)
    assert math.isnan(found.pop("modality_gap")) and found == {k: v for k, v in SCORES.items() if v is not None}


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"tr@1": None}, "field 'tr@1' is null, expected a number >= 0 and <= 100"),
        ({"average": 100.5}, "field 'average' is 100.5, expected a number >= 0 and <= 100"),
        ({"foil_place": -1}, "field 'foil_place' is -1, expected a number >= 0 and <= 100"),
        ({"modality_gap": "1"}, "field 'modality_gap' is '1', expected a number >= -1e+30 and <= 1e+30 or null"),
        ({"modality_gap": math.nan}, "field 'modality_gap' is NaN"),
        ({"retrieval_images": 0}, "field 'retrieval_images' is 0, expected a whole number >= 1"),
        ({"top1": 3}, "the field 'zeroshot_images' is missing"),
    ],
)
def test_scores(changes, fault):
    assert misfit(Scores(), SCORES) is None
    assert misfit(Scores(), {**SCORES, **changes}).startswith(fault)


def test_a_message_names_file_field_and_remedy(tmp_path):
    (tmp_path / "status.json").write_text('{"status": "done"}')
    assert message_of(read_status, tmp_path) == (
        f"{tmp_path}/status.json cannot be read: field 'status' is 'done', expected one of finished, running, stopped, "
        "failed. Remove it: the run then counts as one that was stopped, and can be resumed"
    )
    (tmp_path / "metrics.json").write_text('{"average": "high"}')
    assert message_of(read_metrics, tmp_path).endswith(f"Score the run again: clipedu evaluate {tmp_path}")
    (tmp_path / "data.json").write_text('[{"name": "a", "split": "val", "rows": 1, "skipped": [1]}]')
    assert "data.json cannot be read: field '0.skipped.0' is 1, expected a text" in message_of(read_sets, tmp_path)
    (tmp_path / "baseline.json").write_text('{"tr@1": 1}')
    assert "baseline.json cannot be read: the field 'name' is missing" in message_of(read_baseline, tmp_path)


def test_tables(tmp_path):
    for name, frame in zip(("history", "norms", "layers"), frames(), strict=True):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        assert read_frame(tmp_path, name)["step"].tolist() == [0, 1]
        frame.assign(step=1).to_csv(tmp_path / f"{name}.csv", index=False)
        assert f"{name}.csv cannot be read: line 3 is a second one of step 1" in message_of(read_frame, tmp_path, name)
        (tmp_path / f"{name}.csv").write_bytes(bytes(range(256)))
        assert message_of(read_frame, tmp_path, name).endswith(
            f"{name}.csv cannot be read: byte 128 is not UTF-8 text. Remove it to do without these rows"
        )
        (tmp_path / f"{name}.csv").unlink()
        assert len(read_frame(tmp_path, name)) == 0


def embeddings(tmp_path, words=None, **tensors):
    from safetensors.torch import save_file

    save_file({"image": torch.ones(3, 8), "text": torch.ones(3, 8), **tensors}, tmp_path / "embeddings.safetensors")
    (tmp_path / "captions.json").write_text(json.dumps(words or {"captions": ["a", "b", "c"]}))
    return read_embeddings(tmp_path, 8)


def test_embeddings_fit_their_captions(tmp_path):
    assert embeddings(tmp_path)["captions"] == embeddings(tmp_path, ["a", "b", "c"])["captions"] == ["a", "b", "c"]
    words = {"captions": ["a", "b", "c"], "phrases": ["a", "b"]}
    chains = {"phrase": torch.ones(2, 8), "chain": torch.ones(2, 6, dtype=torch.int64)}
    assert embeddings(tmp_path, words, **chains)["chain"].shape == (2, 6)
    for changes, fault in (
        ({"image": torch.ones(2, 8)}, "the tensor 'image' is [2, 8], expected [3, 8]"),
        ({"text": torch.ones(3, 4)}, "the tensor 'text' is [3, 4], expected [3, 8]"),
        ({"text": torch.ones(3, 8, dtype=torch.int32)}, "the tensor 'text' holds int32, expected float32"),
        ({"chain": chains["chain"] + 1}, "the tensor 'chain' is [2, 6] with numbers 2 to 2, of 2 phrases"),
        ({"chain": chains["chain"].float()}, "the tensor 'chain' holds float32, expected int64"),
    ):
        message = message_of(embeddings, tmp_path, words, **{**chains, **changes})
        assert f"embeddings.safetensors cannot be used with captions.json: {fault}. Score the run again" in message
    assert "the tensor 'phrase' is missing" in message_of(embeddings, tmp_path, words)
    (tmp_path / "captions.json").unlink()
    assert "captions.json cannot be read: no such file" in message_of(read_embeddings, tmp_path, 8)


def test_the_state_of_a_trainer():
    assert misfit(STATE, state_of(3)) is None
    for changes, fault in (
        ({"step": -1}, "field 'step' is -1, expected a whole number >= 0"),
        ({"random": torch.ones(3)}, "field 'random' is float32 [3], expected a tensor of uint8 with 1 axes"),
        ({"random": None}, "field 'random' is null"),
        ({"optimizer": {"state": {}}}, "the field 'optimizer.param_groups' is missing"),
        ({"optimizer": {"state": {}, "param_groups": [{}]}}, "the field 'optimizer.param_groups.0.params' is missing"),
        ({"monitor": {"Lambda": {"a": "x"}}}, "field 'monitor.Lambda.a' is 'x', expected a number"),
    ):
        assert misfit(STATE, {**state_of(3), **changes}).startswith(fault)
    assert misfit(STATE, torch.ones(2)) == "the whole is a Tensor, expected an object"
