"""A stand-in for the Hugging Face hub on loopback: serves folders under a root as repositories.

`OWNER/NAME` or `NAME` are models, `datasets/OWNER/NAME` are data sets. Real clients (huggingface_hub, timm, transformers) talk to it
over HTTP through `HF_ENDPOINT`; nothing is mocked. Models can be published by who has the token `TOKEN`, under the name `OWNER`. What can
go wrong on the way is a `fault`:

    def fault(request):                       # called for each request for a file; None lets it pass
        return Fault(cut=1000) if request.number == 1 else None
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN, OWNER, LAB = "hf_of_a_test", "me", "our-lab"  # who may publish, under these two names
REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Request:
    """A request: its method and path, the byte it asks for first, which one it is for this path (from 1), its headers."""

    method: str
    path: str
    start: int
    number: int
    headers: dict[str, str]


@dataclass
class Fault:
    """What goes wrong: an answer with another status, a connection cut after so many bytes of body, other bytes, a slow line."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    body: Callable[[bytes], bytes] = bytes
    ignore_range: bool = False
    pause: float = 0.0  # seconds after each 16 kB


def client_settings(endpoint: str, home: Path) -> dict[str, str]:
    """Environment variables of a process whose client talks to this hub alone and keeps its files in `home`."""
    online = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    return online | {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}


@contextmanager
def serve_hub(
    root: Path, fault: Callable[[Request], Fault | None] = lambda request: None, commits: tuple = (REVISION,)
):
    """Serve `root`; yields the endpoint and the list of requests it has seen.

    Args:
        fault: see above; also asked for requests to the API.
        commits: newest first.
    """
    seen: list[str] = []
    counts: dict[str, int] = {}
    stored: dict[str, bytes] = {}  # large files, by their SHA-256
    hidden: set[str] = set()  # private repositories
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = unquote(urlsplit(self.path).path)
            start = int(match[1]) if (match := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
            with lock:
                seen.append(f"{self.command} {path}" + (f" from {start}" if start else ""))
                counts[path] = counts.get(path, 0) + 1
                number = counts[path]
            wrong = fault(Request(self.command, path, start, number, dict(self.headers))) or Fault()
            if wrong.status:
                return self.answer(wrong.status, b"refused", wrong.headers)
            if path.startswith("/api/"):
                return self.api(path, wrong)
            name, _, rest = path.strip("/").partition("/resolve/")
            file = root / name / rest.partition("/")[2]
            if not (root / name).is_dir():
                return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            if not file.is_file():
                return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": REVISION})
            body = file.read_bytes()
            headers = {"X-Repo-Commit": REVISION, "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
            status = 200
            if start and not wrong.ignore_range:
                if start >= len(body):
                    return self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                status, body = 206, body[start:]
            self.answer(status, wrong.body(body), headers, wrong)

        do_HEAD = do_GET

        def do_POST(self):
            """What an upload asks: to make a repository, which files are large, where they go, and the commit."""
            path, body = unquote(urlsplit(self.path).path), self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                seen.append(f"{self.command} {path}")
                counts[path] = counts.get(path, 0) + 1
            wrong = fault(Request(self.command, path, 0, counts[path], dict(self.headers))) or Fault()
            if wrong.status:
                return self.answer(wrong.status, b"refused", wrong.headers)
            if wrong.cut is not None:
                self.close_connection = True
                return None
            if path == "/api/validate-yaml":
                return self.tell({"errors": [], "warnings": []})
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer(401, b"")
            asked = json.loads(body) if not path.endswith("/commit/main") else {}
            if path == "/api/repos/create":
                owner, name = asked.get("organization") or OWNER, asked["name"]
                if owner not in (OWNER, LAB):
                    return self.answer(403, b"")
                if (folder := root / owner / name).exists():
                    return self.tell({"error": "there already", "url": f"{self.address}/{owner}/{name}"}, status=409)
                folder.mkdir(parents=True)
                hidden.update(
                    {f"{owner}/{name}"} if asked.get("private") or asked.get("visibility") == "private" else ()
                )
                return self.tell({"url": f"{self.address}/{owner}/{name}", "id": f"{owner}/{name}"})
            repository = re.sub("^(api/models/)", "", path.strip("/")).split("/")[:2]
            folder = root / "/".join(repository).removesuffix(".git")
            if path.endswith("/preupload/main"):
                modes = ("regular", "lfs")
                large = [file["path"].endswith((".safetensors", ".onnx")) for file in asked["files"]]
                files = [
                    {"path": file["path"], "uploadMode": modes[is_large], "shouldIgnore": False}
                    for file, is_large in zip(asked["files"], large, strict=True)
                ]
                return self.tell({"files": files})
            if path.endswith("/info/lfs/objects/batch"):
                found = [
                    {**one, "actions": {"upload": {"href": f"{self.address}/stored/{one['oid']}"}}}
                    for one in asked["objects"]
                ]
                return self.tell({"objects": found, "transfer": "basic"}, kind="application/vnd.git-lfs+json")
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    content = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    content = stored[value["oid"]]
                else:
                    continue
                (file := folder / value["path"]).parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            page = f"{self.address}/{folder.relative_to(root).as_posix()}/commit/{REVISION}"
            self.tell({"commitUrl": page, "commitOid": REVISION, "success": True})

        def do_PUT(self):
            """A large file."""
            wrong = fault(Request(self.command, self.path, 0, 1, dict(self.headers))) or Fault()
            if wrong.cut is not None:  # in the middle of it
                self.rfile.read(wrong.cut)
                self.close_connection = True
                return None
            if wrong.status:
                self.rfile.read(int(self.headers["Content-Length"]))
                return self.answer(wrong.status, b"refused", wrong.headers)
            content = self.rfile.read(int(self.headers["Content-Length"]))
            digest = hashlib.sha256(content).hexdigest()
            stored[digest] = content
            self.answer(200 if self.path.endswith(digest) else 400, b"")

        @property
        def address(self) -> str:
            return f"http://127.0.0.1:{self.server.server_port}"

        def tell(self, value: dict, kind: str = "application/json", status: int = 200):
            self.answer(status, json.dumps(value).encode(), {"Content-Type": kind})

        def api(self, path: str, wrong: Fault):
            kind, _, rest = path.removeprefix("/api/").partition("/")
            name = re.split("/(?:revision|tree|commits)/", rest)[0]
            revision = rest.removeprefix(name).strip("/").partition("/")[2].partition("/")[0]
            folder = root / (name if kind == "models" else f"{kind}/{name}")
            if path.startswith("/api/whoami") and "Authorization" in self.headers:
                known = self.headers["Authorization"] == f"Bearer {TOKEN}"
                who = {"type": "user", "name": OWNER, "orgs": [{"name": LAB}]}
                return self.tell(who) if known else self.answer(401, b"")
            if path.startswith("/api/whoami") or not folder.is_dir():
                return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            if re.fullmatch("[0-9a-f]{40}", revision) and revision not in commits and kind == "datasets":
                return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            if "/commits/" in path:
                log = [
                    {"id": c, "title": "", "message": "", "authors": [], "date": "2026-01-01T00:00:00.000Z"}
                    for c in commits
                ]
                return self.answer(200, wrong.body(json.dumps(log).encode()))
            files = sorted(f for f in folder.rglob("*") if f.is_file())
            names = [f.relative_to(folder).as_posix() for f in files]
            if "/tree/" in path:
                listing = [self.entry(f, name) for f, name in zip(files, names, strict=True)]
                return self.answer(200, wrong.body(json.dumps(listing).encode()))
            about = {"id": name, "modelId": name, "sha": commits[0], "private": name in hidden, "tags": []}
            about["siblings"] = [{"rfilename": name} for name in names]
            return self.answer(200, wrong.body(json.dumps(about).encode()))

        @staticmethod
        def entry(file: Path, name: str) -> dict:
            """As the hub lists a file: large ones (here: tars) by the sha256 of their contents."""
            body = file.read_bytes()
            entry = {"type": "file", "path": name, "size": len(body)}
            entry["oid"] = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            if file.suffix == ".tar":
                entry["lfs"] = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}
            return entry

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, wrong: Fault | None = None):
            wrong = wrong or Fault()
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            try:
                for at in range(0, len(body[: wrong.cut]), 2**14):
                    self.wfile.write(
                        body[at : at + 2**14] if wrong.cut is None else body[at : min(at + 2**14, wrong.cut)]
                    )
                    time.sleep(wrong.pause)
            except OSError:  # the client has gone
                self.close_connection = True
            if wrong.cut is not None:
                self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
