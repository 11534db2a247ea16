"""Names of columns, and lists in cells."""

import pytest

from clipedu.data.sources.caption_columns import NoTexts, cell_texts, find_columns, is_image_name, listed


@pytest.mark.parametrize(
    "header, image, captions, split",
    [
        ("image,caption", 0, (1,), None),
        (" Caption , File Name ,SPLIT", 1, (0,), 2),
        ("image,caption,caption", 0, (1, 2), None),
        ("image,caption_1,caption_2,caption 3,Caption-4,caption.1", 0, (1, 2, 3, 4, 5), None),
        ("image_name,comment_number,comment", 0, (2,), None),
        ("raw,sentids,split,filename,img_id", 3, (0,), 2),
        ("file_name,text", 0, (1,), None),
        ("filepath,url,title,caption", 0, (3,), None),
        ('"image,"caption', 0, (1,), None),
    ],
)
def test_columns_are_found(header, image, captions, split):
    columns = find_columns(header.split(","))
    assert (columns.image, columns.captions, columns.split) == (image, captions, split) and not columns.repeated


def test_columns_that_are_not_there_twice_there_or_not_read():
    assert find_columns([]) is None and find_columns(["image"]) is None and find_columns(["caption"]) is None
    assert find_columns(["image", "IMAGE ", "caption"]).repeated == "image"
    assert find_columns(["split", "image", "caption", "Split"]).repeated == "split"
    columns = find_columns(["image", "Caption_DE", "captions", "title", ""])
    assert columns.unread == ("Caption_DE", "title") and columns.plural == {2}


@pytest.mark.parametrize(
    "cell, texts",
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', \"it's\"]", ["a", "it's"]),
        ("['a, b' 'c']", ["a, b", "c"]),  # as NumPy prints it; Python would read "a, bc"
        ("['a'\n 'b']", ["a", "b"]),
        ("('a', 'b')", ["a", "b"]),
        ("('a',)", ["a"]),
        ("[]", []),
        ('"["a", "b"]"', ["a", "b"]),  # in quotes, those inside not doubled
        ("[u'a', 'b\\'c', 'd\\d', ]", ["a", "b'c", "d\\d"]),
        ("[np.str_('a'), np.str_(\"it's\")]", ["a", "it's"]),  # as Python writes a list of NumPy's texts
        ("array(['a', 'b'], dtype=object)", ["a", "b"]),
        ("array(['a',\n       'b'], dtype='<U1')", ["a", "b"]),
        ("np.array(['a', 'b'])", ["a", "b"]),
        ("Index(['a', 'b'], dtype='object')", ["a", "b"]),
        ("a dog (['a'])", None),
        ("a dog", None),
        ("[laughs]", None),
        ("(a dog)", None),
        ("('a')", None),
        ("", None),
        ("[" * 100_000, None),
        ("['a', nan]", None),
        ("[__import__('os').system('true')]", None),
    ],
)
def test_lists(cell, texts):
    assert listed(cell) == texts


@pytest.mark.parametrize("cell", ['["a", null]', "[1, 2]", '[["a"]]', '{"en": "a"}'])
def test_no_lists_of_texts(cell):
    with pytest.raises(NoTexts):
        listed(cell)


@pytest.mark.parametrize(
    "cell",
    ['["a", "b', '"a", "b"]', "['a', nan]", '"["a", b"', "[ 'a"]
    + [
        "[{'raw': 'a'}, {'raw': 'b'}]",
        "{'raw': 'a'}",
        "{'a', 'b'}",
        "[['a'], ['b']]",
        "array(['a', ..., 'b'], dtype=object)",
    ]
    + ["[array(['a'], dtype=object)]", "array(['a', 'b'", "{'raw': 'a"],
)
def test_a_broken_list_is_no_caption_in_any_column(cell):
    with pytest.raises(NoTexts, match="broken"):
        cell_texts(cell, of_lists=False)


def test_brackets_are_text_unless_the_column_holds_lists():
    for cell in ("[laughs] loudly", "a dog [sic]", "[a dog, a cat]", "{x}", "[in Paris (1900)]"):
        assert cell_texts(cell, of_lists=False) == [cell]
        with pytest.raises(NoTexts):
            cell_texts(cell, of_lists=True)
    assert cell_texts("a [red] dog", of_lists=True) == ["a [red] dog"]


def test_image_names():
    assert all(map(is_image_name, ("a.jpg", " b c.JPEG ", "x/y.webp#3", '"q.png')))
    assert not any(map(is_image_name, ("a dog", "the end.", "jpg", "a.jpg b")))
