"""The token on the wire: it goes to the Hub and to nobody the Hub sends us on to, and no complaint quotes a secret.

In:  a planted HF_TOKEN, the loopback hub, and a second server: another port is another host.
Holds: no request for a blob carries it, no plain address gets it, no process list shows it.
"""

import contextlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loopback
import pytest
from loopback import Loopback, shard_bytes, stand_in

from dataprep import fetch, retry
from dataprep.errors import DataError, EnvironmentProblem, UsageError
from dataprep.paths import Paths
from dataprep.raw import ENGINES
from dataprep.sources import load_catalogue

TOKEN, SIGNATURE = "hf_plantedplantedplantedplanted", "signatureplanted"
FILES = {f"shard_{i:05d}.parquet": shard_bytes(i) for i in range(2)}
ENTRY = """
[texts]
kind = "hub"
repo = "someone/texts"
files = "*.parquet"
text = "text"
holdout = ["shard_00001"]
"""


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    paths = stand_in(monkeypatch, tmp_path, ENTRY)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return paths


class Elsewhere(Loopback):
    """A Hub whose blobs are at another port, at signed addresses, as the real one's are at other hosts."""

    other: Loopback
    command_lines: list[bytes]  # of all processes of this machine, each time that something was answered

    @property
    def other_host(self) -> str:
        return self.other.endpoint


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    with Loopback(dict(FILES)) as other, Elsewhere(dict(FILES), token=TOKEN) as hub:
        hub.other, hub.command_lines = other, []
        monkeypatch.setattr(loopback._Handler, "_send", _signing(hub, loopback._Handler._send))
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def _signing(hub: Elsewhere, send: Any) -> Any:
    def sign(handler: Any, status: int, headers: dict[str, str], *rest: Any) -> None:
        signed = {"Location": f"{headers['Location']}?X-Amz-Signature={SIGNATURE}"} if "Location" in headers else {}
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # ended meanwhile
                hub.command_lines.append(file.read_bytes())
        send(handler, status, headers | signed, *rest)

    return sign


def holders(folder: Path, secret: str) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()]


def fetch_texts(paths: Paths, *more: str) -> int:
    return fetch.main(["--source", "texts", "--catalogue", str(paths.root / "my.toml"), "--n", "1", *more])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_token_goes_to_the_hub_and_not_to_another_port_of_the_same_host(
    engine: str, paths: Paths, origin: Elsewhere
) -> None:
    assert fetch_texts(paths, "--engine", engine) == 0
    assert {request.authorization for request in origin.requests if "/resolve/" in request.path} == {f"Bearer {TOKEN}"}
    assert len(origin.other.requests) >= len(FILES)
    assert {request.authorization for request in origin.other.requests} == {None}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "unsendable", [f"\x1b[200~{TOKEN}", f"{TOKEN}…", f"{TOKEN} {TOKEN}", f"{TOKEN}\x7f", f"{TOKEN}ä"]
)
def test_a_token_that_cannot_be_sent_is_refused_without_being_quoted(
    unsendable: str, engine: str, paths: Paths, origin: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", unsendable)
    with pytest.raises(EnvironmentProblem, match="cannot be sent") as refused:
        fetch_texts(paths, "--engine", engine)
    assert TOKEN not in str(refused.value)
    assert origin.requests == []


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fault", ["503", "429", "cut", "short", "flip", "html", "gone"])
def test_no_complaint_quotes_the_token_or_the_signed_address_that_the_hub_sent_us_on_to(
    fault: str, engine: str, paths: Paths, origin: Elsewhere, capfd: pytest.CaptureFixture[str]
) -> None:
    origin.other.broken["shard_00000.parquet"] = fault
    if fault == "gone":
        origin.other.files.clear()
    with pytest.raises(DataError) as missing:
        fetch_texts(paths, "--engine", engine)
    printed = str(missing.value) + "".join(capfd.readouterr())
    assert not [secret for secret in (TOKEN, SIGNATURE) if secret in printed or holders(paths.root, secret)]
    assert origin.command_lines
    assert not [line for line in origin.command_lines if TOKEN.encode() in line]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_plain_address_never_gets_the_token(ranges: bool, paths: Paths) -> None:
    with Loopback(dict(FILES), ranges=ranges) as server:
        addresses = [server.url(name) for name in FILES]
        entry = f'[plain]\nkind = "url"\nurls = {addresses}\ntext = "text"\nholdout = ["shard_00001"]\n'
        (paths.root / "my.toml").write_text(entry)
        assert fetch.main(["--source", "plain", "--catalogue", str(paths.root / "my.toml"), "--n", "1"]) == 0
    assert server.requests
    assert {request.authorization for request in server.requests} == {None}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fault", [None, "gated", "503", "loop"])
def test_the_password_of_a_mirror_is_sent_to_it_and_neither_printed_nor_kept(
    fault: str | None, engine: str, paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Loopback(dict(FILES)) as mirror:
        monkeypatch.setenv("HF_ENDPOINT", mirror.endpoint.replace("//", "//me:s%65cretplanted@"))
        if fault:
            mirror.broken["resolve shard_00000.parquet"] = fault
        refused = ""
        try:
            assert fetch_texts(paths, "--engine", engine) == 0
        except DataError as error:
            refused = str(error)
    assert bool(refused) == bool(fault)
    sent = {request.authorization for request in mirror.requests if "/resolve/" in request.path}
    assert sent - {None} == {f"Basic {b64encode(b'me:secretplanted').decode()}"}  # none where it was sent on
    printed = refused + "".join(capsys.readouterr())
    assert not [word for word in ("cretplanted", "me:") if word in printed or holders(paths.root, word)]


@pytest.mark.parametrize("key", ["urls", "url"])
def test_a_plain_address_with_a_password_is_refused_without_quoting_it(key: str, tmp_path: Path) -> None:
    address = f"https://me:{TOKEN}@host/a.{'zip' if key == 'url' else 'parquet'}"
    kind = "bundle" if key == "url" else "url"
    (tmp_path / "my.toml").write_text(
        f'[plain]\nkind = "{kind}"\n{key} = "{address}"\n' + ('text = "text"\n' if key == "urls" else "")
    )
    with pytest.raises(UsageError, match="line 3") as refused:
        load_catalogue(tmp_path / "my.toml")
    assert TOKEN not in str(refused.value)
