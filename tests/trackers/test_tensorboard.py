"""TensorBoard's files, read with its own reader."""

import time

import pytest
import torch

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clipedu.trackers import open_tracker
from clipedu.trackers.base import Opening

SETTINGS = {"lr": 1e-3, "loss": "clip", "train_size": None, "loss_options": {"gamma": 0.5}, "image_frozen": True}


def opened(folder, step=0, sent=0):
    return open_tracker("tensorboard", Opening(folder, "run-1", SETTINGS, step, {"history": sent} if sent else {}))


def read(folder):
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()


def steps(folder, tag="train/loss"):
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def test_numbers_are_kept_as_float32(tmp_path):
    log = opened(tmp_path)
    log.log(0, {"train/loss": 0.1, "layers/a b/weight": 3.0, "final/tr@1": 1e-30})
    log.close(well=True)
    assert steps(tmp_path) == [(0, torch.tensor(0.1).item())]
    assert set(read(tmp_path).Tags()["scalars"]) == {"train/loss", "layers/a b/weight", "final/tr@1"}
    assert str(tmp_path.parent) in log.where


@pytest.mark.parametrize(("step", "sent", "first"), [(3, 5, 3), (5, 3, 3), (4, 4, 4), (0, 2, 0)])
def test_a_log_that_goes_on_drops_what_comes_again(tmp_path, step, sent, first):
    log = opened(tmp_path)
    for at in range(6):
        log.log(at, {"train/loss": 1.0})
    log.close(well=False)
    log = opened(tmp_path, step, sent)  # within the same second
    assert {log.first(table) for table in ("history", "validation", "final")} == {first}
    for at in range(first, 7):
        log.log(at, {"train/loss": 2.0})
    log.close(well=True)
    assert steps(tmp_path) == [(at, 1.0 if at < first else 2.0) for at in range(7)]


def test_many_sessions_in_a_row(tmp_path):
    for at in range(3):
        log = opened(tmp_path, at, at)
        log.log(at, {"train/loss": float(at)})
        log.log(at + 1, {"train/loss": -1.0})
        log.flush()  # and killed
    assert steps(tmp_path) == [(0, 0.0), (1, 1.0), (2, 2.0), (3, -1.0)]


def test_a_clock_that_went_wrong_is_not_waited_for_long(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / f"events.out.tfevents.{int(time.time()) + 10_000}.host.1.0").touch()
    began = time.monotonic()
    opened(tmp_path).close(well=False)
    assert time.monotonic() - began < 5


def test_settings_are_text_and_hyperparameters(tmp_path):
    opened(tmp_path).close(well=True)
    found = read(tmp_path)
    words = found.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert (
        "| loss | `clip` |" in words
        and '| loss_options | `{"gamma": 0.5}` |' in words
        and "| train_size | `none` |" in words
    )
    assert {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"} <= {
        *found.PluginTagToContent("hparams")
    }


@pytest.mark.parametrize("size", [8, 100])
def test_embeddings_with_captions_and_small_images(tmp_path, size):
    log = opened(tmp_path)
    image, text = torch.randn(3, 4), torch.randn(3, 4)
    for _ in range(2):  # again, of a run that is scored again
        log.embeddings(image, text, ["a\tred\ndot", "b", "c"], torch.zeros(3, 3, size, size, dtype=torch.uint8))
    log.close(well=True)
    folder = tmp_path / "tensorboard" / "embeddings"
    (words,) = folder.rglob("metadata.tsv")
    assert words.read_text().splitlines()[:2] == ["kind\trow\tcaption", "image\t0\ta red dot"]
    config = (folder / "projector_config.pbtxt").read_text()
    assert config.count("embeddings {") == 1 and f"single_image_dim: {min(size, 64)}" in config
    log = opened(tmp_path)
    log.embeddings(image, text, ["a", "b", "c"], None)
    assert "sprite" not in (folder / "projector_config.pbtxt").read_text()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of the writing thread
def test_a_full_disk_is_told(tmp_path):
    log = opened(tmp_path)

    def full(data):
        raise OSError(28, "No space left on device")

    log._writer.event_writer._async_writer._writer.write = full
    with pytest.raises(OSError, match="No space"):
        for at in range(100):
            log.log(at, {"train/loss": 1.0})
            log.flush()
