"""Captions cleaned as the course does, and as open_clip does."""

from __future__ import annotations

import sys

import pytest

from clipedu.data.cleaning import (
    check_cleaning,
    clean_caption,
    clean_web_caption,
    cleaned,
    count_escaped,
    has_html,
)
from tests.helpers.errors import message_of

WEB = [
    ("black &amp; white", "black & white"),
    ("black &amp;amp; white", "black & white"),
    ("\u201ccurly\u201d it\u2019s", '"curly" it\'s'),
    ("it\u00e2\u20ac\u2122s sch\u00c3\u00b6n", "it's sch\u00f6n"),
    (" two  spaces\tand a line\n", "two spaces and a line"),
    ("5 &lt; 7 &#39;x&#39; &nbsp;y", "5 < 7 'x' y"),
    ("Fish & Chips; R&B", "Fish & Chips; R&B"),
]


@pytest.mark.parametrize(("text", "clean"), WEB)
def test_web_captions(text, clean):
    assert clean_web_caption(text) == clean == clean_web_caption(clean)


def test_open_clips_own_cleaning_agrees():
    tokenizer = pytest.importorskip("open_clip.tokenizer")
    for text, _ in WEB:
        assert tokenizer.whitespace_clean(tokenizer.basic_clean(text)) == clean_web_caption(text)


def test_three_ways():
    texts = ["A &amp; B."]
    assert (
        cleaned(texts, False) == texts and cleaned(texts, True) == ["a &amp b"] and cleaned(texts, "web") == ["A & B."]
    )
    assert message_of(check_cleaning, "html") == "captions cannot be cleaned by 'html'. Allowed: False, True, 'web'"


def test_without_ftfy_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    check_cleaning(True)
    assert "needs ftfy, which is not installed: pip install ftfy" in message_of(cleaned, ["a"], "web")


def test_escaped_html_is_counted():
    yes = ["a &amp; b", "&#39;", "&#x27;", "&eacute;", "x&nbsp;y &quot;"]
    no = ["a & b", "R&B; soul", "&;", "&nosuchname;", "& amp;", "AT&T"]
    assert [has_html(caption) for caption in yes + no] == [True] * len(yes) + [False] * len(no)
    assert count_escaped(yes + no) == len(yes)
    assert not has_html("&" * 500_000) and not has_html("&a" * 500_000)


@pytest.mark.parametrize(
    "text, clean",
    [
        ("A Dog's Day.", "a dogs day"),
        ("well-known and/or new", "well known and or new"),
        ('"Stop!" (he said): #1, *now*; why? ~ok', "stop he said 1 now why ok"),
        ("<PERSON> and <person>'s dog", "person and persons dog"),
        ("  two   spaces\tand a line\n", "two spaces and a line"),
        ("...", ""),
        ("left - right", "left right"),
        ("100% of $5 @ 3 & [x]", "100% of $5 @ 3 & [x]"),
    ],
)
def test_clean_caption(text, clean):
    assert clean_caption(text) == clean


def test_clean_caption_keeps_thirty_words():
    assert clean_caption(" ".join(f"w{i}," for i in range(40))) == " ".join(f"w{i}" for i in range(30))
    assert clean_caption(clean_caption("A well-known, <person>!")) == clean_caption("A well-known, <person>!")
