"""Class names, ImageNet's and a file's, and the prompts."""

import sys

import pytest

from clipedu.data.class_names import (
    PHOTO_TEMPLATES,
    imagenet_classes,
    open_clip_templates,
    read_class_names,
    same_names,
)
from clipedu.utils.errors import ClipeduError
from tests.helpers.errors import message_of


def test_names_are_in_the_order_of_the_index_and_differ():
    names = imagenet_classes()
    assert len(names) == 1000 == len({name.lower() for name in names})
    known = {0: "tench", 1: "goldfish", 207: "golden retriever", 281: "tabby", 817: "sports car", 999: "toilet tissue"}
    assert {index: names[index] for index in known} == known
    assert all(name == name.strip() and name and "," not in name and "_" not in name for name in names)


def test_classes_that_share_a_name_are_told_apart():
    names = imagenet_classes()
    assert "crane" not in names and {names[134], names[517]} == {"crane bird", "construction crane"}
    assert names[638] == "maillot" and names[639] == "tank suit"
    assert names[657] != names[744] and names[836] != names[837]


def test_templates():
    assert len(set(PHOTO_TEMPLATES)) == len(PHOTO_TEMPLATES) >= 5
    for template in PHOTO_TEMPLATES:
        assert template.count("{}") == 1 and "tench" in template.format("tench")


def test_open_clips_names_and_templates():
    pytest.importorskip("open_clip")
    theirs, ours = imagenet_classes("open_clip"), imagenet_classes()
    assert len(theirs) == 1000 and sum(one == two for one, two in zip(theirs, ours, strict=True)) == 639
    assert {name for name in theirs if theirs.count(name) > 1} == {"missile", "sunglasses"}
    templates = open_clip_templates()
    assert len(set(templates)) == 80 and templates[0] == "a bad photo of a {}."
    assert all(template.count("{}") == 1 for template in templates)


def test_without_open_clip_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    for ask in (open_clip_templates, lambda: imagenet_classes("open_clip")):
        assert message_of(ask).endswith("which is not installed: pip install open_clip_torch")


@pytest.mark.parametrize(
    "text",
    [
        "tench\ngoldfish\nray",
        "tench\ngoldfish\nray\n",
        "tench\r\ngoldfish\r\nray\r\n\r\n",
        "\ufefftench\n goldfish\t\nray\n  \n\n",
    ],
)
def test_a_file_of_names(tmp_path, text):
    (tmp_path / "names").write_bytes(text.encode())
    assert read_class_names(tmp_path / "names") == ["tench", "goldfish", "ray"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"tench\n\nray\n", "line 2 is empty, and the lines are counted: it would name class 1, and 'ray' class 2"),
        (b"\ntench\nray\n", "line 1 is empty, and the lines are counted: it would name class 0, and 'tench' class 1"),
        (b"tench\n  \t\nray", "line 2 is empty"),
        ("tench\n\u3000\nray".encode(), "line 2 is empty"),
        ("tench\n\u200b\nray".encode(), "line 2 is empty"),
        (b"\n\n\nray", "line 1 is empty, and the lines are counted: it would name class 0, and 'ray' class 3"),
        (b"tench\n\n\nray", "line 2 is empty"),
        (b"", "has no names"),
        (b" \n\n", "has no names"),
        (" \n\u200b\n".encode(), "has no names"),
        ("caf\xe9\n".encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_a_file_that_leaves_a_class_without_a_name(tmp_path, content, message):
    (tmp_path / "names").write_bytes(content)
    with pytest.raises(ClipeduError) as error:
        read_class_names(tmp_path / "names")
    assert message in str(error.value) and str(tmp_path / "names") in str(error.value)


def test_line_breaks_inside_a_name_are_no_lines(tmp_path):
    (tmp_path / "names").write_text("a\u2028b\nc\x0cd\n", encoding="utf-8")
    assert len(read_class_names(tmp_path / "names")) == 2


def test_classes_of_one_name_are_told(tmp_path, caplog):
    (tmp_path / "names").write_text("crane\ntench\nCrane\nred  fox\nred fox\n")
    assert len(read_class_names(tmp_path / "names")) == 5
    assert [line.partition("names: ")[2] for line in caplog.messages] == [
        "classes 0 'crane' and 2 'Crane' cannot be told apart",
        "classes 3 'red  fox' and 4 'red fox' cannot be told apart",
    ]


def test_many_classes_of_one_name_take_few_lines():
    names = [f"n{index // 2}" for index in range(20)] + ["x"] * 5
    lines = same_names(dict(enumerate(map(list, names))), names)
    assert len(lines) == 3 and lines[-1] == "9 more groups of classes cannot be told apart"
    assert same_names(dict(enumerate(["a"] * 5)), "aaaaa") == [
        "classes 0 'a' and 1 'a' and 2 'a' and more cannot be told apart"
    ]
