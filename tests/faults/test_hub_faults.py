"""The Hub and file servers misbehave, in every way we know: the real clients survive it, or say what is wrong."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import byte_ranks
from loopback import COMMIT, Loopback, git_sha1, serving, shard_bytes, stand_in
from misbehaving import FILES, SHARD, WAYS, bring, patient_for_tests, write_entry
from torture.hub import torture

from dataprep import patience, retry, shards
from dataprep.paths import Paths
from dataprep.vocab_store import publish_vocab


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    patient_for_tests(monkeypatch)
    return stand_in(monkeypatch, tmp_path, "")


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with serving(monkeypatch, FILES) as loopback:
        yield loopback


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", ["cut@1", "short@830", "flip@0", "429 after 1", "stall", "drip", "html"])
def test_a_fault_of_the_bytes_that_passes_is_survived(fault: str, way: str, paths: Paths, origin: Loopback) -> None:
    origin.faults[SHARD] = [fault]
    assert bring(way, paths, origin).outcome == "survived"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("drip", "slower than 10,000 a second|no block of 2,097,152 bytes in 1 s"),
        ("429 after 9999", "HTTP 429, come back in 9,999 s .attempt 1 of 2"),
        ("503", "HTTP 503 .attempt 2 of 2"),
        ("401", "HTTP 401"),
        ("403", "HTTP 403"),
        ("loop", "redirects"),
        ("truncated", "has size 21 |21 bytes came|not a .parquet file"),
    ],
)
def test_a_fault_of_the_bytes_that_stays_is_named(
    fault: str, reason: str, way: str, paths: Paths, origin: Loopback
) -> None:
    origin.broken[SHARD] = fault
    verdict = bring(way, paths, origin)
    assert verdict.outcome == "reported"
    assert re.search(reason, verdict.said), verdict.said


@pytest.mark.parametrize("way", ["hub", "hf_transfer"])
@pytest.mark.parametrize("fault", ["503", "429 after 1", "html", "loop"])
def test_a_hub_that_does_not_say_where_the_bytes_are_is_survived_or_named(
    fault: str, way: str, paths: Paths, origin: Loopback
) -> None:
    origin.faults[f"resolve {SHARD}"] = [fault]
    assert bring(way, paths, origin).outcome == "survived"
    (paths.raw("texts") / SHARD).unlink()
    origin.broken[f"resolve {SHARD}"] = fault
    assert bring(way, paths, origin).outcome == "reported"


@pytest.mark.parametrize("place", ["revision", "tree"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        *((name, "not an answer of a Hub") for name in ("html", "truncated", "an object", "a number", "no fields")),
        ("no entries", "not an answer of a Hub"),
        ("503", "HTTP 503"),
        ("429 after 9999", "come back in 9,999 s"),
        ("loop", "redirects"),
        ("401", "gated"),
        ("gated", "gated"),
    ],
)
def test_a_listing_that_is_none_is_named_and_nothing_is_fetched(
    fault: str, reason: str, place: str, paths: Paths, origin: Loopback
) -> None:
    origin.broken[place] = fault
    verdict = bring("hub", paths, origin)
    assert verdict.outcome == "reported"
    assert reason in verdict.said
    assert origin.blob_requests() == []


@pytest.mark.parametrize("name", ["../../shard_7.parquet", "/etc/shard_7.parquet", "a\n/shard_7.parquet"])
def test_a_listed_name_that_leaves_its_folder_is_refused(name: str, paths: Paths, origin: Loopback) -> None:
    origin.files[name] = shard_bytes(7)
    entry = write_entry(paths, "hub", origin)
    entry.write_text(entry.read_text().replace("*.parquet", "*"))
    verdict = bring("hub", paths, origin, entry=entry)
    assert (verdict.outcome, "a file named" in verdict.said) == ("reported", True)
    asked = [request for request in origin.requests if "/tree/" in request.path]
    assert len([request for request in asked if "cursor" not in request.path]) == 1  # it would be listed so again


def test_a_listing_whose_pages_go_in_a_circle_ends(paths: Paths, origin: Loopback) -> None:
    origin.broken["tree"] = "circle"
    assert "lists 'shard_00000.parquet' twice" in bring("hub", paths, origin).said


def test_a_wrong_etag_changes_nothing(paths: Paths, origin: Loopback) -> None:
    origin.etags[SHARD] = "0" * 64
    assert bring("hub", paths, origin).outcome == "survived"


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_changed_after_it_was_listed_is_refused(way: str, paths: Paths, origin: Loopback) -> None:
    changed = bytearray(FILES[SHARD])
    changed[len(changed) // 2] ^= 1  # of the same size
    listed = bring(way, paths, origin)
    (paths.raw("texts") / SHARD).unlink()
    origin.files[SHARD] = bytes(changed)
    verdict = bring(way, paths, origin)
    assert (listed.outcome, verdict.outcome) == ("survived", "reported")
    assert "was listed" in verdict.said


@pytest.mark.parametrize("way", ["hub", "hf_transfer"])
def test_a_small_file_with_a_flipped_byte_is_known_by_the_name_git_gives_it(
    way: str, paths: Paths, origin: Loopback
) -> None:
    origin.not_lfs = (SHARD,)
    origin.tell_git = {SHARD: git_sha1(b"other bytes")}  # as if what comes were not what was listed
    verdict = bring(way, paths, origin)
    assert (verdict.outcome, "git's sha1" in verdict.said) == ("reported", True)
    origin.tell_git = {}
    (paths.raw("texts") / "listing.json").unlink()
    assert bring(way, paths, origin).outcome == "survived"


def test_a_file_that_changes_between_two_ranges_is_not_put_together(paths: Paths, origin: Loopback) -> None:
    entry = write_entry(paths, "url", origin)
    entry.write_text("".join(line for line in entry.read_text().splitlines(True) if not line.startswith("sha256")))
    origin.versions[SHARD] = [f'"{number}"' for number in range(99)]  # another one each time somebody looks
    verdict = bring("url", paths, origin, entry=entry)
    assert (verdict.outcome, "changed on the server while it came" in verdict.said) == ("reported", True)


@pytest.mark.parametrize("way", ["hub", "hf_transfer"])
def test_a_commit_that_was_taken_back_names_the_command_that_lists_anew(
    way: str, paths: Paths, origin: Loopback
) -> None:
    assert bring(way, paths, origin).outcome == "survived"
    (paths.raw("texts") / SHARD).unlink()
    origin.broken[f"resolve {SHARD}"] = "revoked"
    verdict = bring(way, paths, origin)
    assert (verdict.outcome, "--refresh" in verdict.said) == ("reported", True)
    origin.broken, origin.commit = {}, "b" * 40
    assert bring(way, paths, origin, "--refresh").outcome == "survived"


def test_a_name_that_no_server_has_is_named(paths: Paths, origin: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://no-such-host.invalid")
    assert bring("hub", paths, origin).outcome == "reported"
    origin.address = "http://no-such-host.invalid"
    verdict = bring("url", paths, origin)
    assert (verdict.outcome, "no-such-host.invalid" in verdict.said) == ("reported", True)


def test_a_poisoned_cache_of_the_client_is_never_read(paths: Paths, origin: Loopback) -> None:
    """The client copies a blob of its cache unread; ours is another folder each time."""
    folder = paths.root / "hf" / "hub" / "datasets--someone--texts"
    blob = folder / "blobs" / hashlib.sha256(FILES[SHARD]).hexdigest()
    snapshot = folder / "snapshots" / COMMIT / SHARD
    for file in (blob, snapshot):
        file.parent.mkdir(parents=True)
    blob.write_bytes(bytes(len(FILES[SHARD])))
    snapshot.symlink_to(blob)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    assert bring("hub", paths, origin).outcome == "survived"


@pytest.mark.parametrize("way", ["hub", "url"])
def test_a_fetched_file_that_changes_on_the_disk_makes_no_bin(way: str, paths: Paths, origin: Loopback) -> None:
    assert bring(way, paths, origin).outcome == "survived"
    held = paths.raw("texts") / SHARD
    held.write_bytes(shard_bytes(7))  # a whole file of the same size: only its hash is another
    assert held.stat().st_size == len(FILES[SHARD])
    publish_vocab(paths, "tiny-bpe", byte_ranks(), origin="made by the tests")
    asked = ["--source", "texts", "--catalogue", str(paths.root / "my.toml"), "--n", "1", "--tokenizer", "tiny-bpe"]
    assert shards.main(asked) == 3
    names = {file.name for file in paths.bins("tiny-bpe", "texts").iterdir()}
    assert "shard_00001.bin" in names
    assert "shard_00000.bin" not in names
    held.unlink()  # the fix, as printed
    assert shards.main(asked) == 0
    receipt = json.loads((paths.bins("tiny-bpe", "texts") / "shard_00000.json").read_text())
    assert receipt["file"]["sha256"] == hashlib.sha256(FILES[SHARD]).hexdigest()


def test_bytes_cut_shortened_and_flipped_at_random_are_never_published(tmp_path: Path) -> None:
    lines = list(torture(tmp_path, kills=20))
    assert [line.fault for line in lines if line.lost] == []
    assert sum(line.tries for line in lines) == 18


def test_a_retry_is_after_what_the_server_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", waits.append)
    answers = iter([patience.MayPass("busy", wait_s=30), patience.MayPass("busy"), None])

    def attempt() -> str:
        if (problem := next(answers)) is not None:
            raise problem
        return "done"

    assert retry.persist(attempt, "it cannot be fetched", "again") == "done"
    assert waits[0] == 30
    assert 1 <= waits[1] <= 3


def test_a_wait_is_read_from_seconds_and_from_dates() -> None:
    assert patience.wait_asked({"Retry-After": "7"}) == 7
    assert patience.wait_asked({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert patience.wait_asked({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}) > retry.LONGEST_WAIT_S
    assert patience.wait_asked({"Retry-After": "soon"}) == 0
    assert patience.wait_asked({"RateLimit": '"resolvers";r=0;t=55'}) == 55
    assert patience.wait_asked({"RateLimit": '"resolvers";r=12;t=55'}) == 0


def test_a_file_that_is_in_xet_storage_too_comes_by_http_whose_pace_is_watched(paths: Paths, origin: Loopback) -> None:
    """Silent xet storage was waited for by hf-xet without end: docs/decisions/0014."""
    origin.xet = True
    assert bring("hub", paths, origin).outcome == "survived"
    assert not [request for request in origin.requests if request.path.startswith("/xet/")]
