"""What a run keeps beside its checkpoints is written once, and again only where it is damaged."""

import json

import pytest

from clipedu.data.tokenizer import Tokenizer, train_tokenizer
from clipedu.runs.kept import (
    check_tokenizer,
    keep_descriptions,
    keep_text_config,
    keep_tokenizer,
    kept_tokenizer,
    text_config_sum,
    tokenizer_sum,
)
from clipedu.utils.errors import ClipeduError
from tests.helpers.errors import message_of
from tests.helpers.failing_writes import full_at


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_sum_is_that_of_the_loaded_tokenizer_and_of_no_other(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert tokenizer_sum(loaded) == tokenizer_sum(tokenizer)
    loaded.clean = not loaded.clean
    assert tokenizer_sum(loaded) != tokenizer_sum(tokenizer)
    assert tokenizer_sum(train_tokenizer(["other words"], 12)) != tokenizer_sum(tokenizer)
    text = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace('"lowercase": true', '"lowercase": false'))
    assert tokenizer_sum(Tokenizer.load(tmp_path)) != tokenizer_sum(tokenizer)


def test_a_tokenizer_is_written_where_it_is_missing_or_damaged(tokenizer, tmp_path):
    expected, folder = tokenizer_sum(tokenizer), tmp_path / "tokenizer"
    assert kept_tokenizer(tmp_path, expected) is None
    keep_tokenizer(tmp_path, tokenizer)
    before = times(folder)
    keep_tokenizer(tmp_path, tokenizer)
    assert times(folder) == before and tokenizer_sum(kept_tokenizer(tmp_path, expected)) == expected
    (folder / "tokenizer.json").write_text("{")
    assert kept_tokenizer(tmp_path, expected) is None
    assert "cannot be read" in message_of(kept_tokenizer, tmp_path, None)
    keep_tokenizer(tmp_path, tokenizer)
    assert kept_tokenizer(tmp_path, expected) is not None and [path.name for path in tmp_path.iterdir()] == [
        "tokenizer"
    ]


def test_another_tokenizer_is_refused(tokenizer, tmp_path):
    check_tokenizer(tmp_path, tokenizer, None)
    check_tokenizer(tmp_path, tokenizer, tokenizer_sum(tokenizer))
    assert f"put a copy of {tmp_path / 'tokenizer'} back" in message_of(check_tokenizer, tmp_path, tokenizer, "0" * 64)


def test_a_full_disk_takes_nothing_away(tokenizer, tmp_path):
    keep_tokenizer(tmp_path, tokenizer)
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{")
    before = {path: path.read_bytes() for path in (tmp_path / "tokenizer").iterdir()}
    for number in range(100):
        with full_at(number, tmp_path) as seen:
            try:
                keep_tokenizer(tmp_path, tokenizer)
            except ClipeduError as error:
                assert "cannot be written: No space left" in str(error)
                assert {path: path.read_bytes() for path in (tmp_path / "tokenizer").iterdir()} == before
        if len(seen) <= number:
            break
    assert number >= 3 and kept_tokenizer(tmp_path, tokenizer_sum(tokenizer)) is not None


def test_an_error_of_the_tokenizers_library_is_a_line(tokenizer, tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise Exception("No space left on device (os error 28)")

    monkeypatch.setattr(Tokenizer, "save", full)
    assert message_of(keep_tokenizer, tmp_path, tokenizer) == (
        f"{tmp_path / 'tokenizer'} cannot be written: No space left on device (os error 28)"
    )


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"model_type": "no-such"}', None])
def test_a_text_configuration_is_written_where_it_is_missing_or_damaged(model, tmp_path, damage):
    config, path = model.text_encoder.config, tmp_path / "text_encoder" / "config.json"
    keep_text_config(tmp_path, config)
    whole, before = path.read_text(), times(tmp_path)
    keep_text_config(tmp_path, config)
    assert times(tmp_path) == before
    path.unlink()
    if damage is not None:
        path.write_text(damage)
    keep_text_config(tmp_path, config)
    assert path.read_text() == whole
    path.write_text(json.dumps(json.loads(whole) | {"n_heads": 1}))
    keep_text_config(tmp_path, config)
    assert path.read_text() == whole, "one value was another"
    other = json.dumps(json.loads(whole) | {"n_heads": 1, "transformers_version": "1.0"})
    path.write_text(other)
    keep_text_config(tmp_path, config)
    assert path.read_text() == other, "of another version: it stays"
    keep_text_config(tmp_path, config, text_config_sum(tmp_path))
    assert path.read_text() == other, "it is what the run was trained with"
    path.write_text(json.dumps(json.loads(other) | {"n_heads": 4}))
    keep_text_config(tmp_path, config, "the sum of another")
    assert path.read_text() == whole, "it was changed since"


def test_the_sum_of_a_text_configuration_is_of_what_counts(model, tmp_path):
    assert text_config_sum(tmp_path) is None
    keep_text_config(tmp_path, model.text_encoder.config)
    path, first = tmp_path / "text_encoder" / "config.json", text_config_sum(tmp_path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items())) | {"transformers_version": "1.0"}))
    assert text_config_sum(tmp_path) == first
    for change in ({"n_heads": 1}, {"clipedu_padded_to": 100}, {"chunk_size_feed_forward": 2}, {"new": None}):
        path.write_text(json.dumps(content | change))
        assert text_config_sum(tmp_path) not in (None, first), change
    path.write_text("[]")
    assert text_config_sum(tmp_path) is None


def test_descriptions(tmp_path, caplog):
    sets = [{"name": "a", "split": "train", "rows": 3, "skipped": [], "identity": {"rows": 3}}]
    damaged = ("", "{}", "null", '[{"name": "a"}]', json.dumps([sets[0] | {"identity": 5}]), "[" * 5000)
    for content in (None, "[]", *damaged):
        if content is not None:
            (tmp_path / "data.json").write_text(content)
        caplog.clear()
        keep_descriptions(tmp_path, lambda: sets)
        assert json.loads((tmp_path / "data.json").read_text()) == sets
        assert ("data.json cannot be read: " in caplog.text) == (content in damaged)
    keep_descriptions(tmp_path, lambda: pytest.fail("it is there"))
