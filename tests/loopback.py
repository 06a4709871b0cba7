"""A Hub and a plain file server on this machine, for the real clients: nothing here is mocked in them.

In:  `with Loopback(files={"data/a.parquet": b"…"}) as hub:` and HF_ENDPOINT=hub.endpoint.
Out: what the Hub answers (revision, tree in pages, HEAD → 302 to another host name, ranged blobs), and
     /plain/<name> for URL sources. `hub.requests` holds every request: (method, path, range, authorization).
Holds: a fault is asked for by place, once per entry: hub.faults["data/a.parquet"] = ["503", "cut@7"];
     hub.broken["data/a.parquet"] = "flip" never heals. A place is a file's name (its bytes), "resolve NAME"
     (where the Hub says who has them), "revision" or "tree". A fault of bytes is cut · short · flip · stall ·
     drip, the first three also @OFFSET; one of a whole answer is named in ANSWERS, or is "429 after SECONDS".
"""

import contextlib
import hashlib
import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from dataprep import retry
from dataprep.paths import Paths

REPO = "someone/texts"
COMMIT = "a" * 40
HTML = b"<!doctype html><title>Please log in to the hotel network</title>"
JSON = {"Content-Type": "application/json"}
Answer = tuple[int, dict[str, str], bytes]
ANSWERS: dict[str, Answer] = {
    "503": (503, {}, b""),
    "429": (429, {}, b""),
    "401": (401, {}, b""),
    "403": (403, {}, b""),
    "gated": (403, {"X-Error-Code": "GatedRepo"}, b""),
    "revoked": (404, {"X-Error-Code": "RevisionNotFound"}, b""),
    "html": (200, {"Content-Type": "text/html"}, HTML),
    "truncated": (200, JSON, b'[{"type": "file", "pa'),
    "an object": (200, JSON, b'{"error": "busy"}'),
    "a number": (200, JSON, b"7"),
    "no fields": (200, JSON, b'[{"type": "file"}]'),
    "no entries": (200, JSON, b'["shard_00000.parquet"]'),
}
DRIP_S = 0.05  # between two bytes


def shard_bytes(number: int, n_documents: int = 50) -> bytes:
    """A small parquet shard with a text column; equal numbers give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"text": [f"document {i} of shard {number}" for i in range(n_documents)]}), file)
    return file.getvalue()


def git_sha1(content: bytes) -> str:
    """What git calls a file of these bytes, and the Hub what it does not keep in large-file storage."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Request(NamedTuple):
    """One request as it came in."""

    method: str
    path: str
    range: str | None
    authorization: str | None


class Loopback:
    """The server, its files, its faults and its memory."""

    def __init__(
        self,
        files: dict[str, bytes],
        *,
        repo: str = REPO,
        commit: str = COMMIT,
        token: str | None = None,
        ranges: bool = True,
        page_files: int = 2,
        not_lfs: tuple[str, ...] = (),
    ) -> None:
        self.files, self.repo, self.commit, self.token = files, repo, commit, token
        self.ranges, self.page_files, self.not_lfs = ranges, page_files, not_lfs
        self.faults: dict[str, list[str]] = {}
        self.broken: dict[str, str] = {}
        self.etags: dict[str, str] = {}  # said in place of the right ones
        self.tell_git: dict[str, str] = {}  # as above, of git's names for small files
        self.versions: dict[str, list[str]] = {}  # ETags of a name's bytes, one an answer
        self.address: str | None = None  # said to be ours in place of the right one
        self.xet = False  # files are said to be in xet storage as well, which answers nothing
        self.requests: list[Request] = []
        self.closing = threading.Event()  # ends a stall
        self._lock = threading.Lock()
        loopback = self

        class Handler(_Handler):
            hub = loopback

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def other_host(self) -> str:
        """The same server by another name: a token must not travel here."""
        return f"http://localhost:{self._server.server_port}"

    def url(self, name: str) -> str:
        """A plain address of `name`."""
        return f"{self.address or self.endpoint}/plain/{name}"

    def blob_requests(self) -> list[Request]:
        """Requests that asked for a file's bytes."""
        return [r for r in self.requests if r.method == "GET" and r.path.startswith(("/blobs/", "/plain/"))]

    def fault_of(self, name: str) -> str | None:
        """The next fault of `name`, taken off its list."""
        with self._lock:
            if name in self.broken:
                return self.broken[name]
            waiting = self.faults.get(name)
            return waiting.pop(0) if waiting else None

    def answer_of(self, fault: str | None, path: str) -> Answer | None:
        """The whole answer that `fault` gives in place of the right one, if it is of that kind."""
        if fault == "loop":
            return 302, {"Location": path}, b""
        if fault and fault.startswith("429 after "):
            return 429, {"Retry-After": fault.removeprefix("429 after ")}, b""
        return ANSWERS.get(fault or "")

    def tree(self) -> list[dict[str, Any]]:
        """The tree as the API lists it: folders too."""
        folders = sorted({name.rpartition("/")[0] for name in self.files} - {""})
        entries: list[dict[str, Any]] = [
            {"type": "directory", "path": folder, "oid": "d" * 40, "size": 0} for folder in folders
        ]
        for name, content in sorted(self.files.items()):
            entry = {
                "type": "file",
                "path": name,
                "size": len(content),
                "oid": self.tell_git.get(name) or git_sha1(content),
            }
            if name not in self.not_lfs:
                lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
                entry["lfs"] = lfs
            entries.append(entry)
        return entries


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Loopback

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        authorization = self.headers.get("authorization")
        self.hub.requests.append(Request(self.command, self.path, self.headers.get("range"), authorization))
        path, hub = unquote(urlsplit(self.path).path), self.hub
        if path.startswith("/blobs/"):
            self._blob(path.removeprefix("/blobs/"))
        elif path.startswith("/plain/"):
            self._blob(path.removeprefix("/plain/"))
        elif path.startswith(f"/api/datasets/{hub.repo}/revision/"):
            self._revision(path.rpartition("/")[2])
        elif path.startswith(f"/api/datasets/{hub.repo}/tree/"):
            self._tree()
        elif path.startswith(f"/api/datasets/{hub.repo}/paths-info/"):
            self._json(hub.tree())
        elif path.startswith(f"/datasets/{hub.repo}/resolve/"):
            self._resolve(path.removeprefix(f"/datasets/{hub.repo}/resolve/").partition("/")[2])
        elif path == "/xet/token":
            storage = {"X-Xet-Cas-Url": f"{hub.endpoint}/xet/storage", "X-Xet-Access-Token": "a-token"}
            self._send(200, {**storage, "X-Xet-Token-Expiration": str(int(time.time()) + 3600)}, b"{}")
        elif path.startswith("/xet/"):
            hub.closing.wait()
        else:
            self._send(401, {"X-Error-Code": "RepoNotFound"}, b"")

    def _misbehaves(self, place: str) -> bool:
        """Whether the answer was a fault's, and is sent already."""
        answer = self.hub.answer_of(self.hub.fault_of(place), self.path)
        if answer:
            self._send(*answer)
        return answer is not None

    def _revision(self, revision: str) -> None:
        if self._misbehaves("revision"):
            return
        if revision in {"main", self.hub.commit}:
            self._json({"id": self.hub.repo, "sha": self.hub.commit, "private": False, "tags": [], "downloads": 0})
        else:
            self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"")

    def _tree(self) -> None:
        fault = self.hub.fault_of("tree")
        if answer := self.hub.answer_of(fault, self.path):
            self._send(*answer)
            return
        if fault == "stall":
            self.hub.closing.wait()
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        entries, end = self.hub.tree(), start + self.hub.page_files
        here = f"{self.hub.endpoint}{urlsplit(self.path).path}?recursive=true&cursor={end}"
        if fault == "circle":
            here, end = f"{self.hub.endpoint}{self.path}", 0
        self._json(
            entries[start:end] if end else entries, {"Link": f'<{here}>; rel="next"'} if end < len(entries) else {}
        )

    def _resolve(self, name: str) -> None:
        hub = self.hub
        if self._misbehaves(f"resolve {name}"):
            return
        if hub.token and self.headers.get("authorization") != f"Bearer {hub.token}":
            self._send(403, {"X-Error-Code": "GatedRepo"}, b"")
        elif name not in hub.files:
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": hub.commit}, b"")
        elif name in hub.not_lfs:
            etag = hashlib.sha1(hub.files[name]).hexdigest()
            self._send(200, {"X-Repo-Commit": hub.commit, "ETag": f'"{etag}"'}, hub.files[name])
        else:
            headers = {
                "X-Repo-Commit": hub.commit,
                "X-Linked-ETag": f'"{hub.etags.get(name) or hashlib.sha256(hub.files[name]).hexdigest()}"',
                "X-Linked-Size": str(len(hub.files[name])),
                "Location": f"{hub.other_host}/blobs/{name}",
            }
            if hub.xet:
                headers |= {"X-Xet-Hash": "e" * 64, "X-Xet-Refresh-Route": f"{hub.endpoint}/xet/token"}
            self._send(302, headers, b"")

    def _blob(self, name: str) -> None:
        if name not in self.hub.files:
            self._send(404, {}, b"")
            return
        content = self.hub.files[name]
        wanted = self.headers.get("range") if self.hub.ranges else None
        lasts = self.hub.answer_of(self.hub.broken.get(name), self.path) is not None
        fault = None if wanted == "bytes=0-0" and not lasts else self.hub.fault_of(name)
        kind, at = _split(fault, content)
        tag = (self.hub.versions.get(name) or ['"blob"']).pop(0)
        if kind == "flip":
            content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        if answer := self.hub.answer_of(fault, self.path):
            self._send(*answer)
        elif wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(content)), len(content) - 1)
            content_range = f"bytes {start}-{end}/{len(content)}"
            self._send(206, {"Content-Range": content_range, "ETag": tag}, content[start : end + 1], kind, at - start)
        else:
            self._send(200, {"ETag": tag}, content, kind, at)

    def _json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(200, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, fault: str | None = None, n_sent: int = 0
    ) -> None:
        sent = body[: max(n_sent, 0)] if fault in {"cut", "short", "stall"} else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        # "short" is a body that is complete by its own headers, "cut" one that ends before they say.
        self.send_header("Content-Length", str(len(sent if fault == "short" else body)))
        if fault == "cut":
            self.send_header("Connection", "close")
        self.end_headers()
        if fault == "drip":
            self._drip(sent)
        elif self.command != "HEAD":
            self.wfile.write(sent)
            self.wfile.flush()
        if fault == "stall":
            self.hub.closing.wait()
        if fault in {"cut", "stall"}:
            self.close_connection = True
            time.sleep(0.01)

    def _drip(self, body: bytes) -> None:
        """A byte now and then: never silent for long enough to be called so."""
        for byte in body:
            if self.hub.closing.wait(DRIP_S):
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()


def _split(fault: str | None, content: bytes) -> tuple[str | None, int]:
    """The kind of a fault of bytes, and where: "cut@7" → ("cut", 7); in the middle where it does not say."""
    kind, _, at = (fault or "").partition("@")
    return kind or None, int(at) if at else len(content) // 2


def stand_in(monkeypatch: pytest.MonkeyPatch, root: Path, entry: str) -> Paths:
    """A root with one catalogue entry, no account, no cache, and no waiting between tries."""
    monkeypatch.setenv("DATAPREP_ROOT", str(root))
    monkeypatch.setenv("HF_HOME", str(root / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(retry, "BACKOFF_S", 0.0)
    (root / "my.toml").write_text(entry)
    return Paths(root=root)


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> Iterator[Loopback]:
    """The hub that the client finds."""
    with Loopback(dict(files)) as loopback:
        monkeypatch.setenv("HF_ENDPOINT", loopback.endpoint)
        yield loopback
