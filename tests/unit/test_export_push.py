"""Pushing an export: the real client against a hub on this machine."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dataprep.errors import EnvironmentProblem, UsageError
from train.export.push import push

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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[TakingHub]]:
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    (tmp_path / "README.md").write_text("---\nlibrary_name: transformers\n---\n")
    return tmp_path


def test_every_file_goes_to_a_private_repository(
    hub: type[TakingHub], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address = push(folder, REPO, label="base@5", public=False)
    assert address.endswith(f"/{REPO}")
    assert hub.private is True
    assert hub.taken == {file.name: file.read_bytes() for file in folder.iterdir()}
    assert TOKEN not in "".join(capfd.readouterr())


def test_a_public_repository_is_filled_only_when_that_was_said(hub: type[TakingHub], folder: Path) -> None:
    hub.private = False
    with pytest.raises(UsageError, match="is public"):
        push(folder, REPO, label="base@5", public=False)
    assert hub.taken == {}
    push(folder, REPO, label="base@5", public=True)
    assert len(hub.taken) == 2


def test_a_refusal_names_the_status_and_never_the_token(hub: type[TakingHub], folder: Path) -> None:
    hub.refuse_with = 403
    with pytest.raises(EnvironmentProblem, match="HTTP 403") as refused:
        push(folder, REPO, label="base@5", public=False)
    assert TOKEN not in str(refused.value)
    with pytest.raises(UsageError, match="is no name"):
        push(folder, "a/b/c", label="base@5", public=False)


def test_without_a_token_nothing_is_sent(hub: type[TakingHub], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(EnvironmentProblem, match="no token"):
        push(folder, REPO, label="base@5", public=False)
    assert (hub.private, hub.taken) == (None, {})
