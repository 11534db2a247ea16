"""Captions in JSON: COCO's, Karpathy's, records and JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipedu.data.sources.caption_json import read_json_captions
from clipedu.utils.errors import ClipeduError

PATH = Path("captions.json")


def read(value):
    return read_json_captions(value if isinstance(value, str) else json.dumps(value), PATH)


def taken(table):
    return [(row.image, *row.captions, row.split) for row in table.rows]


def told(table):
    return list(map(str, table.left_out))


def test_coco():
    images = [{"id": number, "file_name": f"COCO_val2014_{number:012d}.jpg", "width": 6} for number in range(3)]
    captions = [{"image_id": number % 3, "id": number, "caption": f"caption {number}"} for number in range(15)]
    table = read({"info": {}, "licenses": [], "images": images, "annotations": captions})
    assert len(table.rows) == 15 and table.left_out == []
    assert [row.captions[0] for row in table.rows if row.image == images[1]["file_name"]] == [
        f"caption {number}" for number in (1, 4, 7, 10, 13)
    ]
    assert table.notes == ["no record has a split, so all are train"]


def test_coco_with_faults():
    images = [{"id": 1, "file_name": "1.jpg"}, {"id": "2", "file_name": "2.jpg"}, {"id": 3, "file_name": "3.jpg"}]
    images += [{"id": 1, "file_name": "x.jpg"}, 5, {"id": 9}, {"file_name": "y.jpg"}]
    captions = [{"image_id": 1, "caption": "a"}, {"image_id": 2, "caption": "b"}, {"image_id": 77, "caption": "q"}]
    captions += [{"image_id": 1, "caption": 5}, {"image_id": 1}, 4, {"image_id": [1], "caption": "c"}]
    table = read({"images": images, "annotations": captions})
    assert taken(table) == [("1.jpg", "a", "train"), ("2.jpg", "b", "train")]
    assert told(table) == [
        "image 4: x.jpg: two images have this id",
        "image 5: no image name or no id",
        "image 6: no image name or no id",
        "image 7: y.jpg: no image name or no id",
        "annotation 3: no image has its image_id",
        "annotation 4: 1.jpg: captions are no text and no list of texts",
        "annotation 5: 1.jpg: empty caption",
        "annotation 6: no image has its image_id",
        "annotation 7: no image has its image_id",
        "image 3: 3.jpg: no caption",
    ]


def test_coco_with_splits():
    images = [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg", "Split": "test"}]
    captions = [{"image_id": 1, "caption": "a", "split": "dev"}, {"image_id": 1, "caption": "b"}]
    captions += [{"image_id": 2, "caption": "c"}, {"image_id": 2, "caption": "d", "split": "train"}]
    table = read({"images": images, "annotations": captions})
    assert taken(table) == [("1.jpg", "a", "val"), ("2.jpg", "c", "test"), ("2.jpg", "d", "test")]
    assert "annotation 2: 1.jpg: no split" in told(table)[0] and table.notes == []


def test_karpathy():
    def item(name, split, *texts, **more):
        return {"filename": name, "split": split, "sentences": [{"raw": text, "tokens": []} for text in texts], **more}

    images = [
        item("a.jpg", "restval", *"12345", filepath="val2014", cocoid=3),
        item("b.jpg", "val", "x"),
        item("c.jpg", "test", "y", filepath=""),
        item("d.jpg", "train"),
        {"filename": "e.jpg", "split": "val", "sentences": [{"tokens": ["q"]}]},
        {"filename": "f.jpg", "split": "val"},
        {"filename": "g.jpg", "sentences": [{"raw": "z"}]},
        7,
    ]
    table = read({"images": images, "dataset": "coco"})
    assert taken(table) == [
        ("val2014/a.jpg", *"12345", "train"),
        ("b.jpg", "x", "val"),
        ("c.jpg", "y", "test"),
    ]
    assert [line.partition(". Allowed")[0] for line in told(table)] == [
        "image 4: d.jpg: empty caption",
        "image 5: e.jpg: captions are a list of something else than texts",
        "image 6: f.jpg: no caption",
        "image 7: g.jpg: no split",
        "image 8: is no JSON object",
    ]


def test_a_list_of_records():
    table = read(
        [
            {"image": "val2014/a.jpg", "image_id": "coco_1", "caption": "x"},
            {"file_name": "b.jpg", "Captions": ["x", "y"]},
            {"image": "c.jpg", "caption_1": "x", "caption_2": None, "caption_3": "z"},
            {"image": "d.jpg", "captions": '["x", "y"]'},
            {"image": 3, "caption": "x"},
            {"caption": "x"},
            ["a"],
            {"image": "e.jpg", "caption": "\ud800"},
            {"image": "f.jpg", "caption": {"en": "x"}},
            {"image": "g.jpg", "captions": ["x", ["y"]]},
            {"image": "h.jpg", "caption": None},
        ]
    )
    assert taken(table) == [
        ("val2014/a.jpg", "x", "train"),
        ("b.jpg", "x", "y", "train"),
        ("c.jpg", "x", "z", "train"),
        ("d.jpg", "x", "y", "train"),
    ]
    assert [line.partition(": ")[2] for line in told(table)] == [
        "its image name is no text",
        "no image name",
        "is no JSON object",
        "e.jpg: holds half a surrogate pair",
        "f.jpg: captions are no text and no list of texts",
        "g.jpg: captions are a list of something else than texts",
        "h.jpg: empty caption",
    ]


def test_a_record_without_a_split_among_others_with_one():
    table = read([{"image": "a.jpg", "caption": "x", "split": "dev"}, {"image": "b.jpg", "caption": "y"}])
    assert taken(table) == [("a.jpg", "x", "val")] and "b.jpg: no split" in told(table)[0]
    assert "split is no text" in told(read([{"image": "a.jpg", "caption": "x", "split": 1}]))[0]


def test_keys_with_other_captions_are_named():
    table = read([{"image": "a.jpg", "caption": "x", "text": "y", "width": 6}, {"image": "b.jpg", "text": "z"}])
    assert taken(table) == [("a.jpg", "x", "train"), ("b.jpg", "z", "train")] and "not read: text" in table.notes
    table = read(
        '{"image": "a.jpg", "title": "x", "description": "y"}\n{"image": "b.jpg", "title": "x", "comments": ["y"]}'
    )
    assert "not read: description, comments" in table.notes


def test_a_key_that_stands_twice_loses_no_text():
    table = read('[{"image": "a.jpg", "caption": "x", "caption": "y"}, {"image": "b.jpg", "caption": "z"}]')
    assert taken(table) == [("b.jpg", "z", "train")] and told(table) == ["item 1: a.jpg: a key stands twice in it"]
    twice = '{"images": [{"filename": "a.jpg", "sentences": [{"raw": "x", "raw": "y"}]}]}'
    assert "a key stands twice" in told(read(twice))[0]
    with pytest.raises(ClipeduError, match="has a key twice"):
        read('{"images": [], "images": []}')


def test_json_lines():
    table = read(
        '{"file_name": "a.jpg", "text": "x\u2028y"}\r\n\n{"file_name": "b.jpg", "text": "x", "text": "y"}\nbroken\n'
        '{"file_name": "c.jpg", "text": "z"}'
    )
    assert taken(table) == [("a.jpg", "x\u2028y", "train"), ("c.jpg", "z", "train")]
    assert told(table) == ["line 3: b.jpg: a key stands twice in it", "line 4: is no JSON object"]
    assert taken(read('{"file_name": "a.jpg", "text": "x"}\n')) == [("a.jpg", "x", "train")]
    assert len(read('broken\n{"image": "a.jpg", "caption": "x"}\n{"image": "b.jpg", "caption": "x"}').rows) == 2


@pytest.mark.parametrize(
    "text, message",
    [
        (json.dumps({"images": [{"id": 1}] * 9, "annotations": [{"image_id": 1, "bbox": []}] * 9}), "instances_"),
        (json.dumps({"images": {}, "annotations": []}), '"images" and "annotations" must be lists'),
        (json.dumps({"annotations": [{"image_id": 1, "caption": "x"}]}), "must be lists"),
        (json.dumps({f"key {number}" * 9: number for number in range(9999)}), "is an object with key 0"),
        ("{}", "is an object with no keys. Forms that are read"),
        (json.dumps({"images": [{"id": 1, "file_name": "1.jpg"}] * 10**4}, indent=1)[:-9], "is none: Expecting"),
        ('{"images": [' + "x" * 10**6, "is none: Expecting value at line 1, column 13"),
        ("[" * 10**6, "nested too deeply"),
        ('[{"image": "a.jpg", "caption": ' + "1" * 6000 + "}]", "a number is too long"),
    ],
)
def test_json_that_cannot_be_read_is_a_short_message(text, message):
    with pytest.raises(ClipeduError, match=message) as error:
        read(text)
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def test_nothing_in_it():
    assert read("[]").rows == [] and len(read('["a", "b"]').left_out) == 2
    assert "no caption" in told(read({"images": [{"id": 1, "file_name": "1.jpg"}]}))[0]
