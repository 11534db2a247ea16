"""Tables of captions: no text is lost, cut or joined to another row's without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipedu.data.sources.caption_tables import read_table
from clipedu.utils.errors import ClipeduError

PATH = Path("captions.csv")


def taken(table):
    return [(row.image, *row.captions) for row in table.rows]


def read(text):
    return taken(read_table(text, PATH))


@pytest.mark.parametrize("separator", "\t,;|")
def test_a_quote_that_never_closes_swallows_no_row(separator):
    good = [f"{number}.jpg,caption {number}" for number in range(50)]
    for place in (0, 25, 49):
        for caption in ('"a', '"', '"Stop" sign', '12" pizza', '"a ""b'):
            rows = [*good[:place], f"bad.jpg,{caption}", *good[place:], 'q.jpg,"true, ""quoted""\n\nlines"', 'z.jpg,5"']
            table = read_table("\n".join(["filepath,title", *rows]).replace(",", separator), PATH)
            found = dict(taken(table))
            assert len(found) == 53 and table.left_out == []
            assert found["bad.jpg"] == caption and found["z.jpg"] == '5"'
            assert found["q.jpg"] == 'true, "quoted"\n\nlines'.replace(",", separator)
            assert all(found[f"{number}.jpg"] == f"caption {number}" for number in range(50))
            assert any("never closes" in note for note in table.notes) == (caption.count('"') % 2 and caption[0] == '"')


@pytest.mark.parametrize(
    "text, expected",
    [
        ('caption,image\n"a,0.jpg\nb,1.jpg\nc 2",2.jpg\n"d\ne, f",3.jpg\n', "d\ne, f"),
        ('image,caption,split\n0.jpg,"a,train\n1.jpg,b,train\n2.jpg,c 5",val\n3.jpg,"d\ne, f",val\n', "d\ne, f"),
        ('id,image,caption\n0,0.jpg,"a\n1,1.jpg,b\n2,2.jpg,c 5"\n3,3.jpg,"d\n4, f"\n', "d\n4, f"),
    ],
)
def test_columns_in_another_order(text, expected):
    assert [row[0] for row in read(text)] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert read(text)[0] == ("0.jpg", '"a') and read(text)[3] == ("3.jpg", expected)


def test_rows_with_more_cells():
    table = read_table(
        'image,caption\n0.jpg,a red bus, a car\n1.jpg,x,,\n2.jpg,"Stop", he said\n3.jpg,a,,b\n,,,\n', PATH
    )
    assert taken(table) == [
        ("0.jpg", "a red bus, a car"),
        ("1.jpg", "x"),
        ("2.jpg", '"Stop", he said'),
        ("3.jpg", "a,,b"),
    ]
    assert table.left_out == [] and any(
        "more cells than the header: 3, the first is row 2" in note for note in table.notes
    )
    table = read_table("caption,image\na red bus, a car,0.jpg\nx,1.jpg\n", PATH)
    assert taken(table) == [("1.jpg", "x")] and str(table.left_out[0]) == "row 2: a car: 3 cells, the header has 2"
    table = read_table("image,caption,split\n0.jpg,a red bus, a car,train\n1.jpg,x,train,\n", PATH)
    assert taken(table) == [("1.jpg", "x")] and str(table.left_out[0]) == "row 2: 0.jpg: 4 cells, the header has 3"
    assert str(read_table("image,caption,caption\n0.jpg,a,b,c\n", PATH).left_out[0]).endswith(
        "4 cells, the header has 3"
    )


def test_rows_with_fewer_cells():
    table = read_table("image,caption,split\n0.jpg,x\n1.jpg\n2.jpg,y,val\n", PATH)
    assert taken(table) == [("2.jpg", "y")]
    assert list(map(str, table.left_out)) == [
        "row 2: 0.jpg: 2 cells, the header has 3",
        "row 3: 1.jpg: 1 cell, the header has 3",
    ]
    table = read_table("image,caption\n0.jpg,a red\nbus\n1.jpg\n", PATH)
    assert taken(table) == [("0.jpg", "a red")]
    assert list(map(str, table.left_out)) == [
        "row 3: bus: 1 cell, the header has 2 (if the caption above goes on here, put it in quotes)",
        "row 4: 1.jpg: 1 cell, the header has 2",
    ]
    several = "image,caption_1,caption_2,caption_3\n0.jpg,a,b,c\n1.jpg,a\n2.jpg\n"
    assert read(several) == [("0.jpg", "a", "b", "c"), ("1.jpg", "a")]  # fewer captions, not fewer cells
    assert str(read_table(several, PATH).left_out[0]) == "row 4: 2.jpg: 1 cell, the header has 4"


@pytest.mark.parametrize(
    "header",
    ["image,caption,caption", "Image,Caption 1,Caption 2", "file_name;caption_1;caption_2", "image|captions|captions"],
)
def test_captions_in_several_columns(header):
    separator = next(mark for mark in ",;|" if mark in header)
    assert read(f"{header}\n0.jpg,a,b\n1.jpg,,c\n".replace(",", separator)) == [("0.jpg", "a", "b"), ("1.jpg", "c")]


def test_lists_of_captions():
    rows = [
        '"[""a"", ""b""]"',
        "\"['a', 'b']\"",
        "\"['a' 'b']\"",
        '["a", "b"]',
        '"[""a"", ""b"',
        "plain",
        '"[1]"',
        "[]",
    ]
    table = read_table("image,captions\n" + "".join(f"{i}.jpg,{row}\n" for i, row in enumerate(rows)), PATH)
    assert taken(table) == [(f"{number}.jpg", "a", "b") for number in range(4)] + [("5.jpg", "plain")]
    assert [row.kind for row in table.left_out] == [
        "captions are a broken list",
        "captions are a list of something else than texts",
        "empty caption",
    ]
    assert read('image,caption\n0.jpg,[laughs]\n1.jpg,a [sic]\n2.jpg,"[""a"", ""b""]"\n')[2] == ("2.jpg", "a", "b")
    mostly = 'raw\tfilename\n["a", "b"]\t0.jpg\n["a", "b"]\t1.jpg\n[a, b]\t2.jpg\n'
    assert len(read(mostly)) == 2 and "row 4: 2.jpg: captions are a broken list" in str(
        read_table(mostly, PATH).left_out[0]
    )


def test_what_is_read_is_said():
    table = read_table("url,image,title,caption_1,Caption 2\nu,0.jpg,t,a,b\n", PATH)
    assert table.notes == [
        "read: image from 'image', captions from 'caption_1, Caption 2'; no column 'split', so all rows are train",
        "not read: url, title",
    ]
    assert read_table("image,caption,split\n0.jpg,a,val\n", PATH).notes == [
        "read: image from 'image', captions from 'caption', split from 'split'"
    ]


def test_splits():
    words = ["train", "restval", "Validation", "dev", "TEST", "train2014"]
    table = read_table("image,caption,split\n" + "".join(f"{i}.jpg,x,{word}\n" for i, word in enumerate(words)), PATH)
    assert [row.split for row in table.rows] == ["train", "train", "val", "val", "test", "train"]


def test_separators():
    assert read("image;caption\n0.jpg;a, b, c\n") == [("0.jpg", "a, b, c")]
    assert read('"image","caption"\n"0.jpg","a|b;c"\n') == [("0.jpg", "a|b;c")]
    assert read("image\tcaption\n0.jpg\ta, b | c\n") == [("0.jpg", "a, b | c")]
    assert read("sep=;\r\nimage;caption\r\n0.jpg;a, b\r\n") == [("0.jpg", "a, b")]
    assert read("image,caption\n0.jpg,a;3|x\ty\n") == [("0.jpg", "a;3|x\ty")]
    assert read('"ima;ge";image;caption\nx;0.jpg;a, b\n') == [("0.jpg", "a, b")]


def test_row_numbers_and_line_ends():
    table = read_table('\ufeff\r\nimage,caption\r\n\r\n0.jpg,"a\r\nb"\r\n1.jpg,\r\n', PATH)
    assert taken(table) == [("0.jpg", "a\r\nb")] and str(table.left_out[0]) == "row 5: 1.jpg: empty caption"
    assert read("image,caption\r0.jpg,a\r1.jpg,b") == [("0.jpg", "a"), ("1.jpg", "b")]
    assert read("image,caption\n0.jpg,a\u2028b\n") == [("0.jpg", "a\u2028b")]


def test_files_of_flickr():
    flickr8k = '1.jpg#0\tA child , "pink" dress .\n1.jpg#1\t"A girl\n2.jpg.1#0\tno such name\n2.jpg#4\ta\tb\n'
    assert read(flickr8k) == [
        ("1.jpg", 'A child , "pink" dress .'), ("1.jpg", '"A girl'), ("2.jpg.1", "no such name"), ("2.jpg", "a\tb")
    ]  # fmt: skip
    assert read_table(flickr8k, PATH).rows[0].where == "row 1"
    flickr30k = 'image_name| comment_number| comment\n1.jpg| 0| Two "young" guys .\n1.jpg| 1| "Bob" runs | fast\n2.jpg| 4   A dog\n'
    table = read_table(flickr30k, PATH)
    assert taken(table) == [("1.jpg", 'Two "young" guys .'), ("1.jpg", '"Bob" runs | fast')]
    assert str(table.left_out[0]) == "row 4: 2.jpg: 2 cells, the header has 3"


@pytest.mark.parametrize(
    "text, told",
    [
        ("0.jpg,a dog\n1.jpg,b\n", "has no header: its first line is '0.jpg,a dog'. Put one above"),
        ("0.jpg\ta dog\n1.jpg\tb\n", "has no header"),
        ("a dog;0.jpg\n", "has no header"),
        ("image\n0.jpg\n", "has the columns image: one of them must be called caption"),
        ("image caption\n0.jpg a\n", "has the columns image caption: one of them must be called image"),
        ("image,image,caption\na,b,c\n", "has two columns 'image'"),
        ("image,caption,split,Split\na,b,c,d\n", "has two columns 'split'"),
        ("", r"has the columns \(none\)"),
        ("\n \n", r"has the columns \(none\)"),
        ("a," * 10**5, "has the columns a, a,"),
        ("x.jpg" * 10**5, "has no header: its first line is 'x.jpgx"),
    ],
)
def test_tables_that_cannot_be_read(text, told):
    with pytest.raises(ClipeduError, match=told) as error:
        read_table(text, PATH)
    assert len(str(error.value)) < 400
