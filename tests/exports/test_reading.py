"""Texts and images go through the written files as they go through clipedu."""

import numpy as np
import pytest
import torch
from PIL import Image

from clipedu import ClipeduError
from clipedu.data.cleaning import clean_caption
from clipedu.exports.reading import (
    added_tokens,
    check_tokens,
    image_processor,
    library_tokenizer,
    reading_words,
    save_reading,
)
from clipedu.exports.release import Release, open_release
from tests.helpers.releases import photo, release, same

pytestmark = pytest.mark.xdist_group("exports")

TEXTS = [
    "A Red-Star: isn't it?",
    "  two\tdogs,\none (brown) and/or black ",
    "<person> plays; CRÈME #5*",
    "",
    "a [MASK] of [SEP] red",
    "words " * 40,
]


@pytest.mark.parametrize("clean", [False, True])
def test_tokens_are_equal(clean, tmp_path):
    from transformers import PreTrainedTokenizerFast

    one = release(clean=clean, text_length=9)
    save_reading(one, tmp_path)
    read = PreTrainedTokenizerFast.from_pretrained(tmp_path)(TEXTS, padding="max_length", truncation=True)
    ids, lengths = one.model.tokenizer.encode(TEXTS)
    assert read["input_ids"] == ids.tolist() and [sum(mask) for mask in read["attention_mask"]] == lengths.tolist()
    if clean:
        for text in TEXTS[:-1]:  # all but that it takes 30 words
            assert library_tokenizer(one).backend_tokenizer.normalizer.normalize_str(text) == clean_caption(
                text
            ).replace("è", "e")


def test_the_model_s_own_tokenizer_stays_as_it_was():
    one = release(clean=True)
    before = one.model.tokenizer.identity()
    library_tokenizer(one)
    assert one.model.tokenizer.identity() == before


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_pixels_are_equal_where_the_size_is(resize, tmp_path):
    one = release(resize=resize)
    pixels = photo(tmp_path / "photo")
    read = image_processor(one)(Image.open(tmp_path / "photo"), return_tensors="pt")["pixel_values"]
    assert same(read, one.model.normalise(pixels), 1e-6)


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_larger_images_are_nearly_so(resize):
    """Resampling differs a little; which part of the image is taken does not."""
    from clipedu.data.shards.images import _square

    one = release(resize=resize)
    rows, columns = np.mgrid[:90, :150] / 20
    smooth = 127 + 120 * np.stack([np.sin(rows), np.cos(columns), np.sin(rows + columns)], -1)
    image = Image.fromarray(smooth.astype(np.uint8))
    ours = torch.from_numpy(np.asarray(_square(image, 32, resize)).transpose(2, 0, 1).copy())[None]
    theirs = image_processor(one)(image, return_tensors="pt")["pixel_values"]
    difference = (theirs - one.model.normalise(ours)).abs()
    assert difference.mean() < 0.05 and difference.max() < 0.5


def test_other_tokens_are_told():
    one, other = release(), release(text_length=9)
    other.model.tokenizer.tokenizer.add_tokens(["photo of"])
    with pytest.raises(
        ClipeduError, match="the tokenizer of a small model cannot be exported: it makes other tokens of 'a photo"
    ):
        check_tokens(one, other.model.tokenizer.tokenizer)


def test_a_tokenizer_of_nobody():
    one = release()
    nobody = Release("m", one.model, 32, "crop")
    nobody.model.tokenizer = object()
    with pytest.raises(ClipeduError, match="the tokenizer of m is none of transformers"):
        library_tokenizer(nobody)


@pytest.mark.parametrize(("clean", "said"), [(False, None), (True, "first 30"), ("web", "ftfy")])
def test_words_for_the_card(clean, said):
    words = reading_words(release(clean=clean, text_length=9))
    assert "at most 9 tokens, the `[CLS]` and `[SEP]` that the tokenizer adds included; what" in words[1]
    assert (
        "32 x 32 pixels: the shorter side" in words[0]
        and "[0.5, 0.5, 0.5]" in words[0]
        and "at most 9 tokens" in words[1]
    )
    assert len(words) == (2 if said is None else 3) and (said is None or said in words[2])
    assert "both sides are scaled" in reading_words(release(resize="squash"))[0]


@pytest.mark.parametrize(
    ("kind", "added"),
    [
        ("vit", ["<start_of_text>", "<end_of_text>"]),
        ("siglip", ["</s>"]),
        ("clip", ["<|startoftext|>", "<|endoftext|>"]),
    ],
)
def test_the_tokens_that_are_added_are_its_own(kind, added, released):
    assert added_tokens(open_release(released(kind)[0])) == added
