"""Names of pictures that lead out of the folder, and pictures that do not decode."""

from __future__ import annotations

import pytest

from clipedu.data.sources.picture_files import UnusablePicture, locate, read_picture
from tests.helpers.shard_maker import encode, photo


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("in/a.JPG", "in/sub/b.png", "secret.jpg"):
        (tmp_path / name).write_bytes(encode(photo(0), name[-3:].lower()))
    return tmp_path / "in"


def test_names_inside_the_folder(folder):
    assert locate("a.JPG", folder) == locate("./a.JPG", folder) == "a.JPG"
    assert locate("sub//b.png", folder) == locate("./sub/./b.png", folder) == "sub/b.png"


@pytest.mark.parametrize(
    "name",
    [
        "../secret.jpg",
        "sub/../../secret.jpg",
        "sub/../a.JPG",
        "/etc/passwd.jpg",
        "..\\secret.jpg",
        "C:/x.jpg",
        "c:x.jpg",
        ".",
        "",
    ],
)
def test_names_that_lead_out_of_the_folder(folder, name):
    with pytest.raises(UnusablePicture, match="not a file inside the folder"):
        locate(name, folder)
    with pytest.raises(UnusablePicture, match="not a file inside the folder"):
        locate(str(folder / "a.JPG"), folder)


@pytest.mark.parametrize(
    "name, kind, why",
    [
        ("gone.jpg", "no such file", "no such file"),
        ("a.JPG/x.jpg", "no such file", "no such file"),
        ("x" * 300 + ".jpg", "no such file", "File name too long"),
        ("y/" * 4000 + "z.jpg", "no such file", "File name too long"),
        ("nul\0.jpg", "no such file", "null"),
        ("half\ud800.jpg", "no such file", "surrogate"),
        ("notes.txt", "not a jpg, jpeg, png, webp", "not a jpg"),
        ("a", "not a jpg, jpeg, png, webp", "not a jpg"),
        ("folder.jpg", "a folder or a device, not a file", "a folder"),
        ("empty.jpg", "zero bytes", "zero bytes"),
        ("gone-link.jpg", "a link to a file that is not there", "a link"),
        ("circle.jpg", "no such file", "symbolic links"),
    ],
)
def test_files_that_are_none(folder, name, kind, why):
    (folder / "folder.jpg").mkdir()
    (folder / "empty.jpg").touch()
    (folder / "gone-link.jpg").symlink_to("nowhere")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    with pytest.raises(UnusablePicture, match=why) as error:
        locate(name, folder)
    assert error.value.kind == kind


def test_links_are_followed(folder):
    (folder / "link.jpg").symlink_to(folder.parent / "secret.jpg")
    (folder / "elsewhere").symlink_to(folder.parent)
    assert locate("link.jpg", folder) == "link.jpg" and locate("elsewhere/secret.jpg", folder) == "elsewhere/secret.jpg"


def test_pictures_are_decoded(folder):
    assert read_picture(folder / "a.JPG") == (folder / "a.JPG").read_bytes()
    whole = encode(photo(1, 200, 200), "jpg")
    (folder / "cut.jpg").write_bytes(whole[:-500])
    with pytest.raises(UnusablePicture, match="image cannot be decoded") as error:
        read_picture(folder / "cut.jpg")
    assert error.value.kind == "does not decode"
    with pytest.raises(UnusablePicture, match="cannot be read .No such file") as error:
        read_picture(folder / "gone.jpg")
    assert error.value.kind == "cannot be read"
