"""Fetching when the network, the Hub or this process fails: what is wrong is named, and nothing wrong is published."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Loopback, serving, shard_bytes, stand_in

from dataprep import fetch, hub_client, retry
from dataprep.errors import DataError, UsageError
from dataprep.listing import list_source
from dataprep.paths import Paths
from dataprep.raw import ENGINES
from dataprep.sources import load_catalogue

FILES = {f"shard_{i:05d}.parquet": shard_bytes(i) for i in range(3)}
ENTRY = '[texts]\nkind = "hub"\nrepo = "someone/texts"\nfiles = "*.parquet"\ntext = "text"\nholdout = ["shard_00002"]\n'
BAD = "shard_00000.parquet"


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    return stand_in(monkeypatch, tmp_path, ENTRY)


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with serving(monkeypatch, FILES) as loopback:
        yield loopback


def flags(paths: Paths, *more: str) -> list[str]:
    return ["--source", "texts", "--catalogue", str(paths.root / "my.toml"), "--n", "2", *more]


def temps(paths: Paths) -> list[Path]:
    return list(paths.raw("texts").glob(".*"))


def in_a_process(paths: Paths, *more: str) -> list[str]:
    return [sys.executable, "-m", "dataprep.fetch", *flags(paths, *more)]


@pytest.mark.parametrize("fault", ["503", "flip", "short", "cut"])
def test_a_fault_that_passes_is_fetched_over(
    fault: str, paths: Paths, origin: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    origin.faults[BAD] = [fault]
    assert fetch.main(flags(paths)) == 0
    assert (paths.raw("texts") / BAD).read_bytes() == FILES[BAD]
    assert sum(request.path.endswith(BAD) for request in origin.blob_requests()) == 2
    assert temps(paths) == []
    assert caplog.records == []  # the client's own warnings are not for our reader


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fault", ["flip", "html"])
def test_a_broken_file_is_named_and_the_others_are_published(
    fault: str, engine: str, paths: Paths, origin: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    origin.broken[BAD] = fault
    with pytest.raises(DataError, match="1 of 3 shards of texts are missing") as caught:
        fetch.main(flags(paths, "--engine", engine))
    assert caught.value.seen == "no shard_00000"
    assert caught.value.fix == "python -m dataprep.fetch --source texts --catalogue my.toml --n 2"
    assert "missing shard_00000  train  texts/shard_00000 cannot be fetched:" in capsys.readouterr().out
    names = {path.name for path in paths.raw("texts").iterdir()}
    assert {"shard_00001.parquet", "shard_00001.parquet.json", "shard_00002.parquet"} <= names
    assert not {BAD, f"{BAD}.json"} & names
    assert temps(paths) == []


def test_a_file_that_left_the_hub_is_named_in_three_lines_with_exit_code_3(paths: Paths, origin: Loopback) -> None:
    list_source(load_catalogue(paths.root / "my.toml")["texts"], paths)
    del origin.files["shard_00001.parquet"]  # gone from the Hub after it was listed: not worth a retry
    done = subprocess.run(in_a_process(paths), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "shard_00001" in done.stderr
    assert len(done.stderr.splitlines()) == 3
    assert "Traceback" not in done.stderr
    assert (paths.raw("texts") / BAD).exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_gated_set_is_refused_with_the_page_and_the_variable(engine: str, paths: Paths, origin: Loopback) -> None:
    origin.token = "hf_secret"
    with pytest.raises(DataError) as caught:
        fetch.main(flags(paths, "--engine", engine))
    assert f"accept the terms at {origin.endpoint}/datasets/someone/texts, export HF_TOKEN=" in caught.value.fix
    assert sum("resolve" in request.path for request in origin.requests) <= 2  # not once per shard
    assert origin.blob_requests() == []


def test_a_repository_that_is_not_there_is_refused_at_once(paths: Paths, origin: Loopback) -> None:
    origin.repo = "someone/else"
    with pytest.raises(DataError, match="the Hub shows no data set someone/texts"):
        fetch.main(flags(paths))
    assert sum("revision" in request.path for request in origin.requests) == 1


def test_a_hub_that_is_away_is_a_data_error_naming_the_command(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(DataError, match="texts cannot be listed") as caught:
        fetch.main(flags(paths))
    assert caught.value.fix == "python -m dataprep.fetch --source texts --catalogue my.toml --n 1"


def test_an_endpoint_that_is_no_address_is_a_usage_error(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "hub.example")
    with pytest.raises(UsageError, match="HF_ENDPOINT"):
        fetch.main(flags(paths))


def test_a_silent_listing_does_not_hang(paths: Paths, origin: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "API_TIMEOUT_S", 0.3)
    origin.faults["tree"] = ["stall"]
    assert fetch.main(flags(paths)) == 0


def test_what_a_killed_download_left_is_swept_and_a_living_one_is_not(paths: Paths, origin: Loopback) -> None:
    origin.faults[BAD] = ["stall"]
    victim = subprocess.Popen(in_a_process(paths), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not origin.blob_requests() and time.monotonic() < deadline:
        time.sleep(0.02)
    source = load_catalogue(paths.root / "my.toml")["texts"]
    list_source(source, paths)
    assert len(temps(paths)) == 1  # locked by its owner
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    list_source(source, paths)
    assert temps(paths) == []
    assert not (paths.raw("texts") / BAD).exists()
    assert fetch.main(flags(paths)) == 0
