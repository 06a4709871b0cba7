"""Fetching an evaluation bundle from a file server on this machine: what came is judged, and never changes."""

from pathlib import Path

import pytest
from bundle_maker import make_items, write_bundle, zip_bundle
from loopback import HTML, Loopback, stand_in

from dataprep import bpe, fetch, pack, retry, shards
from dataprep.bundle import open_bundle
from dataprep.errors import DataError, UsageError
from dataprep.paths import Paths
from dataprep.sources import load_catalogue


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("bundle")
    return zip_bundle(write_bundle(folder), folder / "core.zip").read_bytes()


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    return stand_in(monkeypatch, tmp_path, "")


def bring(paths: Paths, server: Loopback, *flags: str) -> int:
    (paths.root / "my.toml").write_text(f'[exam]\nkind = "bundle"\nurl = "{server.url("core.zip")}"\n')
    return fetch.main(["--source", "exam", "--catalogue", str(paths.root / "my.toml"), *flags])


def test_a_bundle_is_fetched_once_and_a_second_run_downloads_nothing(
    paths: Paths, zipped: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with Loopback({"core.zip": zipped}) as server:
        assert bring(paths, server) == 0
        assert capsys.readouterr().out.splitlines()[-1] == (
            f"next: python -m dataprep.contamination --bundle {paths.bundles / 'exam.zip'}"
        )
        n_requests = len(server.requests)
        assert bring(paths, server) == 0
        assert bring(paths, server, "--offline") == 0
        assert len(server.requests) == n_requests
    assert len(open_bundle(paths.bundles / "exam.zip").tasks) == 5


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("fault", ["cut", "short", "flip", "503"])
def test_a_fault_that_passes_is_fetched_over(fault: str, ranges: bool, paths: Paths, zipped: bytes) -> None:
    with Loopback({"core.zip": zipped}, ranges=ranges) as server:
        server.faults["core.zip"] = [fault]
        assert bring(paths, server) == 0
    assert (paths.bundles / "exam.zip").read_bytes() == zipped


@pytest.mark.parametrize("fault", ["short", "html", "flip"])
def test_what_is_no_whole_zip_gets_no_name(fault: str, paths: Paths, zipped: bytes) -> None:
    with Loopback({"core.zip": zipped}, ranges=fault == "short") as server:
        server.broken["core.zip"] = fault
        with pytest.raises(DataError, match="exam cannot be fetched") as refused:
            bring(paths, server)
    assert list(paths.bundles.iterdir()) == []
    if fault == "html":
        assert str(HTML[:16]) in str(refused.value.seen)


def test_a_bundle_that_changed_since_the_first_fetch_is_refused_and_the_old_one_would_be_taken(
    paths: Paths, zipped: bytes, tmp_path: Path
) -> None:
    items = make_items()
    items["world/animals.jsonl"][0]["gold"] = 1
    other = zip_bundle(write_bundle(tmp_path / "other", items=items), tmp_path / "other.zip").read_bytes()
    with Loopback({"core.zip": zipped}) as server:
        assert bring(paths, server) == 0
        (paths.bundles / "exam.zip").unlink()
        server.files["core.zip"] = other
        with pytest.raises(DataError, match="is not the bundle that was fetched first"):
            bring(paths, server)
        assert not (paths.bundles / "exam.zip").exists()
        server.files["core.zip"] = zipped
        assert bring(paths, server) == 0
        (paths.bundles / "exam.zip").write_bytes(other)  # placed by hand: it is not the one that was fetched
        assert bring(paths, server) == 0
    assert (paths.bundles / "exam.zip").read_bytes() == zipped


def test_a_damaged_receipt_is_not_taken_for_a_first_fetch(paths: Paths, zipped: bytes) -> None:
    with Loopback({"core.zip": zipped}) as server:
        assert bring(paths, server) == 0
        (paths.bundles / "exam.json").write_text("{}")
        with pytest.raises(DataError, match=r"the receipt exam\.json"):
            bring(paths, server)


def test_a_bundle_that_is_not_here_is_not_had_offline_and_has_no_n(paths: Paths, zipped: bytes) -> None:
    with Loopback({"core.zip": zipped}) as server:
        with pytest.raises(DataError, match="exam is not here"):
            bring(paths, server, "--offline")
        with pytest.raises(UsageError, match="one file, at one address"):
            bring(paths, server, "--n", "3")
        assert server.requests == []


@pytest.mark.usefixtures("paths")
def test_a_bundle_is_refused_as_a_source_of_texts_by_name(packed_root: Path) -> None:
    assert load_catalogue()["core-eval"].urls[0].endswith("/eval_bundle.zip")
    with pytest.raises(UsageError, match="'core-eval' is an evaluation bundle"):
        shards.main(["--source", "core-eval", "--n", "1"])
    with pytest.raises(UsageError, match="'core-eval' is an evaluation bundle"):
        bpe.main(["--name", "own", "--size", "512", "--sources", "core-eval"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATAPREP_ROOT", str(packed_root))
        with pytest.raises(UsageError, match="'core-eval' is an evaluation bundle"):
            pack.main(["--mix", "1:1", "--sources", "alpha,core-eval"])


@pytest.mark.parametrize(
    ("entry", "seen"),
    [
        ('url = "https://example.org/core.tar"', "core.tar"),
        ('url = "ftp://example.org/core.zip"', "ftp:"),
        ('url = "https://example.org/core.zip"\ntext = "text"', "text for a bundle"),
        ('url = "https://example.org/core.zip"\nholdout = ["a"]', "holdout for a bundle"),
        ("", "no url"),
    ],
)
def test_an_entry_that_is_no_bundle_is_refused(entry: str, seen: str, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(f'[exam]\nkind = "bundle"\n{entry}\n')
    with pytest.raises(UsageError, match="source 'exam'") as refused:
        load_catalogue(tmp_path / "my.toml")
    assert seen in str(refused.value.seen)
