"""What goes wrong on the way, on the real path: the hub's own client, a hub on loopback that misbehaves, real processes killed."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from clipedu.data.sources import hub_files as remote
from clipedu.data.sources.fetching import fetch
from clipedu.utils.errors import ClipeduError
from tests.helpers.fetching import REPOSITORY, SHARDS, command, contents, make_repository, serving, there, write_birds
from tests.helpers.hub_server import Fault, serve_hub

ONE = SHARDS[1]  # the shard that things happen to


@pytest.fixture
def home(home, monkeypatch):
    monkeypatch.setattr(remote, "WAITS", (0.01, 0.01, 0.01))
    return home


def only(fault: Fault, times: int = 10**9):
    """This fault for the first requests for one shard; everything else goes well."""
    return lambda request: fault if request.path.endswith(ONE) and request.number <= times else None


def starts(seen: list[str], name: str = ONE) -> list[int]:
    """The bytes from which a shard was asked for, in order."""
    found = [re.search(f"{re.escape(name)}(?: from (\\d+))?$", request) for request in seen if "/resolve/" in request]
    return [int(match[1] or 0) for match in found if match]


def nothing_in_place(home: Path) -> bool:
    return not list(home.glob("birds/*.tar")) and not (home / "birds" / "fetched.json").exists()


@pytest.mark.parametrize("at", [0, 1, 511, 512, 1537, 4000, -1])
def test_cut_at_any_byte(root, home, birds, monkeypatch, at):
    """The second connection asks for exactly what is missing."""
    at = at % len(there(root)[ONE])
    with serving(root, monkeypatch, only(Fault(cut=at), times=1)) as seen:
        done = fetch(birds, progress=False)
    assert contents(home / "birds") == there(root) and starts(seen) == [0, at]
    assert done.transferred == sum(map(len, there(root).values()))  # nothing came twice


def test_cut_again_and_again(root, home, birds, monkeypatch):
    """As long as something comes, it goes on: more cuts than there are waits."""
    with serving(root, monkeypatch, only(Fault(cut=700))) as seen:
        fetch(birds, progress=False)
    assert contents(home / "birds") == there(root)
    assert starts(seen) == list(range(0, len(there(root)[ONE]), 700)) and len(starts(seen)) > 5


def test_a_dead_line_is_given_up_and_what_came_is_kept(root, home, birds, monkeypatch):
    with serving(root, monkeypatch, lambda r: only(Fault(cut=700 if r.number == 1 else 0))(r)) as seen:
        with pytest.raises(ClipeduError, match=f"{REPOSITORY} cannot be fetched .*the same command continues"):
            fetch(birds, progress=False)
        assert starts(seen) == [0, 700, 700, 700, 700] and nothing_in_place(home)
    left = sum(map(len, there(root).values())) - sum(part_sizes(home))
    with serving(root, monkeypatch) as seen:  # as in another process: only the rest, and no whole file again
        monkeypatch.setattr("clipedu.utils.disk_space.free_bytes", lambda folder: left - 1)
        with pytest.raises(ClipeduError, match="birds needs .* more, and the disk of"):
            fetch(birds, progress=False)
        monkeypatch.setattr("clipedu.utils.disk_space.free_bytes", lambda folder: left)
        assert fetch(birds, progress=False).transferred == left
    assert contents(home / "birds") == there(root) and starts(seen) == [700]


def test_wrong_bytes_once(root, home, birds, monkeypatch):
    def flip(body: bytes) -> bytes:
        return body[:1000] + bytes([body[1000] ^ 1]) + body[1001:]

    with serving(root, monkeypatch, only(Fault(body=flip), times=1)) as seen:
        fetch(birds, progress=False)
    assert contents(home / "birds") == there(root) and starts(seen) == [0, 0]


@pytest.mark.parametrize(
    "body", [lambda body: b"x" + body[1:], lambda body: b"<html>log in to the hotel's network</html>" * 999]
)
def test_wrong_bytes_always(root, home, birds, monkeypatch, body):
    with serving(root, monkeypatch, only(Fault(body=body, ignore_range=True))) as seen:
        with pytest.raises(ClipeduError, match=f"{ONE} .* arrived 2 times with other contents"):
            fetch(birds, progress=False)
        assert starts(seen) == [0, 0] and nothing_in_place(home)
    with serving(root, monkeypatch):
        fetch(birds, progress=False)
    assert contents(home / "birds") == there(root)


def test_too_few_bytes(root, home, birds, monkeypatch):
    """A proxy that says the file is over, politely."""
    refused = pytest.raises(ClipeduError, match=f"gives no more than \\d+ of {len(there(root)[ONE])} bytes")
    with serving(root, monkeypatch, only(Fault(body=lambda body: body[:-9]))), refused:
        fetch(birds, progress=False)
    assert nothing_in_place(home)


def test_too_many_bytes(root, home, birds, monkeypatch):
    with serving(root, monkeypatch, only(Fault(body=lambda body: body + b"more" * 99))):
        fetch(birds, progress=False)
    assert contents(home / "birds") == there(root)


def test_a_server_that_knows_no_ranges(root, home, birds, monkeypatch):
    """The whole file, whatever was asked for: not appended to what is there."""

    def fault(request):
        if request.path.endswith(ONE):
            return Fault(cut=900, ignore_range=True) if request.number == 1 else Fault(ignore_range=True)

    with serving(root, monkeypatch, fault) as seen:
        fetch(birds, progress=False)
    assert contents(home / "birds") == there(root) and starts(seen) == [0, 900]


@pytest.mark.parametrize("begun", [b"rubbish" * 40, b"rubbish" * 4000])
def test_a_beginning_that_is_rubbish(root, home, birds, monkeypatch, begun):
    """Found by the checksum, or by being too long."""
    with serving(root, monkeypatch):
        file = remote.list_files(REPOSITORY, "main")[ONE]
        partial = home / "birds" / ".partial"
        partial.mkdir(parents=True)
        (partial / f"{file.staged}.part").write_bytes(begun)
        fetch(birds, progress=False)
    assert contents(home / "birds") == there(root)


@pytest.mark.parametrize("where", ["/resolve/", "/api/"])
def test_server_errors_then_recovery(root, home, birds, monkeypatch, where):
    def fault(request):
        return Fault(status=(500, 503)[request.number - 1]) if where in request.path and request.number <= 2 else None

    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the hub's client waits seconds for the listing
    with serving(root, monkeypatch, fault) as seen:
        fetch(birds, progress=False)
    assert contents(home / "birds") == there(root) and len([request for request in seen if where in request]) >= 3


def test_server_errors_for_ever(root, home, birds, monkeypatch):
    with serving(root, monkeypatch, only(Fault(status=503))) as seen:
        with pytest.raises(ClipeduError, match="the hub answers 503: what has arrived is kept, try again later"):
            fetch(birds, progress=False)
        assert len(starts(seen)) == 4 and nothing_in_place(home)


def test_too_many_requests_waits_as_long_as_the_hub_says(root, home, birds, monkeypatch):
    times = []

    def fault(request):
        if request.path.endswith(ONE):
            times.append(time.monotonic())
            return Fault(status=429, headers={"Retry-After": "2"}) if request.number == 1 else None

    with serving(root, monkeypatch, fault):
        fetch(birds, progress=False)
    assert len(times) == 2 and times[1] - times[0] >= 2
    assert contents(home / "birds") == there(root)


def test_a_line_that_goes_quiet(root, home, birds, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    with serving(root, monkeypatch, only(Fault(cut=700, pause=2), times=1)) as seen:
        fetch(birds, progress=False)
    assert contents(home / "birds") == there(root) and starts(seen) == [0, 700]


def test_redirected_to_another_host(root, home, birds, monkeypatch):
    """As the hub does with large files: the byte range goes along, the token does not."""
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    elsewhere, tokens = [], []

    def fault_there(request):
        tokens.append({key.lower() for key in request.headers})
        return Fault(cut=700) if request.number == 1 else None

    with serve_hub(root, fault_there) as (other, seen):
        port = other.rpartition(":")[2]

        def fault(request):
            if request.path.endswith(ONE):
                elsewhere.append("authorization" in {key.lower() for key in request.headers})
                return Fault(status=302, headers={"Location": f"http://localhost:{port}{request.path}"})

        with serving(root, monkeypatch, fault):
            fetch(birds, progress=False)
        assert starts(seen) == [0, 700] and not any("authorization" in sent for sent in tokens) and all(elsewhere)
    assert contents(home / "birds") == there(root)


GATED = {"X-Error-Code": "GatedRepo"}
ANSWERS = [
    (
        Fault(status=401, headers=GATED),
        "is gated: accept its terms on .*/datasets/owner/wds_birds, then log in .*hf auth login",
    ),
    (Fault(status=403, headers=GATED), "is gated: accept its terms"),
    (Fault(status=403), "is gated: accept its terms"),
    (Fault(status=401), "is gated, private or gone: see .*hf auth login"),
    (Fault(status=404, headers={"X-Error-Code": "RepoNotFound"}), "is not on http://127.0.0.1:.*removed or renamed"),
    (
        Fault(status=404, headers={"X-Error-Code": "RevisionNotFound"}),
        "no longer has the revision that the manifest pins",
    ),
    (Fault(status=404, headers={"X-Error-Code": "EntryNotFound"}), f"no longer has this file: http.*{ONE}"),
    (Fault(status=404), "the hub answers 404"),
]


@pytest.mark.parametrize("fault, told", ANSWERS)
def test_refusals_are_told_at_once(root, home, birds, monkeypatch, fault, told):
    with serving(root, monkeypatch, only(fault)) as seen:
        with pytest.raises(ClipeduError, match=told) as error:
            fetch(birds, progress=False)
        assert len(starts(seen)) == 1 and nothing_in_place(home)  # no second try
    assert "\n" not in str(error.value) and REPOSITORY in str(error.value)


def test_a_token_without_rights_is_told_apart(root, home, birds, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    tokens = []

    def fault(request):
        tokens.append(request.headers.get("authorization") or request.headers.get("Authorization"))
        return only(Fault(status=403, headers=GATED))(request)

    with serving(root, monkeypatch, fault), pytest.raises(ClipeduError, match="the token that is set may not") as error:
        fetch(birds, progress=False)
    assert "Bearer hf_abc" in tokens and "hf_abc" not in str(error.value)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"hub": "owner/gone"}, "owner/gone is not on"),
        ({"hub": "no name at all"}, "is no name of a repository"),
        ({"revision": "9" * 40}, "no longer has the revision"),
        ({"train": ("birds-train-77.tar",)}, "the repository has no file 'birds-train-77.tar'.*the set has changed"),
    ],
)
def test_a_manifest_that_the_hub_knows_nothing_of(root, home, tmp_path, monkeypatch, change, told):
    with serving(root, monkeypatch), pytest.raises(ClipeduError, match=told):
        fetch(write_birds(tmp_path / "wrong.toml", **change), progress=False)
    assert not home.exists()


def test_no_way_to_the_hub(home, birds, monkeypatch):
    from huggingface_hub import constants

    with pytest.raises(ClipeduError, match="HF_HUB_OFFLINE is set"):
        fetch(birds, progress=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ClipeduError, match="http://127.0.0.1:9 cannot be reached"):
        fetch(birds, progress=False)
    assert not home.exists()


def test_a_hub_that_lists_a_way_out(root, home, tmp_path, monkeypatch):
    """A file name with .. in the repository's listing, matched by a pattern."""
    listing = json.dumps([{"type": "file", "path": "test/../../../out.tar", "size": 3, "oid": "0" * 40}]).encode()
    manifest = write_birds(tmp_path / "out.toml", train=("test/*.tar",))

    def fault(request):
        return Fault(body=lambda _: listing) if "/tree/" in request.path else None

    with serving(root, monkeypatch, fault), pytest.raises(ClipeduError, match="no name of a file inside the set"):
        fetch(manifest, progress=False)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The same repository with shards of about 80 kB."""
    root = tmp_path_factory.mktemp("large")
    make_repository(root, side=160)
    return root


def part_sizes(home: Path) -> list[int]:
    return [path.stat().st_size for path in home.glob("birds/.partial/*") if path.name != "lock"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_the_same_command_goes_on(large, tmp_path, birds, monkeypatch, how):
    home = tmp_path / "home"
    with serve_hub(large, lambda request: Fault(pause=0.15) if "/resolve/" in request.path else None) as (endpoint, _):
        words, environment = command(endpoint, home, "fetch", str(birds))
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while sum(part_sizes(home)) < 60_000:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.02)
        process.send_signal(how)
        process.communicate(timeout=60)
    assert process.returncode != 0 and nothing_in_place(home)
    kept = sum(part_sizes(home))
    assert kept >= 60_000
    monkeypatch.setenv("CLIPEDU_DATA", str(home))
    with serving(large, monkeypatch) as seen:
        done = fetch(birds, progress=False)
    assert contents(home / "birds") == there(large)
    assert done.transferred == sum(map(len, there(large).values())) - kept
    assert any(start > 0 for name in SHARDS for start in starts(seen, name))


def test_disk_full(large, tmp_path, birds, monkeypatch):
    """The kernel refuses to let files grow beyond 50 kB: what came is kept, and with room the same command goes on."""
    home = tmp_path / "home"

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    with serve_hub(large) as (endpoint, _):
        words, environment = command(endpoint, home, "fetch", str(birds))
        done = subprocess.run(words, env=environment, capture_output=True, text=True, preexec_fn=limit, timeout=120)
    last = done.stderr.strip().splitlines()[-1]
    assert (
        done.returncode == 1
        and last.startswith("clipedu: ")
        and "File too large" in last
        and "command continues" in last
    ), last
    assert "Traceback" not in done.stderr and nothing_in_place(home) and max(part_sizes(home)) == 50_000
    kept = sum(part_sizes(home))
    monkeypatch.setenv("CLIPEDU_DATA", str(home))
    with serving(large, monkeypatch):
        assert fetch(birds, progress=False).transferred == sum(map(len, there(large).values())) - kept
    assert contents(home / "birds") == there(large)
