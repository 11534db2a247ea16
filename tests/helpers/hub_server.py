"""A stand-in for the Hugging Face hub on loopback: serves folders under a root as repositories.

`OWNER/NAME` or `NAME` are models, `datasets/OWNER/NAME` are data sets. Real clients (huggingface_hub, timm, transformers) talk to it
over HTTP through `HF_ENDPOINT`; nothing is mocked. What can go wrong on the way is a `fault`:

    def fault(request):                       # called for each request for a file; None lets it pass
        return Fault(cut=1000) if request.number == 1 else None
"""

from __future__ import annotations

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

        def api(self, path: str, wrong: Fault):
            kind, _, rest = path.removeprefix("/api/").partition("/")
            name = re.split("/(?:revision|tree|commits)/", rest)[0]
            revision = rest.removeprefix(name).strip("/").partition("/")[2].partition("/")[0]
            folder = root / (name if kind == "models" else f"{kind}/{name}")
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
            about = {"id": name, "modelId": name, "sha": commits[0], "private": False, "tags": []}
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
