"""Which names and templates a zero-shot set is scored with, and that it is said."""

from __future__ import annotations

import pytest

from clipedu.data.class_names import PHOTO_TEMPLATES, imagenet_classes
from clipedu.data.pairs import Pairs
from clipedu.data.prompts import NAMED_BY, choose_prompts, prompt_facts, prompts_text
from tests.helpers.errors import message_of


def imagenet() -> Pairs:
    pairs = Pairs()
    pairs.name, pairs.split, pairs.named_by = "imagenet", "zeroshot", "clipedu"
    pairs.class_names, pairs.templates = imagenet_classes(), PHOTO_TEMPLATES
    return pairs


def test_our_names_and_templates_are_the_default():
    pairs = choose_prompts(imagenet(), "clipedu", "clipedu")
    assert (pairs.class_names[0], len(pairs.templates)) == ("tench", 7)
    assert prompts_text(prompt_facts(pairs)) == "clipedu's ImageNet names, 7 templates"


def test_open_clips():
    pytest.importorskip("open_clip")
    pairs = choose_prompts(imagenet(), "open_clip", "open_clip")
    assert len(pairs.class_names) == 1000 and "clipedu" not in pairs.named_by and len(pairs.templates) == 80
    assert prompts_text(prompt_facts(pairs)) == "open_clip's ImageNet names, 80 templates"
    pairs = choose_prompts(imagenet(), "clipedu", "open_clip")
    assert prompts_text(prompt_facts(pairs)) == "clipedu's ImageNet names, 80 templates"


def test_other_classes_keep_their_names():
    pairs = imagenet()
    pairs.named_by = "classnames.txt"
    message = message_of(choose_prompts, pairs, "open_clip", "clipedu")
    assert message.startswith("class_names='open_clip' are those of ImageNet, and imagenet/zeroshot has other classes")
    assert prompts_text(prompt_facts(pairs)) == f"{NAMED_BY['classnames.txt']}, 7 templates"


def test_nothing_is_said_of_a_set_with_names_and_templates_of_its_own():
    assert prompt_facts(Pairs()) == {} and prompts_text({"top1": 5.0}) == ""
