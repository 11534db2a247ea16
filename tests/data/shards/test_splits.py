"""The words for splits."""

import pytest

from clipedu.data.shards.splits import ALL_WORDS, SPLIT_WORDS, splits_in


@pytest.mark.parametrize("split, words", SPLIT_WORDS.items())
def test_every_word_names_its_split_in_any_case_and_between_other_characters(split, words):
    for word in words:
        for text in (word, word.upper(), f"coco-{word}-000.tar", f"{word}2014", f" {word}\r"):
            assert splits_in(text) == {split}, text


def test_other_words():
    assert splits_in("") == splits_in("trainer-valley.tar") == splits_in("trainval") == set()
    assert splits_in("train/val") == {"train", "val"}
    assert len(set(ALL_WORDS)) == len(ALL_WORDS)
