"""The model that training starts from is checked against the experiment, and made ready as the experiment says."""

import pytest

from clipedu import ClipeduError, Experiment
from clipedu.config.experiment import OF_START
from clipedu.training import starting
from clipedu.training.starting import find_start, fit_for_training, is_run, open_start, released_form
from tests.helpers.released import LENGTH, SIZE, save_transformers

pytestmark = pytest.mark.xdist_group("interop")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "clip"
    save_transformers(folder, "clip")
    return str(folder)


def test_the_form_of_a_released_model_is_in_settings(clip):
    model, form = find_start(clip)
    assert set(form) == set(OF_START) and form == released_form(model)
    assert (form["image_encoder"], form["image_size"], form["text_length"], form["embedding_dim"]) == (
        "released",
        SIZE,
        LENGTH,
        24,
    )
    assert not is_run(clip)


def test_a_model_is_read_once_until_it_is_trained(clip, monkeypatch):
    first, _ = find_start(clip, keep=True)
    assert find_start(clip)[0] is first
    assert find_start(clip)[0] is not first


def test_a_model_that_has_changed_is_read_again(clip, tmp_path):
    import os
    import shutil

    folder = tmp_path / "clip"
    shutil.copytree(clip, folder)
    first, _ = find_start(str(folder), keep=True)
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert find_start(str(folder))[0] is not first and not starting._opened


def test_an_experiment_of_another_form_is_refused(clip):
    with pytest.raises(ClipeduError, match=r"image_size=32|text_length|image_encoder.*clipedu.start_from"):
        open_start(Experiment(start=clip))


def test_a_model_is_frozen_locked_and_adapted(clip):
    model, form = find_start(clip)
    changes = {"lock": ["image_projection"], "text_frozen": True, "lora_rank": 2}
    fit_for_training(model, Experiment(start=clip, **form, **changes))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert "text_projection.weight" in trained and "image_projection.weight" not in trained
    assert all(
        name.startswith("image_encoder.") and ".lora_" in name for name in trained if "projection.weight" not in name
    )
