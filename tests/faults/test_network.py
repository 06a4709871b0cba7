"""The token on the wire: it goes to the Hub, and to nobody the Hub sends us on to; nor does one that cannot be sent leak.

In:  a planted HF_TOKEN, the loopback hub, and a second server: another port is another host.
Holds: no request for a blob carries it, no plain address gets it, no process list shows it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Loopback, shard_bytes, stand_in

from dataprep import fetch, retry
from dataprep.errors import QuernError
from dataprep.paths import Paths
from dataprep.raw import ENGINES

TOKEN = "hf_plantedplantedplantedplanted"
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
    other: Loopback

    @property
    def other_host(self) -> str:
        return self.other.endpoint


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    with Loopback(dict(FILES)) as other, Elsewhere(dict(FILES), token=TOKEN) as hub:
        hub.other = other
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


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
    unsendable: str,
    engine: str,
    paths: Paths,
    origin: Elsewhere,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", unsendable)
    with pytest.raises(QuernError) as refused:
        fetch_texts(paths, "--engine", engine)
    print(refused.value)
    assert TOKEN not in str(refused.value) + "".join(capfd.readouterr())
    assert origin.requests == []
