"""Fetching with the real clients from a Hub and a file server on this machine: what must work."""

import hashlib
import json
import os
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import COMMIT, HTML, Loopback, serving, shard_bytes, stand_in

import dataprep
from dataprep import fetch, hashing, space, urls
from dataprep.errors import DataError, EnvironmentProblem, UsageError
from dataprep.listing import Listing, list_source, select
from dataprep.paths import Paths
from dataprep.publish import publish_bytes
from dataprep.raw import ENGINES, check_space, fetch_shard, find_held
from dataprep.sources import Source

FILES = {f"data/shard_{i:05d}.parquet": shard_bytes(i) for i in range(4)} | {
    "README.md": b"# texts",
    "data/x.txt": b"x",
}
HUB_ENTRY = (
    '[texts]\nkind = "hub"\nrepo = "someone/texts"\nfiles = "data/*"\ntext = "text"\nholdout = ["shard_00003"]\n'
)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    return stand_in(monkeypatch, tmp_path, HUB_ENTRY)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with serving(monkeypatch, FILES) as loopback:
        yield loopback


def texts(**changed: object) -> Source:
    entry = {"name": "texts", "kind": "hub", "layout": "text", "columns": ("text",), "repo": "someone/texts"}
    return Source(**{**entry, "files": ("data/*",), "holdout": ("shard_00003",), **changed})  # type: ignore[arg-type]


def fetch_texts(paths: Paths, *flags: str) -> int:
    return fetch.main(["--source", "texts", "--catalogue", str(paths.root / "my.toml"), *flags])


def raw_names(paths: Paths) -> list[str]:
    return sorted(path.name for path in paths.raw("texts").iterdir())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.usefixtures("hub")
def test_n_train_shards_and_the_held_out_one_are_published_with_receipts(
    engine: str, paths: Paths, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fetch_texts(paths, "--n", "2", "--engine", engine) == 0
    shards = ["shard_00000.parquet", "shard_00001.parquet", "shard_00003.parquet"]
    assert raw_names(paths) == sorted(["listing.json", *shards, *(f"{name}.json" for name in shards)])
    for name in shards:
        content = (paths.raw("texts") / name).read_bytes()
        receipt = json.loads((paths.raw("texts") / f"{name}.json").read_text())
        assert content == FILES[f"data/{name}"]
        assert receipt["bytes"] == len(content)
        assert receipt["sha256"] == hashlib.sha256(content).hexdigest()
        assert (receipt["name"], receipt["repo"], receipt["revision"]) == (f"data/{name}", "someone/texts", COMMIT)
        assert receipt["url"].endswith(f"/datasets/someone/texts/resolve/{COMMIT}/data/{name}")
    out, err = capfd.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["texts:"] + ["fetched"] * 3 + ["next:"]
    assert err == ""  # none of the client's chatter


def test_a_second_run_asks_the_network_for_nothing(paths: Paths, hub: Loopback) -> None:
    fetch_texts(paths, "--n", "2")
    hub.requests.clear()
    assert fetch_texts(paths, "--n", "2") == 0
    assert hub.requests == []


def test_later_shards_come_from_the_pinned_commit_until_refresh(paths: Paths, hub: Loopback) -> None:
    fetch_texts(paths, "--n", "1")
    hub.commit = "b" * 40
    assert list_source(texts(), paths).revision == COMMIT
    assert list_source(texts(), paths, refresh=True).revision == "b" * 40
    assert list_source(texts(), paths, offline=True).revision == "b" * 40


@pytest.mark.usefixtures("hub")
def test_another_revision_or_pattern_is_listed_anew(paths: Paths) -> None:
    list_source(texts(), paths)
    assert len(list_source(texts(files=("data/*_00003.parquet",)), paths).files) == 1
    with pytest.raises(DataError, match="no revision 'v9'"):
        list_source(texts(revision="v9"), paths)


def test_a_changed_hash_in_the_listing_means_fetch_again(paths: Paths, hub: Loopback) -> None:
    fetch_texts(paths, "--n", "1")
    hub.files["data/shard_00000.parquet"] = shard_bytes(99)
    assert fetch_texts(paths, "--n", "1", "--refresh") == 0
    assert (paths.raw("texts") / "shard_00000.parquet").read_bytes() == shard_bytes(99)
    assert [request.path for request in hub.blob_requests()].count("/blobs/data/shard_00003.parquet") == 1


def test_a_file_whose_receipt_was_lost_is_recognised_by_its_hash(paths: Paths, hub: Loopback) -> None:
    fetch_texts(paths, "--n", "1")
    (paths.raw("texts") / "shard_00000.parquet.json").unlink()
    hub.requests.clear()
    assert fetch_texts(paths, "--n", "1", "--offline") == 0
    assert hub.requests == []
    assert (paths.raw("texts") / "shard_00000.parquet.json").exists()


@pytest.mark.usefixtures("hub")
def test_a_held_file_cut_short_afterwards_is_fetched_again(paths: Paths) -> None:
    fetch_texts(paths, "--n", "1")
    held = paths.raw("texts") / "shard_00000.parquet"
    os.truncate(held, 100)
    assert fetch_texts(paths, "--n", "1") == 0
    assert held.read_bytes() == FILES["data/shard_00000.parquet"]


def test_small_files_outside_large_file_storage_are_fetched_by_size(paths: Paths, hub: Loopback) -> None:
    hub.files["train.jsonl"], hub.not_lfs = b'{"text": "a"}\n', ("train.jsonl",)
    listing = list_source(texts(files=("train.jsonl",), holdout=()), paths)
    assert listing.files[0].sha256 is None
    path = fetch_shard(listing, listing.files[0], paths)
    assert path.read_bytes() == hub.files["train.jsonl"]
    assert find_held(listing, listing.files[0], paths) == path


@pytest.mark.parametrize("engine", ENGINES)
def test_a_token_opens_a_gated_set_and_never_reaches_another_host(
    engine: str, paths: Paths, hub: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch_texts(paths, "--n", "1", "--engine", engine) == 0
    assert hub.blob_requests()
    assert all(request.authorization is None for request in hub.blob_requests())


def test_several_threads_may_fetch_at_once_and_reports_add_up(paths: Paths, hub: Loopback) -> None:
    hub.faults["data/shard_00001.parquet"] = ["flip"]  # its first attempt is taken back
    listing, reports = list_source(texts(), paths), []
    jobs = [
        threading.Thread(target=fetch_shard, args=(listing, file, paths), kwargs={"report": reports.append})
        for file in listing.files
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert all(find_held(listing, file, paths) for file in listing.files)
    assert sum(reports) == sum(file.bytes or 0 for file in listing.files)


def test_offline_with_nothing_names_the_missing_listing(paths: Paths) -> None:
    with pytest.raises(DataError, match="texts was never listed here"):
        fetch_texts(paths, "--n", "1", "--offline")


def test_offline_names_each_gap_and_keeps_what_is_held(
    paths: Paths, hub: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch_texts(paths, "--n", "1")
    hub.requests.clear()
    with pytest.raises(DataError, match="2 of 4 shards of texts are missing") as caught:
        fetch_texts(paths, "--n", "3", "--offline")
    assert caught.value.exit_code == 3
    assert caught.value.seen == "no shard_00001, shard_00002"
    assert "held    shard_00000" in capsys.readouterr().out
    assert hub.requests == []


@pytest.mark.parametrize("n", [-1, 0, 4])
@pytest.mark.usefixtures("hub")
def test_no_shards_or_more_than_there_are_is_a_usage_error(n: int, paths: Paths) -> None:
    with pytest.raises(UsageError, match="3 train shards") as caught:
        fetch_texts(paths, "--n", str(n))
    assert caught.value.exit_code == 2


def test_two_files_of_one_shard_name_are_refused(paths: Paths, hub: Loopback) -> None:
    hub.files["data/more/shard_00001.parquet"] = shard_bytes(7)
    with pytest.raises(DataError, match="2 files would make one shard, shard_00001"):
        list_source(texts(), paths)


@pytest.mark.usefixtures("hub")
def test_a_pattern_without_files_and_a_pin_that_pins_nothing_are_refused(paths: Paths) -> None:
    with pytest.raises(DataError, match="no shard was found"):
        list_source(texts(files=("other/*",)), paths)
    with pytest.raises(DataError, match="the held-out shard_9 is not among its shards"):
        list_source(texts(holdout=("shard_9",)), paths)


@pytest.mark.usefixtures("hub")
def test_a_disk_too_small_is_refused_with_both_numbers(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = list_source(texts(), paths)
    total = sum(file.bytes or 0 for file in listing.files)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: type("Usage", (), {"free": total - 1}))
    with pytest.raises(EnvironmentProblem, match=f"{total - 1:,} bytes free.*{total:,} bytes"):
        check_space(listing, listing.files, paths)
    fetch_shard(listing, listing.files[0], paths)
    check_space(listing, listing.files, paths)  # what is held needs no space


def test_a_local_folder_is_listed_and_used_in_place(paths: Paths) -> None:
    folder = paths.root / "docs"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.parquet", "a.jsonl", ".hidden.parquet", "notes.txt", "deeper/c.parquet"):
        (folder / name).write_bytes(b"12345")
    listing = list_source(texts(kind="local", path=folder, repo=None, files=(), holdout=("b",)), paths)
    assert [(file.shard, file.split, file.bytes) for file in listing.files] == [("a", "train", 5), ("b", "holdout", 5)]
    assert fetch_shard(listing, listing.files[0], paths) == folder / "a.jsonl"
    assert not paths.data.exists()


@pytest.mark.parametrize(("made", "message"), [(True, "no shard was found"), (False, "texts has no folder")])
def test_an_empty_or_absent_local_folder_is_refused(made: bool, message: str, paths: Paths) -> None:
    if made:
        (paths.root / "docs").mkdir()
    with pytest.raises(DataError, match=message):
        list_source(texts(kind="local", path=paths.root / "docs", repo=None, holdout=()), paths)


def test_a_python_source_is_built_once_and_listed_by_the_corpus(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def build(_: str, folder: Path) -> None:
        built.append(folder)
        for name in ("shard_00000.parquet", "shard_00003.parquet"):
            publish_bytes(folder / name, b"built")

    names = ["shard_00003.parquet", "shard_00000.parquet"]
    corpus = types.SimpleNamespace(list_shards=lambda _: names, build=build)
    monkeypatch.setitem(sys.modules, "dataprep.corpus", corpus)
    monkeypatch.setattr(dataprep, "corpus", corpus, raising=False)
    listing = list_source(texts(kind="python", repo=None, files=()), paths)
    found = [fetch_shard(listing, file, paths, offline=True) for file in select(listing, 1)]
    assert found == [paths.raw("texts") / "shard_00000.parquet", paths.raw("texts") / "shard_00003.parquet"]
    assert built == [paths.raw("texts")]


def url_listing(paths: Paths, hub: Loopback, sha256: dict[str, str] | None = None) -> Listing:
    addresses = (hub.url("data/shard_00000.parquet"),)
    return list_source(texts(kind="url", repo=None, urls=addresses, sha256=sha256, holdout=()), paths)


@pytest.mark.parametrize("ranges", [True, False])
def test_an_address_is_fetched_and_its_hash_recorded(ranges: bool, paths: Paths, hub: Loopback) -> None:
    hub.ranges = ranges
    listing, reports = url_listing(paths, hub), []
    path = fetch_shard(listing, listing.files[0], paths, report=reports.append)
    assert path.read_bytes() == FILES["data/shard_00000.parquet"]
    assert sum(reports) == path.stat().st_size
    receipt = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert receipt["sha256"] == hashing.sha256_file(path)
    assert receipt["name"] == receipt["url"] == hub.url("data/shard_00000.parquet")
    hub.requests.clear()
    assert fetch_shard(listing, listing.files[0], paths) == path
    assert hub.requests == []


def test_an_address_in_many_blocks_arrives_whole(paths: Paths, hub: Loopback) -> None:
    content = b"PAR1" + os.urandom(5_000_000) + b"PAR1"
    hub.files["data/shard_00000.parquet"] = content
    listing, reports = url_listing(paths, hub, {"shard_00000": hashlib.sha256(content).hexdigest()}), []
    path = fetch_shard(listing, listing.files[0], paths, report=reports.append)
    assert path.read_bytes() == content
    assert len(reports) >= 3
    assert sum(reports) == len(content)


def test_an_address_with_another_hash_than_promised_is_refused(paths: Paths, hub: Loopback) -> None:
    listing = url_listing(paths, hub, {"shard_00000": "0" * 64})
    with pytest.raises(
        DataError, match=r"texts/shard_00000 cannot be fetched\n  seen: sha256 .* 000000000000… was listed"
    ):
        fetch_shard(listing, listing.files[0], paths)
    assert raw_names(paths) == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_page_in_place_of_a_shard_is_refused(ranges: bool, paths: Paths, hub: Loopback) -> None:
    hub.files["data/shard_00000.parquet"], hub.ranges = HTML, ranges
    listing = url_listing(paths, hub)
    with pytest.raises(DataError, match="begins with b'<!doctype"):
        fetch_shard(listing, listing.files[0], paths)
    assert raw_names(paths) == []


def test_a_hash_for_a_shard_that_is_not_there_is_refused(paths: Paths, hub: Loopback) -> None:
    with pytest.raises(DataError, match="shard_1"):
        url_listing(paths, hub, {"shard_1": "0" * 64})


def test_an_address_that_is_not_there_is_not_asked_twice(paths: Paths, hub: Loopback) -> None:
    listing = url_listing(paths, hub)
    del hub.files["data/shard_00000.parquet"]
    with pytest.raises(DataError, match="HTTP 404"):
        fetch_shard(listing, listing.files[0], paths)
    assert len(hub.requests) == 1


def test_a_silent_server_ends_in_a_retry(paths: Paths, hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "STALL_S", 1)
    hub.faults["data/shard_00000.parquet"] = ["stall"]
    listing = url_listing(paths, hub)
    path = fetch_shard(listing, listing.files[0], paths)
    assert path.read_bytes() == FILES["data/shard_00000.parquet"]
