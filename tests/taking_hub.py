"""A Hub on this machine that takes what the real client pushes to it.

In:  `with taking(monkeypatch) as hub:`, which sets HF_ENDPOINT and HF_TOKEN. Out: hub.private, hub.taken (by path).
Holds: who sends no token, or another, is refused; `hub.refuse_with` is a status that everybody gets.
"""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

REPO, TOKEN = "someone/model", "hf_secretsecretsecret"


class TakingHub(BaseHTTPRequestHandler):
    """What huggingface.co answers to who makes a repository and commits small files to it."""

    protocol_version = "HTTP/1.1"
    private: bool | None = None  # None: there is no such repository yet
    taken: dict[str, bytes]
    refuse_with: int | None = None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
        """Say nothing."""

    def do_GET(self) -> None:
        if self.refuse_with:
            self._send({"error": "no"}, self.refuse_with)
            return
        self._send({"id": REPO, "sha": "a" * 40, "private": self.private, "tags": [], "siblings": []})

    def do_POST(self) -> None:
        hub, body = type(self), self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("authorization") != f"Bearer {TOKEN}" or hub.refuse_with:
            self._send({"error": "no"}, hub.refuse_with or 401)
        elif self.path == "/api/repos/create":
            asked, exists = json.loads(body), hub.private is not None
            # The client says it in one of two ways, by its version.
            hub.private = hub.private if exists else asked.get("private", asked.get("visibility") == "private")
            self._send({"url": self._page}, 409 if exists else 200)
        elif self.path == "/api/validate-yaml":
            self._send({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self._send({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    hub.taken[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._send({"success": True, "commitOid": "b" * 40, "commitUrl": f"{self._page}/commit/{'b' * 40}"})
        else:
            self._send({"error": self.path}, 404)

    @property
    def _page(self) -> str:
        return f"http://{self.headers['host']}/{REPO}"

    def _send(self, value: Any, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def taking(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[TakingHub]]:
    """The hub that the client finds."""
    handler = type("Handler", (TakingHub,), {"taken": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()
