"""A stand-in for the Hugging Face hub on loopback: serves folders under a root as repositories `OWNER/NAME` or `NAME`.

Real clients (huggingface_hub, timm, transformers) talk to it over HTTP through `HF_ENDPOINT`; nothing is mocked.
"""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve_hub(root: Path):
    """Serve `root`; yields the endpoint and the list of requests it has seen."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = unquote(urlsplit(self.path).path)
            seen.append(f"{self.command} {path}")
            if path.startswith("/api/models/"):
                name = path.removeprefix("/api/models/").split("/revision/")[0].split("/tree/")[0]
                if not (root / name).is_dir():
                    return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
                files = [f for f in (root / name).rglob("*") if f.is_file()]
                if "/tree/" in path:
                    listing = [
                        {
                            "type": "file",
                            "path": f.relative_to(root / name).as_posix(),
                            "size": f.stat().st_size,
                            "oid": "0" * 40,
                        }
                        for f in files
                    ]
                    return self.answer(200, json.dumps(listing).encode())
                siblings = [{"rfilename": f.relative_to(root / name).as_posix()} for f in files]
                return self.answer(
                    200,
                    json.dumps(
                        {
                            "id": name,
                            "modelId": name,
                            "sha": REVISION,
                            "private": False,
                            "tags": [],
                            "siblings": siblings,
                        }
                    ).encode(),
                )
            name, _, rest = path.strip("/").partition("/resolve/")
            file = root / name / rest.partition("/")[2]
            if not (root / name).is_dir():
                return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            if not file.is_file():
                return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": REVISION})
            body = file.read_bytes()
            return self.answer(200, body, {"X-Repo-Commit": REVISION, "ETag": f'"{hashlib.sha256(body).hexdigest()}"'})

        do_HEAD = do_GET

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None):
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
