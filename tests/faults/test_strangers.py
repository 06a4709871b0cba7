"""What strangers send and where our secrets would go: the defects that planted tokens, names and bytes have found."""

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import run_in
from loopback import Loopback, serving, shard_bytes, stand_in
from misbehaving import patient_for_tests

from dataprep import fetch, hub_client, index, sql
from dataprep.errors import DataError, QuernError, UsageError
from dataprep.raw import ENGINES
from dataprep.sources import load_catalogue

TOKEN, KEY = "hf_PLANTEDsecretPLANTEDsecret", "PLANTED-serve-key-PLANTED"
FILES = {f"shard_{i:05d}.parquet": shard_bytes(i) for i in range(3)}
HUB = '[texts]\nkind = "hub"\nrepo = "someone/texts"\nfiles = "*.parquet"\ntext = "text"\n'
EVIL = "\x1b[2J\x1b]0;pwned\x07\x9b31m\u202egnp\rover\x08\x7f\u2066"


def fetch_texts(root: Path, *more: str) -> int:
    """Every shard of the source."""
    return fetch.main(["--source", "texts", "--catalogue", str(root / "my.toml"), *more])


@contextlib.contextmanager
def sending_on(to: str) -> Iterator[str]:
    """The address of a server that sends everything on to another host."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{to}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_POST = do_GET  # noqa: N815 -- the base class's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_token_follows_neither_a_redirect_nor_a_next_page_to_another_host(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub's client strips it from redirects; the next page of a listing it would ask with the token, anywhere."""
    stand_in(monkeypatch, tmp_path, HUB)
    patient_for_tests(monkeypatch)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with Loopback(dict(FILES)) as stranger, sending_on(stranger.other_host) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with contextlib.suppress(QuernError):
            fetch_texts(tmp_path, "--engine", engine)
    assert any("cursor=" in request.path for request in stranger.requests), "a next page was asked for"
    assert [request for request in stranger.requests if request.authorization is not None] == []


@pytest.mark.parametrize(
    ("endpoint", "asked", "is_sent"),
    [
        ("https://hub.example:443", "https://hub.example/api", True),  # the client drops a port that https implies
        ("https://hub.example", "https://HUB.example/api", True),
        ("https://hub.example", "http://hub.example/api", False),
        ("https://hub.example", "https://hub.example:8443/api", False),
        ("https://hub.example", "https://hub.example.org/api", False),
    ],
)
def test_the_token_goes_to_the_endpoint_however_its_port_is_written(
    endpoint: str, asked: str, is_sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    request = SimpleNamespace(url=asked, headers={"authorization": f"Bearer {TOKEN}"})
    hub_client._keep_token_home(request)
    assert ("authorization" in request.headers) is is_sent


@pytest.mark.parametrize("flags", [("--api-key", KEY), (f"--api-key={KEY}",)])
def test_a_mistake_on_a_command_line_with_a_key_is_told_without_the_key(
    flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from train.serve.__main__ import main

    for wrong in (["--bogus"], ["--port", "many"], [KEY], []):
        asked = [*flags, *wrong]
        monkeypatch.setattr(sys, "argv", ["train.serve", *asked])
        with pytest.raises(SystemExit):
            main(asked)
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 3
        assert KEY not in said


SHELL = [
    "a;reboot",
    "$(id)",
    "a b",
    "`id`",
    "'; DROP TABLE shards; --",
    "a|b",
    "a&b",
    "a>b",
    'a"b',
    "~root",
    "{a,b}",
    "#a",
]


@pytest.mark.parametrize("name", SHELL)
def test_a_name_from_the_hub_that_would_run_when_a_fix_is_pasted_is_refused_before_anything_is_fetched(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = stand_in(monkeypatch, tmp_path, HUB)
    with serving(monkeypatch, {f"{name}.parquet": shard_bytes(0), "good.parquet": shard_bytes(1)}) as origin:
        with pytest.raises(DataError, match="cannot become a shard"):
            fetch_texts(tmp_path)
        assert not origin.blob_requests()
    assert not list(paths.raw("texts").glob("*.parquet"))


def test_the_names_that_people_give_files_on_the_hub_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        "data/train-00000-of-00009.parquet",
        "a/b=c/0.parquet",
        "x@v1+2_3.parquet",
    ]
    paths = stand_in(monkeypatch, tmp_path, HUB)
    with serving(monkeypatch, {name: shard_bytes(i) for i, name in enumerate(names)}):
        assert fetch_texts(tmp_path) == 0
    assert len(list(paths.raw("texts").glob("*.parquet"))) == len(names)


def test_every_part_of_an_error_is_harmless_wherever_it_is_printed() -> None:
    refused = DataError(f"{EVIL} went wrong", seen=ValueError(EVIL), wanted=EVIL, fix=f"rm {EVIL}")
    for text in (str(refused), refused.what, refused.seen, refused.wanted, refused.fix):
        assert str(text).replace("\n", "").isprintable()


def test_a_record_with_half_a_character_is_left_out_and_said(
    packed_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((packed_root / "data/sources/alpha.json").read_text())
    record.pop("seal_sha256")
    for name in ("alpha", "beta"):
        file = tmp_path / f"data/sources/{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record | {"source": name, "licence": "\ud800" if name == "alpha" else "CC0"}))
    assert run_in(tmp_path, index.main) == 0
    assert "left out of sources: 1 lines with values that no column can hold" in capsys.readouterr().err
    assert run_in(tmp_path, sql.main, "SELECT source FROM sources") == 0
    assert "beta" in capsys.readouterr().out


def test_a_number_in_the_catalogue_that_python_refuses_to_read_is_told_in_three_lines(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("[texts]\nn = " + "9" * 5000 + "\n")
    with pytest.raises(UsageError, match="is not valid TOML"):
        load_catalogue(tmp_path / "my.toml")
