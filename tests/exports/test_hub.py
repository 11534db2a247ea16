"""Publishing, against a stand-in hub on loopback: the real client, over HTTP."""

import pytest
from huggingface_hub import constants

from clipedu import ClipeduError
from clipedu.exports.hub import check_hub, push
from tests.helpers.fetching import serving
from tests.helpers.hub_server import Fault

pytestmark = pytest.mark.xdist_group("exports")
CLOSED = "http://127.0.0.1:9"  # nothing listens there


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "README.md").write_text("here")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "sub").mkdir()
    (folder / "sub/config.json").write_text("{}")
    return folder


def test_one_commit(folder, token, tmp_path, monkeypatch):
    with serving(tmp_path / "hub", monkeypatch) as seen:
        assert check_hub("me/x") is False
        page = push(folder, "me/x", changed={"README.md": "there"}, private=True)
        assert check_hub("me/x") is check_hub("me/x", private=True) is True
        push(folder, "me/x", changed={})  # again: a further commit
        assert page == f"{constants.ENDPOINT}/me/x"
    there = {
        path.relative_to(tmp_path / "hub/me/x").as_posix(): path.read_bytes()
        for path in (tmp_path / "hub").rglob("*.*")
    }
    assert there == {
        "README.md": b"here",
        "model.safetensors": (folder / "model.safetensors").read_bytes(),
        "sub/config.json": b"{}",
    }
    assert sum("/commit/main" in request for request in seen) == 2 and "POST /api/repos/create" in seen


def test_a_public_one_does_not_become_private(folder, token, tmp_path, monkeypatch):
    with serving(tmp_path / "hub", monkeypatch):
        push(folder, "me/x", changed={"README.md": "there"})
        assert (tmp_path / "hub/me/x/README.md").read_text() == "there"
        with pytest.raises(ClipeduError, match="me/x is there already, and public"):
            check_hub("me/x", private=True)


@pytest.mark.parametrize("name", ["x", "a/b/c", "me/", "me/x y", "me/..x", "", "/x"])
def test_no_name_of_a_repository(name, token):
    with pytest.raises(ClipeduError, match="is no name of a repository: .*Give OWNER/NAME$") as caught:
        check_hub(name)
    assert len(str(caught.value).splitlines()) == 1


def test_offline_no_token_no_network(token, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ClipeduError, match="^me/x cannot be published: HF_HUB_OFFLINE is set, unset it$"):
        check_hub("me/x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", CLOSED)
    with pytest.raises(
        ClipeduError, match=f"^me/x cannot be published: {CLOSED} cannot be reached, check the network$"
    ):
        check_hub("me/x")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ClipeduError, match="^me/x cannot be published without a token: hf auth login, or set HF_TOKEN"):
        check_hub("me/x")


def test_whose_token_it_is(token, tmp_path, monkeypatch):
    with serving(tmp_path / "hub", monkeypatch):
        assert check_hub("our-lab/x") is check_hub("Me/x") is False
        with pytest.raises(
            ClipeduError,
            match="^you/x cannot be published: the token is of 'me', who .* Give me/x, or a name of our-lab$",
        ):
            check_hub("you/x")
        monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
        with pytest.raises(
            ClipeduError, match="^me/x cannot be published: the hub does not know this token: hf auth login"
        ):
            check_hub("me/x")


def test_what_the_hub_refuses(folder, token, tmp_path, monkeypatch):
    broken = {"/api/models/me/full/preupload/main": Fault(status=507)}
    broken |= {f"/api/models/me/{status}/commit/main": Fault(status=status) for status in (404, 409)}
    broken["/api/models/me/cut/commit/main"] = Fault(cut=0)
    stored: list[Fault] = []  # of large files

    def fault(request):
        return stored[0] if stored and request.path.startswith("/stored/") else broken.get(request.path)

    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client tries again
    with serving(tmp_path / "hub", monkeypatch, fault):
        for name, said in (
            ("404", r"the hub answers 404 \(.*\): it was removed on the way, or HF_ENDPOINT is no hub$"),
            ("409", r"the hub answers 409 \(.*\): it is changed by another one at this moment, try again$"),
            ("cut", r"the connection failed \(.*\): try again$"),
        ):
            with pytest.raises(ClipeduError, match=f"^me/{name} cannot be published: {said}"):
                push(folder, f"me/{name}", changed={})
        for wrong, said in (
            (Fault(status=403), "this token may not write there"),
            (Fault(status=500), r"the hub answers 500 \(.*\): the fault is the hub's, try again later$"),
            (Fault(cut=100), r"the connection failed \(.*\): try again$"),
        ):
            stored[:] = [wrong]
            with pytest.raises(ClipeduError, match=f"^me/x cannot be published: {said}"):
                push(folder, "me/x", changed={})
        stored.clear()
        with pytest.raises(ClipeduError, match="^you/x cannot be published: this token may not write there: .*'you'"):
            push(folder, "you/x", changed={})
        with pytest.raises(ClipeduError, match="^me/full cannot be published: the hub answers 507"):
            push(folder, "me/full", changed={})
        monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
        with pytest.raises(
            ClipeduError, match="^me/x cannot be published: the hub does not know this token: hf auth login"
        ):
            push(folder, "me/x", changed={})
